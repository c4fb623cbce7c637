"""Encoder bodies of SegFormer: the Mix Transformers of segmentation-models-pytorch."""

from __future__ import annotations

from typing import Any

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from geodistill.nn.bodies import Body, BodyRequest


class MitBody(Body):
    """A Mix Transformer (SegFormer's encoder) of segmentation-models-pytorch, without its dummy first levels."""

    def __init__(self, model: nn.Module) -> None:
        parts: Any = model
        super().__init__(parts.out_channels[2:], (4, 8, 16, 32))
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps at strides 4, 8, 16, 32."""
        maps: list[Tensor] = self.model(image)
        return maps[2:]


def build_mit(request: BodyRequest) -> MitBody:
    """Return a Mix Transformer.

    Raises:
        IndexError: Other levels than all four are asked for.
    """
    if request.indices not in (None, (0, 1, 2, 3)):
        raise IndexError(f"levels {request.indices}, not all four")
    weights = "imagenet" if request.hub else None
    device = torch.get_default_device()
    with torch.device("cpu"):  # its constructor reads tensor values, which a meta device has not
        model: Any = get_encoder(request.base, in_channels=request.in_channels, depth=5, weights=weights).to(device)
    request.load(model)
    return MitBody(model)
