"""MANet's decoder: linear attention over places and attention over channels on every map (Li et al. 2022).

segmentation-models-pytorch's MAnet is another network of that name. Sizes are those of the authors' code: 35.7 M
parameters with ResNet-50.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlaceAttention(nn.Module):
    """Attention among all places of a map, by a kernel in place of the softmax (Li et al. 2022, Eq. 10).

    With phi = softplus the weighted sum of values factorises, and places cost N rather than N x N::

        out(n) = phi(q_n) . sum_m phi(k_m) v_m / phi(q_n) . sum_m phi(k_m)
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape: the map, and a learned share of what the places say to each other."""
        query, key = (functional.softplus(part(maps)).flatten(2) for part in (self.query, self.key))
        summed = torch.einsum("bkm,bcm->bkc", key, self.value(maps).flatten(2))
        norm = torch.einsum("bkn,bk->bn", query, key.sum(-1) + 1e-6)
        said = torch.einsum("bkn,bkc->bcn", query, summed) / norm[:, None]
        return maps + self.share * said.view_as(maps)


class ChannelsAttention(nn.Module):
    """Attention among the channels of a map, each by what it lacks of the most alike (Fu et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape."""
        flat = maps.flatten(2)
        alike = flat @ flat.transpose(1, 2)
        weights = (alike.amax(-1, keepdim=True) - alike).softmax(-1)
        return maps + self.share * (weights @ flat).view_as(maps)


class DoubleAttention(nn.Module):
    """The sum of both attentions on one map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.places, self.channels = PlaceAttention(channels), ChannelsAttention()

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape."""
        summed: Tensor = self.places(maps) + self.channels(maps)
        return summed


def _norm_relu(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _doubling(channels: int, out_channels: int) -> nn.Sequential:
    """Return LinkNet's step to twice the size, through a quarter of the channels."""
    inner = channels // 4
    doubled = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(
        *_norm_relu(nn.Conv2d(channels, inner, 1), inner),
        *_norm_relu(doubled, inner),
        *_norm_relu(nn.Conv2d(inner, out_channels, 1), out_channels),
    )


class MultiAttentionDecoder(nn.Module):
    """Maps at strides 4, 8, 16 and 32 -> logits at the image's size.

    Args:
        channels: Channels of each map, finest first.
        classes: Number of classes.
        width: Channels of the classified map.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int = 32) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(DoubleAttention(count) for count in channels)
        below = [channels[0], *channels[:-1]]
        self.steps = nn.ModuleList(_doubling(count, out) for count, out in zip(channels, below, strict=True))
        self.classifier = nn.Sequential(
            nn.ConvTranspose2d(channels[0], width, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 2, padding=1),
        )

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        current = self.attentions[-1](maps[-1])
        for level in range(len(maps) - 1, 0, -1):
            current = self.steps[level](current) + self.attentions[level - 1](maps[level - 1])
        logits: Tensor = self.classifier(self.steps[0](current))
        return logits


def build_manet(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return the decoder as `DECODERS` asks for it."""
    return MultiAttentionDecoder(channels, classes, width)
