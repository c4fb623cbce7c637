"""SegNeXt's decoder as KDA's released code has it: context from a low-rank approximation of the maps (Table IV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.decoders import conv_norm_relu, resize


class MatrixFactors(nn.Module):
    """Global context as a low-rank, non-negative approximation of a map (Geng et al. 2021).

    ``steps`` multiplicative updates of ``rank`` basis vectors from a fixed random start, so that one image always gives
    one result; the gradient passes through the last update alone, as published.
    """

    start: Tensor

    def __init__(self, channels: int, rank: int = 64, steps: int = 6) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("start", F.normalize(torch.rand(1, channels, rank), dim=1))

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` at least 0 -> the same shape."""
        device = "cpu" if maps.is_meta else maps.device.type
        with torch.autocast(device, enabled=False):
            pixels = maps.float().flatten(2)
            bases = self.start.expand(len(pixels), -1, -1)
            with torch.no_grad():
                codes = (pixels.transpose(1, 2) @ bases).softmax(-1)
                for _ in range(self.steps):
                    codes = self._codes(pixels, bases, codes)
                    bases = bases * (pixels @ codes) / (bases @ (codes.transpose(1, 2) @ codes) + 1e-6)
            codes = self._codes(pixels, bases, codes)
            approximated = (bases @ codes.transpose(1, 2)).view(maps.shape)
        return approximated.to(maps.dtype)

    @staticmethod
    def _codes(pixels: Tensor, bases: Tensor, codes: Tensor) -> Tensor:
        return codes * (pixels.transpose(1, 2) @ bases) / (codes @ (bases.transpose(1, 2) @ bases) + 1e-6)


class HamHead(nn.Module):
    """SegNeXt's head (Guo et al. 2022): all maps but the finest squeezed, factorised, classified.

    ``width`` is that of the classified map; four times as many channels are factorised.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int = 128) -> None:
        super().__init__()
        self.first, inner = min(len(channels) - 1, 1), 4 * width
        self.squeeze = nn.Conv2d(sum(channels[self.first :]), inner, 1, bias=False)
        self.enter = nn.Conv2d(inner, inner, 1)
        self.factors = MatrixFactors(inner)
        self.smooth = conv_norm_relu(inner, inner, 3)
        self.leave = nn.Conv2d(inner, inner, 1, bias=False)
        self.align = nn.Conv2d(inner, width, 1, bias=False)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        used = maps[self.first :]
        squeezed = F.relu(self.squeeze(torch.cat([resize(m, used[0].shape[-2:]) for m in used], 1)))
        context = self.leave(self.smooth(self.factors(F.relu(self.enter(squeezed)))))
        aligned = F.relu(self.align(F.relu(squeezed + context)))
        return resize(self.classifier(self.dropout(aligned)), size)
