"""The Segmenter: the artifact that every later room uses, a network with its Spec, kept as a plain directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geodistill.description import (
    DESCRIPTION,
    UNFIT,
    WEIGHTS,
    ModelSettings,
    check_tile,
    find_segmenter,
    load_description,
    write_description,
)
from geodistill.errors import ArtifactError, check_name
from geodistill.files import atomic_path, sha256_of
from geodistill.lazy import choose, load
from geodistill.nn.output import Normalised, logits_over_scales
from geodistill.nn.weights import check_weights, weights_hash
from geodistill.spec import Spec, check_scales

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geodistill.inference.options import PredictOptions
    from geodistill.prediction import Prediction
    from geodistill.raster import Grid, Raster

NETWORKS: dict[str, str] = {
    "supervised": "geodistill.methods.supervised.network:SupervisedNetwork",
    "ktda": "geodistill.methods.ktda.network:KtdaNetwork",
    "kda": "geodistill.methods.kda.network:KdaNetwork",
    "maflnet": "geodistill.methods.maflnet.network:MaflNetwork",
    "metasegnet": "geodistill.methods.metasegnet.network:MetaSegNetwork",
    "sep": "geodistill.methods.sep.network:SepNetwork",
}
"""Every network a Segmenter can hold, imported when its name is asked for. Names in files resolve here alone."""


class Segmenter(nn.Module):
    """A trained network with what is needed to use it.

    Args:
        name: Key of the network in `NETWORKS`.
        arguments: JSON-able keyword arguments of its inference form.
        spec: Classes, bands, normalisation, ground sampling distance.
        tile: Side in pixels of the windows it was trained on.
        provenance: Recipe, data, versions and scores.
        scales: Factors of the image's sides that its answers are averaged over, see `logits_over_scales`.

    Raises:
        UnknownNameError: No network has that name.
        ArtifactError: The network does not take these arguments, they name weights, or tile or scales are out of
            bounds.

    Example:
        >>> gd.Segmenter.load("runs/student").predict("tile.tif").classes.shape
        (96, 96)
    """

    runs_itself = False
    """Whether nothing but itself can run it: no other backend, precision or compiler."""

    settings = ModelSettings()
    """Scales, temperature and class sets."""

    files: tuple[Path, ...] = ()
    """The files that it reads while it is used: none once it is loaded."""

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any],
        spec: Spec,
        tile: int,
        provenance: Mapping[str, Any],
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        check_name("network", name, NETWORKS)
        self.name, self.arguments = name, dict(arguments)
        self.spec, self.tile, self.provenance = spec, tile, dict(provenance)
        check_tile(tile, "a Segmenter")
        self.settings = ModelSettings(check_scales(scales, "a Segmenter"))
        network = _build(name, self.arguments, spec)
        self.network = Normalised(spec.mean, spec.std, network).eval()

    @property
    def scales(self) -> tuple[float, ...]:
        """See `ModelSettings`."""
        return self.settings.scales

    @property
    def temperature(self) -> float:
        """See `ModelSettings`."""
        return self.settings.temperature

    @property
    def class_sets(self) -> Mapping[str, float]:
        """See `ModelSettings`."""
        return self.settings.class_sets

    @property
    def prompts(self) -> tuple[str, ...]:
        """Name of each prompt that the network holds (MetaSegNet's are climate zones); none for most networks."""
        prompts: tuple[str, ...] = getattr(self.network.network, "prompts", ())
        return prompts

    def _repr_html_(self) -> str:
        """Return what it is and its classes, for a notebook."""
        from geodistill.notebook import html_text

        parameters = sum(parameter.numel() for parameter in self.parameters())
        gsd = "any ground sampling distance" if self.spec.gsd is None else f"{self.spec.gsd:.3g} m a pixel"
        about = f"{self.name}: {parameters:,} parameters, bands {', '.join(self.spec.bands)}, {gsd}"
        return html_text(f"{about}, windows of {self.tile} pixels") + self.spec.legend._repr_html_()

    def forward(self, image: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Segment images.

        Args:
            image: ``(B, C, H, W)`` float32, sensor units, bands as in the Spec.
            prompt: ``(B,)`` int64: position of each image's prompt in `prompts`, for a network that has several.

        Returns:
            ``(B, K, H, W)`` logits.

        Raises:
            ArtifactError: The image has another number of bands, or the network needs its climate zone.
        """
        if image.ndim != 4 or image.shape[1] != self.spec.channels:
            raise ArtifactError(
                f"image of shape {tuple(image.shape)}",
                f"(batch, {self.spec.channels}, height, width) with the bands {', '.join(self.spec.bands)}",
            )
        context = {} if not self.prompts else {"prompt": self._prompt(image, prompt)}
        logits = logits_over_scales(lambda sized: self.network(sized, **context).logits, image, self.scales)
        return self.settings.calibrated(logits)

    def predict(
        self,
        image: NDArray[Any] | Tensor | Path | str | Raster,
        *,
        valid: NDArray[np.bool_] | None = None,
        grid: Grid | None = None,
        probabilities: bool = False,
        options: PredictOptions | None = None,
    ) -> Prediction:
        """Map an image of any size that fits in memory, by overlapping windows blended as `predict` blends them.

        Args:
            image: A raster file, an open Raster, or an array ``(C, H, W)`` in sensor units, of any real sample type;
                NaN means no data.
            valid: ``(H, W)`` bool, where an array has data; by default everywhere.
            grid: Where an array lies; by default nowhere on the ground.
            probabilities: Keep the probability of every class.
            options: As those of `predict`: overlap, blending, averaging, batch, backend, place ... A file whose ground
                sampling distance is far from the model's is mapped at the model's unless ``gsd`` is ``native``; an
                array or open Raster is mapped as it is.

        Returns:
            The map; memory grows with the image, so that large scenes are for `geodistill.predict`.

        Raises:
            DataError: The image cannot be read or has other bands than the model.
            RecipeError: An option cannot be used here.
        """
        prediction: Prediction = load("geodistill.prediction:predict_image")(
            self, image, valid=valid, grid=grid, probabilities=probabilities, options=options
        )
        return prediction

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that its outputs follow from: network, weights, classes, bands, normalisation."""
        about = {"name": self.name, "arguments": self.arguments, "spec": self.spec.to_dict(), "tile": self.tile}
        about |= self.settings.to_dict()
        return hashlib.sha256(f"{json.dumps(about, sort_keys=True)} {weights_hash(self)}".encode()).hexdigest()

    def with_scales(self, scales: Sequence[float]) -> Segmenter:
        """Return the same model, weights shared, that averages over other scales.

        Raises:
            ArtifactError: One is out of `SCALES`, or the model is an ONNX file, whose images have one size.
        """
        if self.runs_itself:
            raise ArtifactError(f"scales {list(scales)} of an ONNX file", "a Segmenter", "export one with its scales")
        other = copy(self)
        other.settings = replace(self.settings, scales=check_scales(scales, "a Segmenter"))
        return other

    def for_prompt(self, prompt: int) -> Segmenter:
        """Return a model that holds one of `prompts` alone, by its position: what maps the scenes of one place."""
        network: Any = self.network.network
        arguments, state = network.for_prompt(prompt)
        arguments = self.arguments | arguments
        placed = Segmenter.from_network(self.name, arguments, self.spec, state, self.tile, self.provenance)
        placed.settings = self.settings
        return placed.to(device=next(self.parameters()).device).to(memory_format=torch.channels_last)

    def _prompt(self, image: Tensor, prompt: Tensor | None) -> Tensor:
        if prompt is None and len(self.prompts) > 1:
            raise ArtifactError(
                "an image without a place for a network that asks for its climate zone",
                f"a position among its {len(self.prompts)} prompts",
            )
        zero = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        return zero if prompt is None else prompt.to(image.device)

    @classmethod
    def from_network(
        cls,
        name: str,
        arguments: Mapping[str, Any],
        spec: Spec,
        state_dict: Mapping[str, Tensor],
        tile: int,
        provenance: Mapping[str, Any],
        scales: Sequence[float] = (1.0,),
    ) -> Segmenter:
        """Take what inference needs out of a training network's weights; auxiliary parts are left behind.

        Raises:
            ArtifactError: The weights do not hold what the network needs.
        """
        segmenter = cls(name, arguments, spec, tile, provenance, scales)
        needed = segmenter.network.network.state_dict()
        if missing := sorted(set(needed) - set(state_dict)):
            raise ArtifactError(f"weights without {missing[0]} ({len(missing)} keys missing)", "a trained network")
        segmenter.network.network.load_state_dict({key: state_dict[key] for key in needed})
        return segmenter

    def save(self, path: Path | str) -> None:
        """Write the directory, whole or not at all; an earlier Segmenter is replaced, anything else refused.

        Raises:
            OutputError: It cannot be written, or something else lies there.
        """
        with atomic_path(path, "Segmenter") as part:
            part.mkdir()
            self.write(part)

    def write(self, folder: Path) -> None:
        """Write the two files of a Segmenter into a folder that `atomic_path` makes.

        Raises:
            OSError: They cannot be written.
        """
        # safetensors refuses layouts such as channels-last and shared memory, so each tensor is laid out plainly.
        tensors = self.network.network.state_dict().items()
        state = {key: t.detach().cpu().clone(memory_format=torch.contiguous_format) for key, t in tensors}
        weights = folder / WEIGHTS
        try:
            save_file(state, weights, {"format": "pt"})
            about = {
                "network": {"name": self.name, "arguments": self.arguments},
                "spec": self.spec.to_dict(),
                "tile": self.tile,
                "weights_sha256": sha256_of(weights),
                "provenance": self.provenance,
                **self.settings.to_dict(),
            }
            write_description(folder, about)
            # safetensors lets only the owner read, whatever the umask.
            weights.chmod((folder / DESCRIPTION).stat().st_mode)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Segmenter:
        """Read a Segmenter.

        Args:
            path: Its directory, the directory of the run that made it, or a hub id (``owner/name``).
            device: Where to put it.

        Raises:
            ArtifactError: The directory or a file is missing, altered, or of another format version.
        """
        folder = find_segmenter(path)
        data = _read_description(folder)
        weights = folder / WEIGHTS
        spec, network = Spec.from_dict(data["spec"]), data["network"]
        check_weights(
            weights, DESCRIPTION, data["weights_sha256"], lambda: _build(network["name"], network["arguments"], spec)
        )
        segmenter = cls(network["name"], network["arguments"], spec, data["tile"], data["provenance"])
        segmenter.settings = ModelSettings.from_dict(data, str(folder / DESCRIPTION))
        try:
            segmenter.network.network.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{weights} does not fit {DESCRIPTION} ({reason})", "the weights saved with it"
            ) from error
        return segmenter.to(device).eval()


def inference_network(name: str, arguments: Mapping[str, Any], channels: int, classes: int) -> nn.Module:
    """Return a new network without the parts that only training needs, on torch's current device.

    Raises:
        UnknownNameError: No network has that name.
    """
    network: nn.Module = choose("network", name, NETWORKS)(channels, classes, **arguments, auxiliary=False)
    return network


def _build(name: str, arguments: Mapping[str, Any], spec: Spec) -> nn.Module:
    """Build a network in its inference form, on torch's current device.

    Raises:
        ArtifactError: It does not take these arguments, or they name weights to load.
    """
    if arguments.get("encoder_weights") is not None:
        # A file from outside must not make us fetch or open another one.
        raise ArtifactError(f"network {name} with encoder_weights", "the Segmenter's own weights only")
    try:
        return inference_network(name, arguments, spec.channels, spec.classes)
    except UNFIT as error:
        raise ArtifactError(f"network {name} with the arguments {arguments} ({error!r})", "known ones") from error


def read_description(path: Path | str) -> tuple[str, dict[str, Any], Spec]:
    """Return network name, arguments and Spec of a Segmenter without its weights.

    Raises:
        ArtifactError: The description is missing, altered, or of another format version.
    """
    data = _read_description(find_segmenter(path))
    return data["network"]["name"], data["network"]["arguments"], Spec.from_dict(data["spec"])


def _read_description(folder: Path) -> dict[str, Any]:
    data = load_description(folder)
    check_name("network", str(data["network"]["name"]), NETWORKS)
    return data
