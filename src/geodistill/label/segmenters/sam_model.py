"""Networks of the SAM family: from a directory or the hub, by transformers, from safetensors files only."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from geodistill.errors import ArtifactError, first_line
from geodistill.label.segmenters.resample import TileFrame
from geodistill.lazy import load
from geodistill.nn.device import resolve_device


@dataclass(frozen=True)
class SamFamily:
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
    "sam": SamFamily("SamModel", "SamImageProcessor", ("sam",), padded=True),
    "sam2": SamFamily("Sam2Model", "Sam2ImageProcessor", ("sam2", "sam2_video")),
    "sam3": SamFamily("Sam3TrackerModel", "Sam3ImageProcessor", ("sam3_tracker", "sam3_tracker_video", "sam3_video")),
    "edgetam": SamFamily("EdgeTamModel", "Sam2ImageProcessor", ("edgetam", "edgetam_video")),
}
"""Families by the names `build_segmenter` knows."""


@dataclass(frozen=True, eq=False)
class SamNetwork:
    """A loaded network.

    Attributes:
        model: The transformers model, in evaluation mode, without gradients.
        processor: Prepares images: ``processor(images=..., return_tensors="pt")``.
        family: Its family.
        device: Where it runs.
    """

    model: Any
    processor: Any
    family: SamFamily
    device: torch.device

    @property
    def side(self) -> int:
        """Rows and columns of the network's input."""
        side: int = self.model.prompt_encoder.input_image_size
        return side

    def frame(self, height: int, width: int) -> TileFrame:
        """Tell how a tile lies in the network's input."""
        inner = (self.side, self.side)
        if self.family.padded:
            scale = self.side / max(height, width)
            inner = (int(height * scale + 0.5), int(width * scale + 0.5))
        masks = 4 * self.model.prompt_encoder.image_embedding_size[0]
        return TileFrame(height, width, self.side, inner, masks, self.family.padded)


def load_network(family: str, weights: str, device: str) -> SamNetwork:
    """Load a network of `FAMILIES`: from a directory as ``save_pretrained`` writes it, or by a hub id.

    Raises:
        ArtifactError: The weights cannot be read or fetched, are of another family or do not fill the network.
        RecipeError: The device does not exist here.
    """
    chosen = FAMILIES[family]
    place = resolve_device(device)
    folder = Path(weights).expanduser()
    if folder.is_file() or (not folder.is_dir() and (weights.startswith((".", "/", "~")) or weights.count("/") > 1)):
        raise ArtifactError(f"{weights} is no directory", "a directory with config.json and model.safetensors")
    source = str(folder) if folder.is_dir() else weights
    try:
        with nullcontext() if folder.is_dir() else load("geodistill.offline:local_where_unreachable")():
            kind = transformers.AutoConfig.from_pretrained(source, local_files_only=folder.is_dir()).model_type
            if kind not in chosen.kinds:
                raise ArtifactError(f"{weights} holds a network of kind {kind!r}", f"one of {', '.join(chosen.kinds)}")
            model, loading = getattr(transformers, chosen.model).from_pretrained(
                source,
                use_safetensors=True,
                local_files_only=folder.is_dir(),
                output_loading_info=True,
                dtype=torch.float32,
            )
            processor = _processor(chosen, source, folder.is_dir(), model)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unreadable(weights, folder.is_dir(), error) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ArtifactError(
            f"{weights} lacks {len(missing)} tensors, such as {missing[0]}", f"a whole {family} network"
        )
    model = model.eval().requires_grad_(False)
    lighten(model)
    model = model.to(place)
    return SamNetwork(model, processor, chosen, place)


def _processor(family: SamFamily, source: str, local: bool, model: Any) -> Any:
    """Return what prepares images: as stored with the weights, else the family's own at the network's size."""
    kind = getattr(transformers, family.processor)
    side = model.prompt_encoder.input_image_size
    stored = ("preprocessor_config.json", "processor_config.json")
    if not local or any((Path(source) / name).is_file() for name in stored):
        processor = kind.from_pretrained(source, local_files_only=local)
    elif family.padded:
        processor = kind(size={"longest_edge": side}, pad_size={"height": side, "width": side})
    else:
        processor = kind(size={"height": side, "width": side})
    size = processor.size["longest_edge"] if family.padded else processor.size["height"]
    if size != side:
        raise ArtifactError(f"images are prepared at {size} pixels in {source}", f"{side}, the size of its network")
    return processor


def _unreadable(weights: str, local: bool, error: BaseException) -> ArtifactError:
    first = first_line(error)
    if local:
        return ArtifactError(
            f"{weights} cannot be read as a network ({first})", "config.json and safetensors as save_pretrained writes"
        )
    return ArtifactError(
        f"{weights} is not available on the hub ({first})",
        mend="fetch it where there is a network and give its local directory",
    )


ROWS = 4
"""Rows of tokens whose relative positions exist at once."""


class GlobalAttention(nn.Module):
    """Takes the place of a global ``SamVisionAttention`` and uses its weights."""

    def __init__(self, attention: Any) -> None:
        """Take the weights by reference."""
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads: int = attention.num_attention_heads
        side = (len(attention.rel_pos_h) + 1) // 2, (len(attention.rel_pos_w) + 1) // 2
        vertical, horizontal = (
            attention.get_rel_pos(length, length, table).transpose(1, 2).contiguous()
            for length, table in zip(side, (attention.rel_pos_h, attention.rel_pos_w), strict=True)
        )
        self.register_buffer("vertical", vertical)  # (h, E, h)
        self.register_buffer("horizontal", horizontal)  # (w, E, w)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """Attend ``(B, h, w, C)``; returns the same shape, and no weights."""
        batch, height, width, channels = hidden_states.shape
        split = self.qkv(hidden_states).view(batch, height * width, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).contiguous()
        query = query.view(batch, self.heads, height, width, -1)
        down = query @ self.vertical
        across = (query.transpose(2, 3) @ self.horizontal).transpose(2, 3)
        attended = torch.empty_like(query)
        buffer = query.new_empty(batch, self.heads, min(ROWS, height), width, height, width)
        for first in range(0, height, ROWS):
            part = slice(first, min(first + ROWS, height))
            rows = part.stop - first
            places = torch.add(down[:, :, part, :, :, None], across[:, :, part, :, None, :], out=buffer[:, :, :rows])
            attended[:, :, part] = F.scaled_dot_product_attention(
                query[:, :, part].flatten(2, 3), key, value, attn_mask=places.flatten(4).flatten(2, 3)
            ).view(batch, self.heads, rows, width, -1)
        joined = attended.permute(0, 2, 3, 1, 4).reshape(batch, height, width, channels)
        return self.proj(joined), None


def lighten(model: Any) -> None:
    """Replace the global attention of a ``SamModel`` in place; other families have no relative positions."""
    for layer in getattr(model.vision_encoder, "layers", ()):
        attention = getattr(layer, "attn", None)
        if getattr(layer, "window_size", None) == 0 and getattr(attention, "use_rel_pos", False):
            layer.attn = GlobalAttention(attention)
