"""Adapters: small trainable perceptrons in front of the blocks of a frozen transformer, as in SAM2-UNet.

Xiong et al. 2024, "SAM2-UNet: Segment Anything 2 Makes Strong Encoder for Natural and Medical Image Segmentation".
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geodistill.errors import check_name

PLACES = ("block", "stage")
"""In front of every block, or of each stage's first."""

HIDDEN = 32
"""Width of an adapter's hidden layer, in SAM2-UNet whatever the block's."""


class Adapter(nn.Module):
    """``x + MLP(x)`` over the last axis, of ``width`` channels, with a GELU behind both layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, width), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, ..., C)`` -> the same shape."""
        adapted: Tensor = tokens + self.mlp(tokens)
        return adapted


class AdaptedBlock(nn.Module):
    """A block of channels-last tokens behind its adapter; its ``attn.qkv`` says their width."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts: Any = block
        self.adapter = Adapter(parts.attn.qkv.in_features)
        self.block = block

    def forward(self, tokens: Tensor, **beside: Tensor) -> Tensor:
        """As the block's own, with what it takes beside its tokens."""
        result: Tensor = self.block(self.adapter(tokens), **beside)
        return result


def insert_adapters(body: nn.Module, place: str) -> None:
    """Put adapters in front of blocks of a transformer, in place.

    Args:
        body: Holds a timm model with ``blocks``, and with ``stage_ends`` where it has stages, as SAM2's Hiera.
        place: One of `PLACES`.

    Raises:
        UnknownNameError: No such place.
        NotImplementedError: The body has no such blocks, or no stages.
    """
    check_name("place of adapters", place, PLACES)
    holder: Any = getattr(body, "model", None)
    model: Any = getattr(holder, "model", holder)
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not all(_has_qkv(block) for block in blocks):
        raise NotImplementedError("adapters need transformer blocks")
    places = list(range(len(blocks)))
    if place == "stage":
        if not hasattr(model, "stage_ends"):
            raise NotImplementedError("adapters for each stage need stages")
        places = [0, *(end + 1 for end in model.stage_ends if end + 1 < len(blocks))]
    for index in places:
        blocks[index] = AdaptedBlock(blocks[index])


def adapters_of(encoder: nn.Module) -> list[Adapter]:
    """Every adapter inside an encoder."""
    return [module for module in encoder.modules() if isinstance(module, Adapter)]


def _has_qkv(block: nn.Module) -> bool:
    return isinstance(getattr(getattr(block, "attn", None), "qkv", None), nn.Linear)
