"""An encoder of two levels: what a decoder does at each is the same, and the exporter takes a second for each."""

from __future__ import annotations

from torch import Tensor, nn

from geodistill.nn.bodies import Body, BodyRequest


class TwoLevels(Body):
    """One convolution for each of strides 8 and 16."""

    def __init__(self, request: BodyRequest) -> None:
        super().__init__((16, 32), (8, 16))
        self.first = nn.Conv2d(request.in_channels, 16, 8, 8)
        self.second = nn.Conv2d(16, 32, 2, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> features ``(B, 16, H/8, W/8)`` and ``(B, 32, H/16, W/16)``."""
        fine = self.first(image).relu()
        return [fine, self.second(fine).relu()]
