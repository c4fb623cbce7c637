"""The Segmenter: the artifact that every later room uses, a network with its Spec, kept as a plain directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geodistill.errors import ArtifactError, DataError, UnknownNameError
from geodistill.methods.kda import KdaNetwork
from geodistill.methods.ktda import KtdaNetwork
from geodistill.methods.maflnet import MaflNetwork
from geodistill.methods.metasegnet import MetaSegNetwork
from geodistill.methods.sep import SepNetwork
from geodistill.methods.supervised import SupervisedNetwork
from geodistill.nn.normalise import Normalised
from geodistill.nn.weights import weights_hash
from geodistill.raster import atomic_path, output_error
from geodistill.spec import Spec

FORMAT_VERSION = 1
DESCRIPTION, WEIGHTS = "segmenter.json", "model.safetensors"

NETWORKS: dict[str, type[nn.Module]] = {
    "supervised": SupervisedNetwork,
    "ktda": KtdaNetwork,
    "kda": KdaNetwork,
    "maflnet": MaflNetwork,
    "metasegnet": MetaSegNetwork,
    "sep": SepNetwork,
}
"""Every network a Segmenter can hold. Names in files resolve here and nowhere else."""

PROMPT_TABLE = ("text", "present")
"""Weights that have a row a prompt."""


class Segmenter(nn.Module):
    """A trained network with what is needed to use it.

    Args:
        name: Key of the network in `NETWORKS`.
        arguments: JSON-able keyword arguments of its inference form.
        spec: Classes, bands, normalisation, ground sampling distance.
        tile: Side in pixels of the windows it was trained on.
        provenance: Recipe, data, versions and scores.

    Raises:
        UnknownNameError: No network has that name.
        ArtifactError: The network does not take these arguments, or they name weights to load.
    """

    def __init__(
        self, name: str, arguments: Mapping[str, Any], spec: Spec, tile: int, provenance: Mapping[str, Any]
    ) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise UnknownNameError("network", name, NETWORKS)
        self.name, self.arguments = name, dict(arguments)
        self.spec, self.tile, self.provenance = spec, tile, dict(provenance)
        if self.arguments.get("encoder_weights") is not None:
            # A file from a stranger must not make us fetch or open another one.
            raise ArtifactError(f"network {name} with encoder_weights", "the Segmenter's own weights only")
        try:
            network = NETWORKS[name](spec.channels, spec.classes, **self.arguments, auxiliary=False)
        except (TypeError, ValueError) as error:
            raise ArtifactError(
                f"network {name} with the arguments {self.arguments} ({error})", "known ones"
            ) from error
        self.network = Normalised(spec.mean, spec.std, network).eval()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Key of each prompt that the network holds (see `geodistill.methods.metasegnet`); none for most networks."""
        prompts: tuple[str, ...] = getattr(self.network.network, "prompts", ())
        return prompts

    def forward(self, image: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Segment images.

        Args:
            image: ``(B, C, H, W)`` float32, sensor units, bands as in the Spec.
            prompt: ``(B,)`` int64: position of each image's prompt in `prompts`, for a network that has several.

        Returns:
            ``(B, K, H, W)`` logits.

        Raises:
            ArtifactError: The image has another number of bands, or the network asks where it was taken.
        """
        if image.ndim != 4 or image.shape[1] != self.spec.channels:
            raise ArtifactError(
                f"image of shape {tuple(image.shape)}",
                f"(batch, {self.spec.channels}, height, width) with the bands {', '.join(self.spec.bands)}",
            )
        context = {} if not self.prompts else {"prompt": self._prompt(image, prompt)}
        logits: Tensor = self.network(image, **context).logits
        return logits

    def fingerprint(self) -> str:
        """Give the SHA-256 of all that its outputs follow from: network, weights, classes, bands, normalisation."""
        about = {"name": self.name, "arguments": self.arguments, "spec": self.spec.to_dict(), "tile": self.tile}
        return hashlib.sha256(f"{json.dumps(about, sort_keys=True)} {weights_hash(self)}".encode()).hexdigest()

    def under(self, prompt: int) -> Segmenter:
        """Give the model for a place: a network that holds the prompt at this position of `prompts` alone."""
        kept = slice(prompt, prompt + 1)
        state = {k: v[kept] if k in PROMPT_TABLE else v for k, v in self.network.network.state_dict().items()}
        arguments = self.arguments | {"prompts": [self.prompts[prompt]]}
        placed = Segmenter.from_network(self.name, arguments, self.spec, state, self.tile, self.provenance)
        device = next(self.parameters()).device
        return placed.to(device=device).to(memory_format=torch.channels_last)

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
    ) -> Segmenter:
        """Take what inference needs out of a training network's weights; auxiliary parts are left behind.

        Raises:
            ArtifactError: The weights do not hold what the network needs.
        """
        segmenter = cls(name, arguments, spec, tile, provenance)
        needed = segmenter.network.network.state_dict()
        if missing := sorted(set(needed) - set(state_dict)):
            raise ArtifactError(f"weights without {missing[0]} ({len(missing)} keys missing)", "a trained network")
        segmenter.network.network.load_state_dict({key: state_dict[key] for key in needed})
        return segmenter

    def save(self, path: Path | str) -> None:
        """Write the directory, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        # safetensors refuses layouts such as channels-last and shared memory, so each tensor is laid out plainly.
        state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in self._state().items()}
        with atomic_path(path) as part:
            part.mkdir()
            try:
                save_file(state, part / WEIGHTS)
            except SafetensorError as error:
                raise output_error(Path(path), OSError(str(error))) from error
            description = {
                "format_version": FORMAT_VERSION,
                "network": {"name": self.name, "arguments": self.arguments},
                "spec": self.spec.to_dict(),
                "tile": self.tile,
                "weights_sha256": _sha256(part / WEIGHTS),
                "provenance": self.provenance,
            }
            (part / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

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
        if not weights.is_file():
            raise ArtifactError(f"{folder} has no {WEIGHTS}", "a whole Segmenter directory", "copy or train it again")
        if _sha256(weights) != data["weights_sha256"]:
            raise ArtifactError(
                f"{weights} is not the file that {DESCRIPTION} describes (its SHA-256 differs)",
                "unaltered weights",
                "copy or train it again",
            )
        segmenter = cls(
            data["network"]["name"],
            data["network"]["arguments"],
            Spec.from_dict(data["spec"]),
            data["tile"],
            data["provenance"],
        )
        try:
            segmenter.network.network.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{weights} does not fit {DESCRIPTION} ({reason})", "the weights saved with it"
            ) from error
        return segmenter.to(device).eval()

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.network.network.state_dict()
        return state


def find_segmenter(path: Path | str) -> Path:
    """Give the directory of a Segmenter: as named, inside a run, or fetched from the hub.

    Raises:
        ArtifactError: There is none.
    """
    folder = Path(path)
    for candidate in (folder, folder / "segmenter"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    if not folder.exists() and str(path).count("/") == 1 and not str(path).startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            # Nothing but the two files: what else a repository holds is never fetched.
            return Path(snapshot_download(str(path), allow_patterns=[DESCRIPTION, WEIGHTS]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ArtifactError(
                f"no directory {path}, and the hub does not give it ({type(error).__name__})",
                f"a directory with {DESCRIPTION}, or a hub id",
            ) from error
    raise ArtifactError(f"no Segmenter in {path}", f"a directory with {DESCRIPTION}", "make one with 'geodistill fit'")


def read_description(path: Path | str) -> tuple[str, dict[str, Any], Spec]:
    """Give network name, arguments and Spec of a Segmenter without its weights.

    Raises:
        ArtifactError: The description is missing, altered, or of another format version.
    """
    data = _read_description(find_segmenter(path))
    return data["network"]["name"], data["network"]["arguments"], Spec.from_dict(data["spec"])


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read ({error})", "the file as it was saved") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{file} of format {version}", f"format {FORMAT_VERSION}", "use a fitting geodistill")
    if odd := sorted(set(data) ^ set(_KINDS)):
        raise ArtifactError(f"{file} with missing or unknown keys {', '.join(odd)}", f"exactly {', '.join(_KINDS)}")
    for key, kind in _KINDS.items():
        if not isinstance(data[key], kind):
            raise ArtifactError(f"{file} with {key} {data[key]!r}", f"a JSON {kind.__name__}")
    network = data["network"]
    if set(network) != {"name", "arguments"} or not isinstance(network["arguments"], dict) or data["tile"] < 1:
        raise ArtifactError(f"{file} with network {network}, tile {data['tile']}", "a name, arguments and a tile size")
    if str(network["name"]) not in NETWORKS:
        raise UnknownNameError("network", str(network["name"]), NETWORKS)
    try:
        Spec.from_dict(data["spec"])
    except (DataError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{file} with a spec that cannot be read ({error!r})", "the file as it was saved"
        ) from error
    result: dict[str, Any] = data
    return result


_KINDS: dict[str, type] = {
    "format_version": int,
    "network": dict,
    "spec": dict,
    "tile": int,
    "weights_sha256": str,
    "provenance": dict,
}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
