"""Decoders and heads, lists of feature maps in, class logits out; and their parts: convolutions, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from geodistill.errors import RecipeError


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``(B, C, H, W)`` to ``size`` bilinearly, corners not aligned."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def rescale(image: Tensor, scale: float) -> Tensor:
    """Resize ``(B, C, H, W)`` by a factor as `resize` does, to at least one pixel a side."""
    return image if scale == 1 else resize(image, rescaled(image.shape[-2:], scale))


def rescaled(size: Sequence[int], scale: float) -> list[int]:
    """Return the height and width that `rescale` brings an image to."""
    return [max(round(side * scale), 1) for side in size]


def checked_scale(scale: float) -> float:
    """Return a recipe's factor of the image's size.

    Raises:
        RecipeError: It is not above 0.
    """
    if not 0 < scale < math.inf:
        raise RecipeError(f"network.scale {scale}", "a factor above 0")
    return scale


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases on queries, keys and values; ``width`` is a multiple of ``heads``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` -> ``(B, T, C)``; nothing attends to tokens where ``present (B, T)`` bool is False."""
        batch, count, width = tokens.shape
        queries, keys, values = (
            self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        allowed = None if present is None else present[:, None, None]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class ViTBlock(nn.Module):
    """Pre-norm vision transformer block, as timm's ``Block``: GELU, no layer scale, no dropout."""

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` -> ``(B, T, C)``; ``present`` as `SelfAttention.forward` takes it."""
        tokens = tokens + self.attn(self.norm1(tokens), present)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens


class MultiLevelNeck(nn.Module):
    """Makes a pyramid of maps of one size: 1x1 convolution, resize by a factor, 3x3 convolution (mmseg).

    Args:
        channels: Channels of each input map; a single map makes every level.
        out_channels: Channels of every output map.
        scales: Factor of each level's height and width.
    """

    def __init__(
        self, channels: Sequence[int], out_channels: int, scales: Sequence[float] = (4.0, 2.0, 1.0, 0.5)
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.laterals = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in channels)
        self.convs = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in scales)
        for conv in (*self.laterals, *self.convs):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``(B, Ci, Hi, Wi)`` a level -> ``(B, out_channels, floor(Hi * scale), floor(Wi * scale))`` a level."""
        laterals = [lateral(level) for level, lateral in zip(maps, self.laterals, strict=True)]
        laterals = laterals * len(self.scales) if len(laterals) == 1 else laterals
        pyramid: list[Tensor] = []
        for level, conv, scale in zip(laterals, self.convs, self.scales, strict=True):
            above, below = scale.as_integer_ratio()  # a fraction's floor is traced as a constant
            size = [max(side * above // below, 1) for side in level.shape[-2:]]
            pyramid.append(conv(resize(level, size)))
        return pyramid


def pyramid_of(
    channels: Sequence[int], strides: Sequence[int], single: int = 1
) -> tuple[MultiLevelNeck | None, list[int], list[int]]:
    """Return the neck that makes a pyramid of maps of one size, at strides of 4, 8 ..., or ``None`` of a pyramid.

    Its levels halve in size, the last but one of the maps' own, and are all as wide as the last map.

    Args:
        channels: Channels of each map.
        strides: Stride of each map.
        single: Levels that a map alone becomes.

    Returns:
        The neck, and channels and strides of the pyramid.
    """
    levels = len(channels) if len(channels) > 1 else single
    if len(set(strides)) > 1 or levels == 1:
        return None, list(channels), list(strides)
    neck = MultiLevelNeck(channels, channels[-1], [2.0 ** (levels - 2 - level) for level in range(levels)])
    return neck, [channels[-1]] * levels, [4 << level for level in range(levels)]


def aux_level(maps: Sequence[object]) -> int:
    """Return the level that an auxiliary head reads: the last but one, which of four is the published third."""
    return max(len(maps) - 2, 0)


class UPerFusion(nn.Module):
    """What UPerNet's head does before its classifier (Xiao et al. 2018; mmseg's ``UPerHead``).

    Pyramid pooling on the last map, then a feature pyramid whose levels are fused at the first map's size.

    Args:
        channels: Channels of each map, finest first.
        width: Channels inside, and of the fused map.
    """

    def __init__(self, channels: Sequence[int], width: int = 512) -> None:
        super().__init__()
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm_relu(channels[-1], width, 1)) for size in (1, 2, 3, 6)
        )
        self.bottleneck = conv_norm_relu(channels[-1] + len(self.pools) * width, width, 3)
        self.laterals = nn.ModuleList(conv_norm_relu(c, width, 1) for c in channels[:-1])
        self.fpn_convs = nn.ModuleList(conv_norm_relu(width, width, 3) for _ in channels[:-1])
        self.fuse = conv_norm_relu(len(channels) * width, width, 3)

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, width, H1, W1)``."""
        last = maps[-1]
        pooled = [resize(pool(last), last.shape[-2:]) for pool in self.pools]
        laterals = [lateral(level) for lateral, level in zip(self.laterals, maps[:-1], strict=True)]
        laterals.append(self.bottleneck(torch.cat([last, *pooled], 1)))
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + resize(laterals[i], laterals[i - 1].shape[-2:])
        levels = [conv(level) for conv, level in zip(self.fpn_convs, laterals[:-1], strict=True)]
        levels.append(laterals[-1])
        fused: Tensor = self.fuse(torch.cat([resize(level, levels[0].shape[-2:]) for level in levels], 1))
        return fused


class UPerHead(UPerFusion):
    """UPerNet's head: `UPerFusion` and a classifier behind a dropout of channels."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 512) -> None:
        super().__init__(channels, width)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, H1, W1)`` logits."""
        logits: Tensor = self.classifier(self.dropout(self.fused(maps)))
        return logits


class FCNHead(nn.Module):
    """Fully convolutional head (Long et al. 2015) on one map, in the structure of mmseg's ``FCNHead``.

    Args:
        channels: Channels of the map.
        classes: Number of classes.
        width: Channels inside the head.
        convs: Number of 3x3 convolutions; with more than one, the input is concatenated again before the last.
    """

    def __init__(self, channels: int, classes: int, width: int = 256, convs: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(conv_norm_relu(channels if i == 0 else width, width, 3) for i in range(convs)))
        self.merge = conv_norm_relu(channels + width, width, 3) if convs > 1 else None
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, K, H, W)`` logits."""
        hidden = self.convs(maps)
        if self.merge is not None:
            hidden = self.merge(torch.cat([maps, hidden], 1))
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


class UNetDecoder(nn.Module):
    """U-Net's decoder (Ronneberger et al. 2015) from segmentation-models-pytorch, with a classifier.

    Args:
        channels: Channels of each map, finest first.
        strides: Stride of each map; a missing stride of 2 becomes a step without skip connection.
        classes: Number of classes.
        width: Channels of the deepest block; each finer block has half as many, at least 16.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        # From a stride of 4 or more straight to full size would leave one block for two doublings.
        self.half_step = strides[0] >= 4
        skips = [0, *([0] if self.half_step else []), *channels]
        widths = [max(width >> i, 16) for i in range(len(skips) - 1)]
        self.blocks = UnetDecoder(skips, widths, n_blocks=len(widths))
        initialize_decoder(self.blocks)
        self.classifier = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        height, width = size
        finest = maps[0]
        steps = [(height, width), *([((height + 1) // 2, (width + 1) // 2)] if self.half_step else [])]
        empty = [finest.new_empty((finest.shape[0], 0, *step)) for step in steps]
        logits: Tensor = self.classifier(self.blocks([*empty, *maps]))
        return logits
