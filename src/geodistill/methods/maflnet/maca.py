"""MACA, the multi-attention and cross-fused architecture: LAA and XCA on the same map, then the fusion module FM.

The parts are those of Castling-ViT (linear angular attention), XCiT (cross-covariance attention) and AMGCFN (fusion).
Where an equation as printed cannot be right, the default follows the part's own publication, and the printed form is
an option. Names are those of the equations.

Axis letters: B batch, C channels, L positions (``H * W``), h heads, d channels of a head (``C / h``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError, check_choices

Neighbourhood = Literal["raster", "grid"]
Temperature = Literal["multiply", "divide"]
NormAxis = Literal["positions", "channels"]
SecondMap = Literal["transposed", "same"]
PositionWeight = Literal["softmax", "sigmoid"]

BOTTLENECK = 64
"""Width of the fusion's perceptrons, in AMGCFN whatever C is."""


@dataclass(frozen=True)
class MacaConfig:
    """MACA, and the choices that its equations leave open.

    Attributes:
        enabled: Have MACA at all.
        heads: Attention heads; they must divide the decoder's width.
        angular_norm: Normalise each position's result of LAA (Castling-ViT); Eq. 4 as printed does not.
        neighbourhood: LAA's depthwise convolution: ``raster`` runs along the positions in raster order and so wraps
            from one row to the next (9 taps, the public module), ``grid`` is 3 x 3 on the map.
        temperature: XCA's learnt temperature multiplies (XCiT) or divides (Eq. 6 as printed).
        norm_axis: What XCA's queries and keys are normalised along: ``positions`` (XCiT) or ``channels``, the last
            dimension before the transposition that Eq. 6 leaves out.
        second_map: Whether the fusion's second branch takes the transposed channel map (AMGCFN) or the same
            (Eq. 10 and 11 as printed).
        position_weight: The fusion's weights of positions: ``softmax`` over all of them (Eq. 12), which at 128 x 128
            adds on average 1 / 16384 of a map to itself, or ``sigmoid`` of each.
        residual: Add the input, and normalise it before; neither is in the paper.
    """

    enabled: bool = True
    heads: int = 8
    angular_norm: bool = True
    neighbourhood: Neighbourhood = "raster"
    temperature: Temperature = "multiply"
    norm_axis: NormAxis = "positions"
    second_map: SecondMap = "transposed"
    position_weight: PositionWeight = "softmax"
    residual: bool = False

    def check(self, width: int) -> None:
        """Refuse what cannot be built.

        Raises:
            UnknownNameError: A choice has no such value.
            RecipeError: The heads do not divide the width.
        """
        check_choices(self)
        if self.heads < 1 or width % self.heads:
            raise RecipeError(
                f"MACA with {self.heads} heads on {width} channels", "heads that divide the width", "set maca.heads"
            )


class LinearAngularAttention(nn.Module):
    """LAA (Eq. 1-5): the angle between query and key to first order, linear in the positions.

    ``1 - angle / pi`` is ``1/2 + (q . k) / pi`` to first order for unit vectors. As published the first part stands
    for a position's own value, not for the sum over all.

    Args:
        channels: C.
        config: Heads and choices.
    """

    def __init__(self, channels: int, config: MacaConfig) -> None:
        super().__init__()
        self.heads, self.normed, self.along_rows = config.heads, config.angular_norm, config.neighbourhood == "raster"
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        # One kernel a head, shared by its channels: nine weights either way.
        shape = (config.heads, 1, 9, 1) if self.along_rows else (config.heads, 1, 3, 3)
        self.dconv = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.dconv, a=math.sqrt(5))
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, L, C)`` of an ``(H, W)`` grid -> ``(B, L, C)``."""
        batch, length, channels = x.shape
        qkv = self.qkv(x)  # Eq. 1
        q, k, v = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)  # Eq. 2
        a = k.transpose(-2, -1) @ v  # Eq. 3, (B, h, d, d): the only place where positions meet
        z = 0.5 * v + (q @ a) / math.pi  # Eq. 4
        if self.normed:
            z = F.normalize(z, dim=-1)
        z = z.transpose(1, 2).reshape(batch, length, channels)
        y: Tensor = self.proj(z + self._dconv(qkv[..., 2 * channels :], grid))  # Eq. 5
        return y

    def _dconv(self, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Depthwise convolution of the values, ``(B, L, C)`` -> ``(B, L, C)``."""
        length, channels = v.shape[1:]
        kernel = self.dconv.repeat_interleave(channels // self.heads, 0)
        shape, padding = ((length, 1), (4, 0)) if self.along_rows else (grid, (1, 1))
        return _tokens(F.conv2d(_maps(v, shape), kernel, padding=padding, groups=channels))


class CrossCovarianceAttention(nn.Module):
    """XCA (Eq. 6-8): channels attend to channels, so that the map is ``d x d`` a head whatever the image's size.

    Args:
        channels: C.
        config: Heads and choices.
    """

    def __init__(self, channels: int, config: MacaConfig) -> None:
        super().__init__()
        self.heads, self.divides = config.heads, config.temperature == "divide"
        self.axis = -2 if config.norm_axis == "positions" else -1
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.temperature = nn.Parameter(torch.ones(config.heads))  # a vector: the optimiser does not decay those
        self.proj = nn.Linear(channels, channels)

    def forward(self, u: Tensor) -> Tensor:
        """``(B, L, C)`` -> ``(B, L, C)``."""
        batch, length, channels = u.shape
        q, k, v = self.qkv(u).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = F.normalize(q, dim=self.axis), F.normalize(k, dim=self.axis)
        tau = self.temperature.view(-1, 1, 1)
        covariance = (q.transpose(-2, -1) @ k).float()  # (B, h, d, d)
        a = (covariance / tau if self.divides else covariance * tau).softmax(-1)  # Eq. 6
        x = v @ a.to(v.dtype).transpose(-2, -1)  # Eq. 7, with positions in rows
        y: Tensor = self.proj(x.transpose(1, 2).reshape(batch, length, channels))  # Eq. 8
        return y


class Fusion(nn.Module):
    """FM, the fusion of both attentions' maps (Eq. 9-13): each map is weighed by position and added to itself.

    The channels that both branches find important, ``M``, decide only what the position weights are computed from;
    the maps themselves keep their channels. As printed ``alpha`` is about 1 / L, so that on a large map the result is
    ``f1 + f2`` to several digits; with ``position_weight: sigmoid`` the cross-attention makes itself felt.

    Args:
        channels: C.
        config: Choices.
    """

    def __init__(self, channels: int, config: MacaConfig) -> None:
        super().__init__()
        self.transposes, self.softmax = config.second_map == "transposed", config.position_weight == "softmax"
        # Average and maximum of the first branch, then of the second.
        self.pooled = nn.ModuleList(_perceptron(channels) for _ in range(4))
        # Shared by both branches.
        self.spatial = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1))

    def forward(self, f1: Tensor, f2: Tensor, grid: tuple[int, int]) -> Tensor:
        """Two ``(B, L, C)`` of an ``(H, W)`` grid -> ``(B, L, C)``."""
        average1, maximum1, average2, maximum2 = self.pooled
        a1 = average1(f1.mean(1)) + maximum1(f1.amax(1))
        a2 = average2(f2.mean(1)) + maximum2(f2.amax(1))
        m = a1.float()[:, :, None] * a2.float()[:, None, :]  # Eq. 9, (B, C, C)
        m1, m2 = m.softmax(-1), (m.mT if self.transposes else m).softmax(-1)
        alpha1 = self._alpha(f1 @ m1.to(f1.dtype).mT, grid)  # Eq. 10, 12
        alpha2 = self._alpha(f2 @ m2.to(f2.dtype).mT, grid)  # Eq. 11, 12
        return (f1 * alpha1 + f1) + (f2 * alpha2 + f2)  # Eq. 13; how the two meet is not printed

    def _alpha(self, f: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the weight of each position (Eq. 12), ``(B, L, C)`` -> ``(B, L, 1)`` in 0..1."""
        pooled = torch.stack([f.mean(2), f.amax(2)], 1).view(-1, 2, *grid)
        score: Tensor = self.spatial(pooled).flatten(1).float()
        alpha = score.softmax(1) if self.softmax else score.sigmoid()
        return alpha.to(f.dtype)[..., None]


class MACA(nn.Module):
    """MACA of one feature map (Eq. 14, 15). Time and memory are linear in its positions.

    Args:
        channels: C, a multiple of the heads.
        config: Heads and choices.

    Raises:
        UnknownNameError: A choice has no such value.
        RecipeError: The heads do not divide the channels.
    """

    def __init__(self, channels: int, config: MacaConfig) -> None:
        super().__init__()
        config.check(channels)
        self.norm = nn.LayerNorm(channels) if config.residual else None
        self.laa = LinearAngularAttention(channels, config)
        self.xca = CrossCovarianceAttention(channels, config)
        self.fusion = Fusion(channels, config)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        grid = (maps.shape[2], maps.shape[3])
        tokens = _tokens(maps)
        x = tokens if self.norm is None else self.norm(tokens)
        fused = self.fusion(self.laa(x, grid), self.xca(x), grid)
        return _maps(fused if self.norm is None else tokens + fused, grid)


def _tokens(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, L, C)``, a view where channels lie last in memory."""
    return maps.flatten(2).transpose(1, 2)


def _maps(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, L, C)`` -> ``(B, C, *grid)``, a view with channels last in memory."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def _perceptron(channels: int) -> nn.Sequential:
    """Two linear layers: 1x1 convolutions of a pooled ``(B, C)``."""
    return nn.Sequential(nn.Linear(channels, BOTTLENECK), nn.ReLU(), nn.Linear(BOTTLENECK, channels))
