"""Frozen teachers: their settings, and how a student gets its targets from them; never trained, wrapped or saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, TrainingError, UnknownNameError
from geodistill.lazy import load
from geodistill.nn.alignment import map_grids
from geodistill.nn.encoders import Encoder, build_encoder
from geodistill.spec import Spec

RGB = ("red", "green", "blue")
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Storage = Literal["float16", "uint8"]
"""How a cache keeps a teacher's outputs."""
OWN_STUDENT = "student"  # as ``teacher.segmenter``


@dataclass(frozen=True)
class TeacherConfig:
    """The frozen model that the student learns from.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory; random where
            not given, which is of use in tests only.
        indices: Levels (for a plain vision transformer: blocks) to learn from; all levels, or the blocks that end
            each quarter of the depth, where not given.
        bands: Names, or positions from 0, of the image bands that the teacher sees. Where not given: the bands with
            the names that the teacher knows, else the first ones, or a single band three times.
        statistics: What the teacher's input is normalised by: ``encoder`` (what its weights expect, for 8-bit
            images and for a Segmenter's sensor) or ``data`` (the data's own mean and deviation, for other units).
        segmenter: A Segmenter directory, the run that made it, or a hub id: a teacher for logits and, by its
            encoder, for features, with encoder, weights and statistics of its own. Several teach by the mean of their
            probabilities. ``student``: its ``trainer.ema``.
        precision: Of the teacher's computation; ``auto`` is half precision on a GPU and 32 bits on a CPU.
        logits_stride: Compare logits at this stride in pixels, averaged: 4 costs a sixteenth of the work and cache.
        cache: Directory that keeps the teacher's outputs, so that each view of an image is computed once.
        cache_gb: Largest size of that cache in GB; views beyond it are computed again each time.
        cache_storage: ``float16``, or ``uint8`` with a range for each channel of each image.
        views: Different crops, flips and turns of each sample while a cache is on; colours still change every time,
            for the student alone.
    """

    encoder: str = "vit_base_patch14_dinov2"
    weights: str | None = "pretrained"
    indices: tuple[int, ...] | None = None
    bands: tuple[int | str, ...] | None = None
    statistics: Literal["encoder", "data"] = "encoder"
    segmenter: tuple[str, ...] | str | None = None
    precision: Precision = "auto"
    logits_stride: int = 1
    cache: str | None = None
    cache_gb: float = 20.0
    cache_storage: Storage = "float16"
    views: int = 8

    @property
    def kind(self) -> str:
        """Which of `geodistill.training.build.TEACHERS` opens it."""
        return "encoder" if self.segmenter is None else "student" if self.segmenter == OWN_STUDENT else "segmenter"

    @property
    def segmenters(self) -> tuple[str, ...]:
        """What ``segmenter`` names, one or several."""
        return (self.segmenter,) if isinstance(self.segmenter, str) else self.segmenter or ()


@dataclass
class TeacherOutput:
    """A teacher's targets of a batch, float32 and without gradients, of what was asked for.

    Attributes:
        features: ``(B, Ci, ceil(H / si), ceil(W / si))`` by level.
        logits: ``(B, K, ceil(H / stride), ceil(W / stride))`` in the student's order of classes.
    """

    features: dict[int, Tensor]
    logits: Tensor | None = None


Compute = Callable[[Batch, Sequence[int]], list[Tensor]]
"""Computes what a teacher was asked for, for some samples of a batch."""

Cache = Callable[[Batch, Compute], list[Tensor]]
"""Returns what a teacher was asked for of a batch: `geodistill.methods.cache.TeacherCache`."""


class FrozenTeacher(ABC):
    """Returns the targets of a batch, from images in sensor units, without gradients and in float32.

    It is no module of the student, so it stays out of the optimiser, of DDP and of checkpoints.

    Args:
        module: What is run; put in evaluation mode and frozen.
        encoder: The encoder in it, or ``None`` where it has none.
        levels: Channels and stride of each level that it can return.
        bands: Position in the image of each of its input channels.
        precision: Of the computation.

    Attributes:
        logits_stride: Stride of the logits in `targets`.
        cache: Keeps its outputs, where it is set.
    """

    def __init__(
        self,
        module: nn.Module,
        encoder: Encoder | None,
        levels: Sequence[tuple[int, int]],
        bands: Sequence[int],
        precision: Precision,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.encoder = encoder
        self.channels = tuple(channels for channels, _ in levels)
        self.strides = tuple(stride for _, stride in levels)
        self.bands, self.logits_stride = list(bands), 1
        self.cache: Cache | None = None
        self.levels: list[int] = []
        self.asked_logits, self._precision = False, precision
        self._last: tuple[Batch, TeacherOutput] | None = None

    def __call__(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, Ci, ceil(H / si), ceil(W / si))`` float32, every level."""
        return self._outputs(image)[0]

    @abstractmethod
    def description(self, device: torch.device) -> dict[str, object]:
        """Return what its outputs on a device depend on besides its weights, JSON-able."""

    @abstractmethod
    def _check_logits(self) -> None:
        """Refuse where it cannot return the logits of the student's classes."""

    @abstractmethod
    def _outputs(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return every level, and logits in the student's order of classes where there are any."""

    def to(self, device: torch.device | str) -> None:
        """Move all that it computes with."""
        self.module.to(device)

    def follow(self, averaged: nn.Module | None) -> None:  # noqa: B027 (most teachers have nothing to take)
        """Take the student's averaged weights, where those are the teacher."""

    def ask(self, levels: Sequence[int] = (), logits: bool = False) -> None:
        """Say what `targets` is to return, besides what was asked for before.

        Raises:
            RecipeError: The teacher has no such output.
        """
        if wrong := [level for level in levels if not 0 <= level < len(self.channels)]:
            raise RecipeError(f"teacher level {wrong[0]}", f"one of its {len(self.channels)}, from 0")
        if logits:
            self._check_logits()
        self.levels = sorted({*self.levels, *levels})
        self.asked_logits |= logits

    def targets(self, batch: Batch) -> TeacherOutput:
        """Return what was asked for, from the cache where it holds the view, else computed and kept there.

        With a cache the teacher sees a sample before its colours were changed.

        Raises:
            TrainingError: The teacher returns a value that is not finite; the message names the sample.
        """
        if self._last is not None and self._last[0] is batch:
            return self._last[1]
        parts = self.compute(batch) if self.cache is None else self.cache(batch, self.compute)
        features = dict(zip(self.levels, parts, strict=False))
        self._last = (batch, TeacherOutput(features, parts[-1] if self.asked_logits else None))
        return self._last[1]

    def output_shapes(self, size: int, classes: int) -> list[tuple[int, ...]]:
        """Return the shapes of what was asked for, without the batch, for square images: levels, then logits."""
        places = map_grids(size, size, self.strides)
        shapes: list[tuple[int, ...]] = [(self.channels[level], *places[level]) for level in self.levels]
        side = -(-size // self.logits_stride)
        return [*shapes, (classes, side, side)] if self.asked_logits else shapes

    def compute(self, batch: Batch, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Compute what was asked for, for some samples of a batch or for all."""
        image, keys = batch.get("plain", batch["image"]), batch["key"]
        if rows is not None:
            image, keys = image[list(rows)], [keys[row] for row in rows]
        features, logits = self._outputs(image)
        parts = [features[level] for level in self.levels]
        if logits is not None and self.asked_logits:
            parts.append(pool_logits(logits, self.logits_stride))
        for part in parts:
            finite = torch.isfinite(part).flatten(1).all(1).tolist()
            if not all(finite):
                raise TrainingError(
                    f"the teacher's output is not finite on {keys[finite.index(False)]}",
                    "finite numbers",
                    "check this image, or set teacher.precision: fp32",
                )
        return parts

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        dtype = self._dtype(device)
        enabled = dtype != torch.float32
        return torch.autocast(device.type, dtype if enabled else None, enabled=enabled)

    def _dtype(self, device: torch.device) -> torch.dtype:
        if self._precision == "auto" and device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._precision, torch.float32)


class EncoderTeacher(FrozenTeacher):
    """An encoder as the teacher: its maps alone, there are no classes.

    Its input is normalised by ``mean`` and ``std`` of each input channel, sensor units; ``indices`` made the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        mean: Sequence[float],
        std: Sequence[float],
        bands: Sequence[int],
        precision: Precision = "auto",
        indices: Sequence[int] | None = None,
    ) -> None:
        levels = list(zip(encoder.channels, encoder.strides, strict=True))
        super().__init__(encoder, encoder, levels, bands, precision)
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        self._name, self._indices = encoder.name, indices

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
            **({} if self._indices is None else {"indices": list(self._indices)}),  # levels count the chosen ones alone
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


def pool_logits(logits: Tensor, stride: int) -> Tensor:
    """``(B, K, H, W)`` -> means over squares, ``(B, K, ceil(H / stride), ceil(W / stride))``."""
    return logits if stride == 1 else F.avg_pool2d(logits, stride, ceil_mode=True, count_include_pad=False)


def teacher_bands(
    given: Sequence[int | str] | None, spec: Spec, channels: int, names: Sequence[str] = ()
) -> tuple[int, ...]:
    """Say which band of the image is which input of the teacher.

    Args:
        given: ``teacher.bands``: names or positions.
        spec: The image's bands.
        channels: Inputs of the teacher.
        names: What the teacher calls them.

    Returns:
        A position in the image for each input: the given ones; else the bands of the teacher's names, in whatever
        order the image has them; else the first ones, or a single band for all.

    Raises:
        RecipeError: There are too few, or a position is outside the image.
        UnknownNameError: No band has that name.
    """
    known = [band.lower() for band in spec.bands]
    if given is not None:
        for band in given:
            if isinstance(band, str) and band.lower() not in known:
                raise UnknownNameError("band", band, spec.bands, "set teacher.bands")
        bands = tuple(known.index(band.lower()) if isinstance(band, str) else band for band in given)
    elif len(names) == channels and all(name.lower() in known for name in names):
        bands = tuple(known.index(name.lower()) for name in names)
    elif spec.channels == 1:
        bands = (0,) * channels
    else:
        bands = tuple(range(channels))
    if len(bands) != channels or not all(0 <= band < spec.channels for band in bands):
        raise RecipeError(
            f"teacher bands {list(given) if given is not None else list(bands)} of an image with {spec.channels}",
            f"{channels} of {', '.join(spec.bands)}, by name or by position in 0..{spec.channels - 1}",
            "set teacher.bands",
        )
    return bands


def build_teacher(config: TeacherConfig, spec: Spec) -> EncoderTeacher:
    """Return an encoder as the teacher for images of a Spec.

    Raises:
        RecipeError: The bands do not fit, or the data is not in the units that the encoder's statistics are in.
        ArtifactError: The weights are not available or do not fit.
        UnknownNameError: No such encoder or band.
    """
    local = None
    if config.weights is not None and config.weights != "pretrained":
        local = load("geodistill.nn.encoder_weights:read_weights")(config.weights)
    channels = 3 if local is None or local.channels is None else local.channels
    names = RGB if local is None or local.bands is None else local.bands
    bands = teacher_bands(config.bands, spec, channels, names)
    encoder = build_encoder(config.encoder, channels, config.weights, indices=config.indices)
    if config.statistics == "data":
        mean, std = [spec.mean[b] for b in bands], [spec.std[b] for b in bands]
    else:
        if (local is None or local.channels is None) and not is_8_bit(spec, bands):
            means = ", ".join(f"{spec.mean[b]:.4g}" for b in bands)
            received = f"band means {means} under a teacher that expects 8-bit images"
            raise RecipeError(received, "0..255", "set teacher.statistics: data")
        mean, std = (list(values) for values in encoder.pretrained_statistics)
    return EncoderTeacher(encoder, mean, std, bands, config.precision, config.indices)


def is_8_bit(spec: Spec, bands: Sequence[int]) -> bool:
    """Return whether images may be 8-bit: with statistics that are for those, others would be flat black or white."""
    return max(spec.mean[b] for b in bands) <= 255 and max(spec.mean[b] + 2 * spec.std[b] for b in bands) >= 1.5
