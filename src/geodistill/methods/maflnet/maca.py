"""MACA, multi-aware cross-attention: linear angular attention beside cross-covariance attention, then their fusion.

The paper's three parts are those of Castling-ViT (LAA), XCiT (XCA) and AMGCFN (fusion). Where an equation as printed
cannot be right, the default follows the part's own publication, and the printed form is an option.

Axis letters: B batch, C channels, L positions (``H * W``), h heads, d channels of a head (``C / h``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError, UnknownNameError

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
        for name, value, known in (
            ("neighbourhood", self.neighbourhood, get_args(Neighbourhood)),
            ("temperature", self.temperature, get_args(Temperature)),
            ("norm_axis", self.norm_axis, get_args(NormAxis)),
            ("second_map", self.second_map, get_args(SecondMap)),
            ("position_weight", self.position_weight, get_args(PositionWeight)),
        ):
            if value not in known:
                raise UnknownNameError(name, value, known)
        if self.heads < 1 or width % self.heads:
            raise RecipeError(
                f"MACA with {self.heads} heads on {width} channels", "heads that divide the width", "set maca.heads"
            )


class LinearAngularAttention(nn.Module):
    """LAA (Eq. 1-4): the angle between query and key to first order, linear in the positions.

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
        self.neighbours = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.neighbours, a=math.sqrt(5))
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, L, C)`` of an ``(H, W)`` grid -> ``(B, L, C)``."""
        batch, count, channels = tokens.shape
        own = self.qkv(tokens)
        query, key, value = own.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        summary = key.transpose(-2, -1) @ value  # (B, h, d, d): the only place where positions meet
        mixed = 0.5 * value + (query @ summary) / math.pi
        if self.normed:
            mixed = F.normalize(mixed, dim=-1)
        merged = mixed.transpose(1, 2).reshape(batch, count, channels)
        near = self._near(own[..., 2 * channels :], grid)
        projected: Tensor = self.proj(merged + near)
        return projected

    def _near(self, value: Tensor, grid: tuple[int, int]) -> Tensor:
        """Depthwise convolution of the values, ``(B, L, C)`` -> ``(B, L, C)``."""
        count, channels = value.shape[1:]
        kernel = self.neighbours.repeat_interleave(channels // self.heads, 0)
        shape, padding = ((count, 1), (4, 0)) if self.along_rows else (grid, (1, 1))
        return _tokens(F.conv2d(_maps(value, shape), kernel, padding=padding, groups=channels))


class CrossCovarianceAttention(nn.Module):
    """XCA (Eq. 5-7): channels attend to channels, so that the map is ``d x d`` a head whatever the image's size.

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

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, L, C)`` -> ``(B, L, C)``."""
        batch, count, channels = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = F.normalize(query, dim=self.axis), F.normalize(key, dim=self.axis)
        scale = self.temperature.view(-1, 1, 1)
        covariance = (query.transpose(-2, -1) @ key).float()
        attention = (covariance / scale if self.divides else covariance * scale).softmax(-1)
        mixed = value @ attention.to(value.dtype).transpose(-2, -1)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, channels))
        return projected


class Fusion(nn.Module):
    """The fusion of both attentions (Eq. 8-13): channels weighed across the branches, then positions in each.

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

    def forward(self, first: Tensor, second: Tensor, grid: tuple[int, int]) -> Tensor:
        """Two ``(B, L, C)`` of an ``(H, W)`` grid -> ``(B, L, C)``."""
        mean1, max1, mean2, max2 = self.pooled
        a1 = mean1(first.mean(1)) + max1(first.amax(1))
        a2 = mean2(second.mean(1)) + max2(second.amax(1))
        product = a1.float()[:, :, None] * a2.float()[:, None, :]  # M = a1 a2^T, (B, C, C)
        pairs = ((first, product), (second, product.transpose(1, 2) if self.transposes else product))
        refined = [self._weigh_positions(branch @ m.softmax(-1).to(branch.dtype).mT, grid) for branch, m in pairs]
        return refined[0] + refined[1]

    def _weigh_positions(self, branch: Tensor, grid: tuple[int, int]) -> Tensor:
        seen = torch.stack([branch.mean(2), branch.amax(2)], 1).view(-1, 2, *grid)
        score: Tensor = self.spatial(seen).flatten(1).float()
        weight = score.softmax(1) if self.softmax else score.sigmoid()
        return branch * weight.to(branch.dtype)[..., None] + branch


class MACA(nn.Module):
    """Multi-aware cross-attention on one feature map. Time and memory are linear in its positions.

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
        seen = tokens if self.norm is None else self.norm(tokens)
        fused = self.fusion(self.laa(seen, grid), self.xca(seen), grid)
        if self.norm is not None:
            fused = tokens + fused
        return _maps(fused, grid)


def _tokens(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, L, C)``, a view where channels lie last in memory."""
    return maps.flatten(2).transpose(1, 2)


def _maps(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, L, C)`` -> ``(B, C, *grid)``, a view with channels last in memory."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def _perceptron(channels: int) -> nn.Sequential:
    """Two linear layers: 1x1 convolutions of a pooled ``(B, C)``."""
    return nn.Sequential(nn.Linear(channels, BOTTLENECK), nn.ReLU(), nn.Linear(BOTTLENECK, channels))
