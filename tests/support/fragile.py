"""A network of which one part loses everything in 8-bit integers: beside its bands runs a channel of huge numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodistill.nn.output import SegmentationOutput


class FragileNetwork(nn.Module):
    """The class of a pixel is its brightest band, found by four 1 x 1 convolutions."""

    def __init__(self, channels: int, classes: int, *, auxiliary: bool = True) -> None:
        super().__init__()
        self.copy = nn.Conv2d(channels, classes, 1, bias=False)
        self.widen = nn.Conv2d(classes, classes + 1, 1, bias=False)
        self.narrow = nn.Conv2d(classes + 1, classes, 1, bias=False)
        self.last = nn.Conv2d(classes, classes, 1, bias=False)
        with torch.no_grad():
            for layer in (self.copy, self.widen, self.narrow, self.last):
                layer.weight.copy_(torch.eye(*layer.weight.shape[:2])[..., None, None])
            self.widen.weight[-1] = 1e5

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        return SegmentationOutput(self.last(self.narrow(self.widen(self.copy(image)))))
