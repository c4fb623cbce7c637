"""Networks of the SAM family: from a directory or the hub, by transformers, from safetensors files only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from geodistill.errors import ArtifactError, RecipeError
from geodistill.label.segmenters.encoder import lighten
from geodistill.label.segmenters.resample import Frame


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Attributes:
        model: Name of transformers' class of the network.
        processor: Name of transformers' class that prepares images.
        kinds: What ``config.json`` may call it (the sets for videos hold the network for images).
        padded: Whether images keep their shape and are padded to the network's square input, or are stretched to it.
    """

    model: str
    processor: str
    kinds: tuple[str, ...]
    padded: bool = False


FAMILIES = {
    "sam": Family("SamModel", "SamImageProcessor", ("sam",), padded=True),
    "sam2": Family("Sam2Model", "Sam2ImageProcessor", ("sam2", "sam2_video")),
    "sam3": Family("Sam3TrackerModel", "Sam3ImageProcessor", ("sam3_tracker", "sam3_tracker_video", "sam3_video")),
    "edgetam": Family("EdgeTamModel", "Sam2ImageProcessor", ("edgetam", "edgetam_video")),
}
"""Families by the names `build_segmenter` knows."""


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded network.

    Attributes:
        model: The transformers model, in evaluation mode, without gradients.
        processor: Prepares images: ``processor(images=..., return_tensors="pt")``.
        family: Its family.
        device: Where it runs.
    """

    model: Any
    processor: Any
    family: Family
    device: torch.device

    @property
    def side(self) -> int:
        """Rows and columns of the network's input."""
        side: int = self.model.prompt_encoder.input_image_size
        return side

    def frame(self, height: int, width: int) -> Frame:
        """Tell how a tile lies in the network's input."""
        inner = (self.side, self.side)
        if self.family.padded:
            scale = self.side / max(height, width)
            inner = (int(height * scale + 0.5), int(width * scale + 0.5))
        masks = 4 * self.model.prompt_encoder.image_embedding_size[0]
        return Frame(height, width, self.side, inner, masks, self.family.padded)


def load_network(family: str, weights: str, device: str) -> Network:
    """Load a network.

    Args:
        family: Key of `FAMILIES`.
        weights: Local directory as ``save_pretrained`` writes it, or a hub id.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        ArtifactError: The weights cannot be read or fetched, are of another family or do not fill the network.
        RecipeError: The device does not exist here.
    """
    chosen = FAMILIES[family]
    place = _device(device)
    folder = Path(weights).expanduser()
    if folder.is_file() or (not folder.is_dir() and (weights.startswith((".", "/", "~")) or weights.count("/") > 1)):
        raise ArtifactError(f"{weights} is no directory", "a directory with config.json and model.safetensors")
    source = str(folder) if folder.is_dir() else weights
    try:
        kind = transformers.AutoConfig.from_pretrained(source, local_files_only=folder.is_dir()).model_type
        if kind not in chosen.kinds:
            raise ArtifactError(f"{weights} holds a network of kind {kind!r}", f"one of {', '.join(chosen.kinds)}")
        model, told = getattr(transformers, chosen.model).from_pretrained(
            source,
            use_safetensors=True,
            local_files_only=folder.is_dir(),
            output_loading_info=True,
            dtype=torch.float32,
        )
        processor = _processor(chosen, source, folder.is_dir(), model)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unreadable(weights, folder.is_dir(), error) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise ArtifactError(
            f"{weights} lacks {len(missing)} tensors, such as {missing[0]}", f"a whole {family} network"
        )
    model = model.eval().requires_grad_(False)
    lighten(model)
    model = model.to(place)
    return Network(model, processor, chosen, place)


def _device(name: str) -> torch.device:
    """Resolve a device's name.

    Raises:
        RecipeError: The device does not exist here.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"device {name!r} ({first})", "auto, cpu, or an accelerator of this machine") from error
    return device


def _processor(family: Family, source: str, local: bool, model: Any) -> Any:
    """Give what prepares images: as stored with the weights, else the family's own at the network's size."""
    kind = getattr(transformers, family.processor)
    side = model.prompt_encoder.input_image_size
    stored = ("preprocessor_config.json", "processor_config.json")
    if not local or any((Path(source) / name).is_file() for name in stored):
        processor = kind.from_pretrained(source, local_files_only=local)
    elif family.padded:
        processor = kind(size={"longest_edge": side}, pad_size={"height": side, "width": side})
    else:
        processor = kind(size={"height": side, "width": side})
    found = processor.size["longest_edge"] if family.padded else processor.size["height"]
    if found != side:
        raise ArtifactError(f"images are prepared at {found} pixels in {source}", f"{side}, the size of its network")
    return processor


def _unreadable(weights: str, local: bool, error: BaseException) -> ArtifactError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if local:
        return ArtifactError(
            f"{weights} cannot be read as a network ({first})", "config.json and safetensors as save_pretrained writes"
        )
    return ArtifactError(
        f"{weights} cannot be had from the hub ({first})",
        mend="fetch it where there is a network and give its local directory",
    )
