"""The frozen teacher: an encoder that gives targets and is never trained, wrapped or saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geodistill.errors import RecipeError
from geodistill.nn.encoders import Encoder, build_encoder
from geodistill.nn.weights import read_weights
from geodistill.spec import Spec


@dataclass(frozen=True)
class TeacherConfig:
    """The frozen encoder that the student learns from.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory; random where
            not given, which is of use in tests only.
        indices: Levels (for a plain vision transformer: blocks) to learn from; all levels, or the blocks that end
            each quarter of the depth, where not given.
        bands: Positions, from 0, of the image bands that the teacher sees; the first three, or a single band three
            times, where not given. All bands for a Segmenter trained on as many.
        statistics: What the teacher's input is normalised by: ``encoder`` (what its weights expect, for 8-bit
            images and for a Segmenter's sensor) or ``data`` (the data's own mean and deviation, for other units).
    """

    encoder: str = "vit_base_patch14_dinov2"
    weights: str | None = "pretrained"
    indices: tuple[int, ...] | None = None
    bands: tuple[int, ...] | None = None
    statistics: Literal["encoder", "data"] = "encoder"


class FrozenTeacher:
    """Gives an encoder's maps of images in sensor units, without gradients and in float32.

    It is no module of the student, so it stays out of the optimiser, of DDP and of checkpoints.

    Args:
        encoder: The encoder; put in evaluation mode and frozen.
        mean: Mean of each of its input channels, sensor units.
        std: Deviation of each, sensor units.
        bands: Position in the image of each of its input channels.
    """

    def __init__(self, encoder: Encoder, mean: Sequence[float], std: Sequence[float], bands: Sequence[int]) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.channels, self.strides = encoder.channels, encoder.strides
        self.bands = list(bands)
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def __call__(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, Ci, ceil(H / si), ceil(W / si))`` float32 a level."""
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            seen = (image[:, self.bands].float() - self.mean) / self.std
            return [level.float() for level in self.encoder(seen)]

    def to(self, device: torch.device | str) -> None:
        """Move encoder and statistics."""
        self.encoder.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)


def build_teacher(config: TeacherConfig, spec: Spec) -> FrozenTeacher:
    """Build the teacher for images of a Spec.

    Raises:
        RecipeError: The bands do not fit, or the data is not in the units that the encoder's statistics are in.
        ArtifactError: The weights cannot be had or do not fit.
        UnknownNameError: No such encoder.
    """
    local = config.weights not in (None, "pretrained")
    trained_on = read_weights(config.weights).channels if local and config.weights is not None else None
    channels = 3 if trained_on is None else trained_on
    bands = _bands(config, spec, channels)
    encoder = build_encoder(config.encoder, channels, config.weights, indices=config.indices)
    if config.statistics == "data":
        mean, std = [spec.mean[b] for b in bands], [spec.std[b] for b in bands]
    else:
        if trained_on is None:
            _check_units(spec, bands)
        mean, std = (list(values) for values in encoder.pretrained_statistics)
    return FrozenTeacher(encoder, mean, std, bands)


def _bands(config: TeacherConfig, spec: Spec, channels: int) -> tuple[int, ...]:
    if config.bands is not None:
        bands = tuple(config.bands)
    elif spec.channels == 1:
        bands = (0,) * channels
    else:
        bands = tuple(range(channels))
    if len(bands) != channels or not all(0 <= band < spec.channels for band in bands):
        raise RecipeError(
            f"teacher bands {list(bands)} of an image with {spec.channels}",
            f"{channels} positions in 0..{spec.channels - 1}",
            "set teacher.bands",
        )
    return bands


def _check_units(spec: Spec, bands: Sequence[int]) -> None:
    """Refuse data that is plainly not 8-bit: the teacher would see flat black or white."""
    highest = max(spec.mean[b] for b in bands)
    reach = max(spec.mean[b] + 2 * spec.std[b] for b in bands)
    if highest > 255 or reach < 1.5:
        means = ", ".join(f"{spec.mean[b]:.4g}" for b in bands)
        raise RecipeError(
            f"band means {means} under a teacher that expects 8-bit images", "0..255", "set teacher.statistics: data"
        )
