"""Encoder bodies with maps of one size: timm's plain vision transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn

from geodistill.nn.bodies import Body, BodyRequest


class VitBody(Body):
    """A plain vision transformer that gives the patch tokens after some of its blocks as maps.

    Maps are the raw residual stream, except that the last block's passes the final norm (mmpretrain's convention,
    which KTDA's teacher follows). Position embeddings are resampled from the pretrained grid to the image's.

    Args:
        model: timm model with ``blocks``, ``patch_embed`` and ``forward_intermediates``.
        indices: Blocks to tap, from 0, ascending.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        parts: Any = model
        stride = parts.patch_embed.patch_size[0]
        super().__init__([parts.embed_dim] * len(indices), [stride] * len(indices))
        reaches_end = indices[-1] == len(parts.blocks) - 1
        # Models that pool by averaging keep their final norm behind the pooling.
        final = parts.fc_norm if isinstance(parts.norm, nn.Identity) else parts.norm
        parts.prune_intermediate_layers(list(indices), prune_norm=True, prune_head=True)
        self.model = model
        self.indices = tuple(indices)
        self.norm = final if reaches_end else nn.Identity()

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps, all of one size."""
        parts: Any = self.model
        maps: list[Tensor] = parts.forward_intermediates(
            image, indices=list(self.indices), output_fmt="NCHW", intermediates_only=True
        )
        maps[-1] = self.norm(maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return maps


def build_vit(request: BodyRequest) -> VitBody:
    """Return a plain vision transformer of timm.

    Raises:
        IndexError: The blocks asked for are not ascending, or not among the model's.
        TypeError, RuntimeError: timm's, where an option or a size is not its.
    """
    model: Any = timm.create_model(
        request.base,
        pretrained=request.hub,
        num_classes=0,
        in_chans=request.in_channels,
        dynamic_img_size=True,
        **request.options,
    )
    request.load(model)
    depth = len(model.blocks)
    quarters = sorted({max(depth * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)})
    taps = quarters if request.indices is None else list(request.indices)
    if taps != sorted(set(taps)) or not taps or not 0 <= taps[0] <= taps[-1] < depth:
        raise IndexError(f"blocks {taps}, not ascending numbers from 0 to {depth - 1}")
    return VitBody(model, taps)
