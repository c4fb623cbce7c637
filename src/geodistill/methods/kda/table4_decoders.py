"""The decoders that KDA's Table IV compares DCF with, in the forms of its released code.

They are not those of the publications that they are named after, which are far larger or smaller: only so do their
parameters come to the printed 12.16, 0.76, 3.87 and 0.97 M on the paper's encoder. Resizes here do not align corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.decoders import conv_norm_relu, resize


def _biased(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Return a convolution with bias, batch norm and ReLU; the size stays."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class KdaSegFormerHead(nn.Module):
    """SegFormer's all-linear head (Xie et al. 2021, Eq. 4), each linear layer with batch norm and ReLU."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_biased(c, width, 1) for c in channels)
        self.fuse = _biased(len(channels) * width, width, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        finest = maps[0].shape[-2:]
        even = [resize(level(m), finest) for level, m in zip(self.levels, maps, strict=True)]
        return resize(self.classifier(self.dropout(self.fuse(torch.cat(even, 1)))), size)


class KdaUNetHead(nn.Module):
    """U-Net's decoder (Ronneberger et al. 2015) with transposed convolutions, each step with two 3x3 convolutions.

    Args:
        channels: Channels of each map, finest first; also those of the step that meets it.
        classes: Number of classes.
        width: Channels of the last step, at twice the finest map's size.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int = 64) -> None:
        super().__init__()
        coarse = list(channels)[::-1]
        steps = [*coarse[1:], width]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(c, w, 2, 2) for c, w in zip(coarse, steps, strict=True))
        merged = [2 * w for w in coarse[1:]] + [width]
        self.blocks = nn.ModuleList(
            nn.Sequential(*_biased(c, w, 3), *_biased(w, w, 3)) for c, w in zip(merged, steps, strict=True)
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        deepest, *skips = list(maps)[::-1]
        current = deepest
        for up, block, skip in zip(self.ups, self.blocks, [*skips, None], strict=True):
            current = up(current)
            if skip is not None:
                current = torch.cat([resize(current, skip.shape[-2:]), skip], 1)
            current = block(current)
        return resize(self.classifier(current), size)


class KdaUperNetHead(nn.Module):
    """UPerNet's head (Xiao et al. 2018) with 1x1 convolutions in place of 3x3, and max pooling.

    Args:
        channels: Channels of each map, finest first.
        classes: Number of classes.
        width: Channels inside.
        bins: Grid sizes of the pooling pyramid.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, width: int = 128, bins: Sequence[int] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveMaxPool2d(size), nn.Conv2d(channels[-1], width, 1)) for size in bins
        )
        self.bottleneck = _biased(channels[-1] + len(bins) * width, width, 1)
        self.enter = nn.Conv2d(width, width, 1)
        self.laterals = nn.ModuleList(_biased(c, width, 1) for c in channels[:-1])
        self.smooths = nn.ModuleList(_biased(width, width, 1) for _ in channels[:-1])
        self.fuse = _biased(len(channels) * width, width, 1)
        self.classifier = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits, classified at that size."""
        last = maps[-1]
        pooled = [resize(pool(last), last.shape[-2:]) for pool in self.pools]
        levels = [self.bottleneck(torch.cat([*pooled, last], 1))]
        for depth in range(len(maps) - 2, -1, -1):
            above = resize(levels[-1], maps[depth].shape[-2:])
            above = self.enter(above) if depth == len(maps) - 2 else above
            levels.append(self.smooths[depth](above + self.laterals[depth](maps[depth])))
        fused = self.fuse(torch.cat([resize(level, maps[0].shape[-2:]) for level in levels], 1))
        logits: Tensor = self.classifier(resize(fused, size))
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


class KdaSegNeXtHead(nn.Module):
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
