"""An encoder as the teacher: which bands of the image it sees, and in which units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.errors import RecipeError
from geodistill.methods.teacher import FrozenTeacher, Precision, TeacherConfig, teacher_bands
from geodistill.nn.encoders import Encoder, build_encoder
from geodistill.nn.weights import read_weights
from geodistill.spec import Spec

RGB = ("red", "green", "blue")


class EncoderTeacher(FrozenTeacher):
    """An encoder as the teacher: its maps alone, there are no classes.

    Args:
        encoder: The encoder.
        mean: Mean of each of its input channels, sensor units.
        std: Deviation of each, sensor units.
        bands: Position in the image of each of its input channels.
        precision: Of the computation.
    """

    def __init__(
        self,
        encoder: Encoder,
        mean: Sequence[float],
        std: Sequence[float],
        bands: Sequence[int],
        precision: Precision = "auto",
    ) -> None:
        levels = list(zip(encoder.channels, encoder.strides, strict=True))
        super().__init__(encoder, encoder, levels, bands, precision)
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self._name = encoder.name

    def to(self, device: torch.device | str) -> None:
        """Move encoder and statistics."""
        super().to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)

    def description(self, device: torch.device) -> dict[str, object]:
        """Return what its outputs on a device depend on besides its weights, JSON-able."""
        return {
            "kind": "FrozenTeacher",  # as caches have named it from the first
            "encoder": self._name,
            "levels": self.levels,
            "strides": list(self.strides),
            "bands": self.bands,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "precision": str(self._dtype(device)),
        }

    def _check_logits(self) -> None:
        raise RecipeError(
            f"a loss on logits under an encoder ({self._name})",
            "a teacher with classes",
            "set teacher.segmenter, or use the loss 'feature'",
        )

    def _outputs(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        with torch.no_grad(), self._autocast(image.device):
            normalised = (image[:, self.bands].float() - self.mean) / self.std
            return [level.float() for level in self.module(normalised)], None


def build_teacher(config: TeacherConfig, spec: Spec) -> EncoderTeacher:
    """Return an encoder as the teacher for images of a Spec.

    A Segmenter as teacher is opened by `geodistill.training.build.open_teacher`, a room that knows Segmenters.

    Raises:
        RecipeError: The bands do not fit, or the data is not in the units that the encoder's statistics are in.
        ArtifactError: The weights are not available or do not fit.
        UnknownNameError: No such encoder or band.
    """
    if config.segmenter is not None:
        raise RecipeError(f"the Segmenter {config.segmenter} where an encoder is built", "teacher.segmenter not given")
    local = None
    if config.weights is not None and config.weights != "pretrained":
        local = read_weights(config.weights)
    channels = 3 if local is None or local.channels is None else local.channels
    names = RGB if local is None or local.bands is None else local.bands
    bands = teacher_bands(config.bands, spec, channels, names)
    encoder = build_encoder(config.encoder, channels, config.weights, indices=config.indices)
    if config.statistics == "data":
        mean, std = [spec.mean[b] for b in bands], [spec.std[b] for b in bands]
    else:
        if local is None or local.channels is None:
            _check_units(spec, bands)
        mean, std = (list(values) for values in encoder.pretrained_statistics)
    return EncoderTeacher(encoder, mean, std, bands, config.precision)


def teacher_levels(config: TeacherConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return channels and stride of each level of an encoder as the teacher, without building or fetching its weights.

    Raises:
        RecipeError: The encoder has no such levels.
        UnknownNameError: No such encoder.
    """
    with torch.device("meta"):
        encoder = build_encoder(config.encoder, indices=config.indices)
    return encoder.channels, encoder.strides


def _check_units(spec: Spec, bands: Sequence[int]) -> None:
    """Refuse data that is plainly not 8-bit: the teacher would see flat black or white."""
    highest = max(spec.mean[b] for b in bands)
    reach = max(spec.mean[b] + 2 * spec.std[b] for b in bands)
    if highest > 255 or reach < 1.5:
        means = ", ".join(f"{spec.mean[b]:.4g}" for b in bands)
        raise RecipeError(
            f"band means {means} under a teacher that expects 8-bit images", "0..255", "set teacher.statistics: data"
        )
