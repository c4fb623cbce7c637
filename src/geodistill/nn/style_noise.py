"""Other styles of an encoder's first maps in training, for places that the labels do not show."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.nn.encoders import Encoder, build_encoder

LEVELS = 3
"""How many of an encoder's first levels get another style: light, haze and sensor tell in them, objects later."""


class StyleNoise(nn.Module):
    """Changes mean and standard deviation of each channel of a map, by about as much as they differ in the batch.

    Light, season and sensor change these two and leave where things are, so they are called a map's style (DSU: Li et
    al. 2022, "Uncertainty Modeling for Out-of-Distribution Generalization", arXiv 2202.03958). For each image and
    channel, with ``e`` from a normal distribution and ``S`` the deviation over the batch::

        x' = (s + e1 S(s)) (x - m) / s + (m + e2 S(m))        m, s: mean and deviation over the places of x

    It is a forward hook, which works in training alone, where gradients are computed.

    Args:
        probability: How often the maps of a batch are changed, 0..1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, stage: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor | None:
        """``(B, C, H, W)`` -> the same shape and dtype, or ``None``, which leaves them as they are."""
        if not (self.training and torch.is_grad_enabled()) or torch.rand(()) >= self.probability:
            return None
        variance, mean = torch.var_mean(maps.float(), (2, 3), correction=0, keepdim=True)
        deviation = (variance + 1e-6).sqrt()
        scale, shift = (
            style + torch.randn_like(style) * (style.var(0, correction=0, keepdim=True) + 1e-6).sqrt()
            for style in (deviation, mean)
        )
        factor = scale / deviation
        return (maps * factor + (shift - mean * factor)).to(maps.dtype)


def takes_style_noise(name: str) -> bool:
    """Whether an encoder of `list_encoders` has stages that can be told apart.

    Raises:
        UnknownNameError: There is no such encoder.
    """
    with torch.device("meta"):
        encoder = build_encoder(name)
    try:
        return bool(encoder.body.level_modules())
    except RecipeError:
        return False


def add_style_noise(encoder: Encoder, probability: float) -> None:
    """Let the first `LEVELS` stages of an encoder return maps of other styles in training.

    Raises:
        RecipeError: Its stages cannot be told apart, as a transformer's.
    """
    stages = encoder.body.level_modules()[:LEVELS]
    encoder.style_noise = StyleNoise(probability)  # a part of it, so that it trains and evaluates with it
    for stage in stages:
        stage.register_forward_hook(encoder.style_noise)
