"""Two transformer-era heads: SegFormer's, and SegNeXt's on matrix factorisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.decoders import conv_norm_relu, resize


def _conv_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


class SegFormerHead(nn.Module):
    """SegFormer's all-linear head (Xie et al. 2021, Eq. 4), with batch norm behind each linear layer."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_conv_norm(c, width) for c in channels)
        self.fuse = nn.Sequential(*_conv_norm(len(channels) * width, width), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, H1, W1)`` logits."""
        size = maps[0].shape[-2:]
        even = [resize(level(m), size) for level, m in zip(self.levels, maps, strict=True)]
        logits: Tensor = self.classifier(self.dropout(self.fuse(torch.cat(even, 1))))
        return logits


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
    """SegNeXt's light head (Guo et al. 2022): all maps but the finest squeezed, factorised, classified."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        self.first = min(len(channels) - 1, 1)
        self.squeeze = conv_norm_relu(sum(channels[self.first :]), width, 1)
        self.enter = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True))
        self.factors = MatrixFactors(width)
        self.leave = _conv_norm(width, width)
        self.align = conv_norm_relu(width, width, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, H2, W2)`` logits at the second map's size."""
        used = maps[self.first :]
        squeezed = self.squeeze(torch.cat([resize(m, used[0].shape[-2:]) for m in used], 1))
        context = F.relu(squeezed + self.leave(self.factors(self.enter(squeezed))))
        logits: Tensor = self.classifier(self.dropout(self.align(context)))
        return logits
