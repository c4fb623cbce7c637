"""LHFEM, the Laplacian high-frequency enhancement module (Eq. 16-19): background and fine detail of a map, enhanced.

It is MEGANet's edge-guided attention without the branch that sees the image. Where the printed equations leave a step
out that its text or MEGANet has, the default has it, and the printed form is an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.decoders import conv_norm_relu

Place = Literal["laterals", "decoder"]


@dataclass(frozen=True)
class LhfemConfig:
    """LHFEM, and the choices that its equations leave open.

    Attributes:
        enabled: Have LHFEM at all.
        norm_before: Bring each channel to mean 0 and deviation 1 before the sigmoid (no learnt parameters); without
            it, as printed, features of large size saturate the sigmoid and leave no detail to find.
        residual: Add the input to the result, as MEGANet does; not printed.
        place: On the encoder's levels before any is resized (``laterals``), or on each map of the decoder, "during
            progressive upsampling" (``decoder``, Section 3.1).
    """

    enabled: bool = True
    norm_before: bool = True
    residual: bool = True
    place: Place = "laterals"


class LHFEM(nn.Module):
    """Reverse attention and Laplacian detail of one feature map, fused and masked.

    Args:
        channels: C.
        config: Choices.
    """

    def __init__(self, channels: int, config: LhfemConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False) if config.norm_before else nn.Identity()
        self.fuse = conv_norm_relu(2 * channels, channels, 1)
        self.mask = nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Sigmoid())
        self.residual = config.residual

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        gate = self.norm(maps).sigmoid()
        reverse, edge = 1 - gate, laplacian(gate)  # Eq. 16; Eq. 17, 18
        enhanced = self.fuse(torch.cat([maps * reverse, maps * edge], 1))  # Eq. 19
        masked: Tensor = enhanced * self.mask(enhanced)
        return masked + maps if self.residual else masked


def laplacian(maps: Tensor) -> Tensor:
    """First level of the Laplacian pyramid (Burt and Adelson 1983): a map less its blurred, halved and enlarged self.

    The 5 x 5 binomial kernel is (1, 4, 6, 4, 1) / 16 along each axis; borders are mirrored.

    Args:
        maps: ``(B, C, H, W)``.

    Returns:
        ``(B, C, H, W)``; constant maps give 0.
    """
    height, width = maps.shape[-2:]
    if min(height, width) < 3:  # too small to mirror two pixels: nothing but the mean is coarser
        return maps - maps.mean((2, 3), keepdim=True)
    channels = maps.shape[1]
    line = maps.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (line[:, None] * line).expand(channels, 1, 5, 5)
    halved = F.conv2d(F.pad(maps, (2, 2, 2, 2), "reflect"), kernel, stride=2, groups=channels)
    # An odd size was rounded up, so the last row or column lies outside.
    return maps - _doubled(_doubled(halved, 2), 3)[..., :height, :width]


def _doubled(maps: Tensor, dim: int) -> Tensor:
    """Insert zeros along an axis and blur with twice the kernel, which is two short averages in turn."""
    length = maps.shape[dim]
    before = torch.cat([maps.narrow(dim, 1, 1), maps.narrow(dim, 0, length - 1)], dim)
    after = torch.cat([maps.narrow(dim, 1, length - 1), maps.narrow(dim, length - 1, 1)], dim)
    even, odd = (before + 6 * maps + after) / 8, (maps + after) / 2
    return torch.stack([even, odd], dim + 1).flatten(dim, dim + 1)
