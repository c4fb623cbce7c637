"""Frozen teachers: an encoder or a whole model that gives targets and is never trained, wrapped or saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, TrainingError
from geodistill.methods.cache import TeacherCache
from geodistill.nn.alignment import FeatureTap, map_grids
from geodistill.nn.encoders import Encoder
from geodistill.spec import Spec

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass
class TeacherOutput:
    """What a teacher gives for a batch, float32 and without gradients.

    Attributes:
        features: ``(B, Ci, ceil(H / si), ceil(W / si))`` by level, for the levels asked for.
        logits: ``(B, K, ceil(H / stride), ceil(W / stride))`` in the student's order of classes, where asked for.
    """

    features: dict[int, Tensor]
    logits: Tensor | None = None


class FrozenTeacher:
    """Gives an encoder's maps of images in sensor units, without gradients and in float32.

    It is no module of the student, so it stays out of the optimiser, of DDP and of checkpoints.

    Args:
        encoder: The encoder; put in evaluation mode and frozen.
        mean: Mean of each of its input channels, sensor units.
        std: Deviation of each, sensor units.
        bands: Position in the image of each of its input channels.
        precision: Of the computation.

    Attributes:
        module: What is run: the encoder, or the whole model.
        encoder: The encoder, ``None`` where a model has none.
        channels: Channels of each level that it can give.
        strides: Stride of each level in pixels.
        logits_stride: Stride of the logits that `targets` gives.
    """

    def __init__(
        self,
        encoder: Encoder,
        mean: Sequence[float],
        std: Sequence[float],
        bands: Sequence[int],
        precision: Precision = "auto",
    ) -> None:
        self._begin(encoder, encoder, bands, precision)
        self.channels, self.strides = encoder.channels, encoder.strides
        self.mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def _begin(self, module: nn.Module, encoder: Encoder | None, bands: Sequence[int], precision: Precision) -> None:
        self.module = module.eval().requires_grad_(False)
        self.encoder = encoder
        self.bands, self.logits_stride = list(bands), 1
        self.cache: TeacherCache | None = None
        self.levels: list[int] = []
        self.gives_logits = False
        self._precision = precision
        self._last: tuple[Batch, TeacherOutput] | None = None

    def __call__(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, Ci, ceil(H / si), ceil(W / si))`` float32, every level."""
        return self._look(image)[0]

    def ask(self, levels: Sequence[int] = (), logits: bool = False) -> None:
        """Say what `targets` is to give, besides what was asked for before.

        Raises:
            RecipeError: The teacher has no such output.
        """
        if wrong := [level for level in levels if not 0 <= level < len(self.channels)]:
            raise RecipeError(f"teacher level {wrong[0]}", f"one of its {len(self.channels)}, from 0")
        if logits:
            self._check_logits()
        self.levels = sorted({*self.levels, *levels})
        self.gives_logits |= logits

    def targets(self, batch: Batch) -> TeacherOutput:
        """Give what was asked for, from the cache where it holds the view, else computed and kept there.

        With a cache the teacher sees a sample before its colours were changed.

        Raises:
            TrainingError: The teacher gives a value that is not finite; the message names the sample.
        """
        if self._last is not None and self._last[0] is batch:
            return self._last[1]
        parts = self._computed(batch) if self.cache is None else self._cached(batch, self.cache)
        features = dict(zip(self.levels, parts, strict=False))
        output = TeacherOutput(features, parts[-1] if self.gives_logits else None)
        self._last = (batch, output)
        return output

    def to(self, device: torch.device | str) -> None:
        """Move encoder and statistics."""
        self.module.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)

    def output_shapes(self, size: int, classes: int) -> list[tuple[int, ...]]:
        """Shapes of what was asked for, without the batch, for square images: levels, then logits."""
        places = map_grids(size, size, self.strides)
        shapes: list[tuple[int, ...]] = [(self.channels[level], *places[level]) for level in self.levels]
        side = -(-size // self.logits_stride)
        return [*shapes, (classes, side, side)] if self.gives_logits else shapes

    def description(self, device: torch.device) -> dict[str, object]:
        """What its outputs on a device depend on besides its weights, JSON-able."""
        return {
            "kind": type(self).__name__,
            "encoder": None if self.encoder is None else self.encoder.name,
            "levels": self.levels,
            "strides": list(self.strides),
            "bands": self.bands,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "precision": str(self._dtype(device)),
        }

    def _check_logits(self) -> None:
        raise RecipeError(
            f"a loss on logits under an encoder ({'' if self.encoder is None else self.encoder.name})",
            "a teacher with classes",
            "set teacher.segmenter, or use the loss 'feature'",
        )

    def _look(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Every level, and logits in the student's order of classes where there are any."""
        with torch.no_grad(), self._autocast(image.device):
            seen = (image[:, self.bands].float() - self.mean) / self.std
            return [level.float() for level in self.module(seen)], None

    def _computed(self, batch: Batch, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Compute what was asked for, for some samples of a batch or for all."""
        image = batch["plain"] if "plain" in batch else batch["image"]
        keys = batch["key"]
        if rows is not None:
            image, keys = image[list(rows)], [keys[row] for row in rows]
        features, logits = self._look(image)
        parts = [features[level] for level in self.levels]
        if self.gives_logits:
            assert logits is not None
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

    def _cached(self, batch: Batch, cache: TeacherCache) -> list[Tensor]:
        """Read what is there and compute the rest; what was computed is rounded as if it had been read.

        A sample that will be kept goes through the teacher alone: the last bits of its outputs depend on the batch
        it is in, and which samples are missing from a batch depends on when a run was stopped. What there is no room
        for is computed together each time.
        """
        slots = batch["slot"].tolist()
        held = [cache.read(slot) for slot in slots]
        missing = [row for row, parts in enumerate(held) if parts is None]
        kept = [row for row in missing if cache.keeps(slots[row])]
        others = [row for row in missing if not cache.keeps(slots[row])]
        for rows in [*([row] for row in kept), *([others] if others else [])]:
            computed = self._computed(batch, rows)
            for index, row in enumerate(rows):
                held[row] = cache.write(slots[row], [part[index] for part in computed])
        samples = [parts for parts in held if parts is not None]
        device = batch["image"].device
        return [torch.stack(parts).to(device).float() for parts in zip(*samples, strict=True)]

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        dtype = self._dtype(device)
        enabled = dtype != torch.float32
        return torch.autocast(device.type, dtype if enabled else None, enabled=enabled)

    def _dtype(self, device: torch.device) -> torch.dtype:
        if self._precision == "auto" and device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._precision, torch.float32)


class SegmenterTeacher(FrozenTeacher):
    """Gives the logits of a trained model in the student's order of classes, and its encoder's maps.

    Args:
        model: Called with ``(B, C, H, W)`` float32 sensor units it gives ``(B, K, H, W)`` logits; it normalises for
            itself.
        own: The model's Spec.
        spec: The student's Spec.
        bands: Position in the student's image of each of the model's bands.
        encoder: The encoder inside the model; without one there are no features.
        indices: The encoder's levels to give; all where not given.
        logits_stride: Stride in pixels of the logits given.
        precision: Of the computation.
        about: What else, JSON-able, the model's outputs depend on besides its weights and Spec.
    """

    def __init__(
        self,
        model: nn.Module,
        own: Spec,
        spec: Spec,
        bands: Sequence[int],
        encoder: Encoder | None,
        indices: Sequence[int] | None = None,
        logits_stride: int = 1,
        precision: Precision = "auto",
        about: Mapping[str, object] | None = None,
    ) -> None:
        self._begin(model, encoder, bands, precision)
        self.logits_stride = logits_stride
        self._own, self._classes = own.legend.names, spec.legend.names
        self._about = {"spec": own.to_dict(), **(about or {})}
        self._columns = [self._own.index(name) for name in self._classes if name in self._own]
        self._tap = None if encoder is None else FeatureTap(encoder)
        channels, strides = (encoder.channels, encoder.strides) if encoder is not None else ((), ())
        self._chosen = tuple(range(len(channels))) if indices is None else tuple(indices)
        if not all(0 <= level < len(channels) for level in self._chosen):
            raise RecipeError(f"teacher.indices {list(self._chosen)}", f"levels below {len(channels)}")
        self.channels = tuple(channels[level] for level in self._chosen)
        self.strides = tuple(strides[level] for level in self._chosen)

    def to(self, device: torch.device | str) -> None:
        """Move the model."""
        self.module.to(device)

    def description(self, device: torch.device) -> dict[str, object]:
        """What its outputs on a device depend on besides its weights, JSON-able."""
        return {
            "kind": type(self).__name__,
            "model": self._about,
            "levels": [self._chosen[level] for level in self.levels],
            "strides": list(self.strides),
            "bands": self.bands,
            "classes": self._columns if self.gives_logits else None,
            "logits_stride": self.logits_stride,
            "precision": str(self._dtype(device)),
        }

    def _check_logits(self) -> None:
        if missing := [name for name in self._classes if name not in self._own]:
            raise RecipeError(
                f"a teacher of the classes {', '.join(self._own)} for a student of {', '.join(self._classes)}",
                f"a teacher that knows {', '.join(missing)} by that name",
                "rename the classes in the data's legend, or learn from its features alone",
            )

    def _look(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        with torch.no_grad(), self._autocast(image.device):
            logits = self.module(image[:, self.bands].float())[:, self._columns].float()
        maps = [] if self._tap is None else self._tap.take(*image.shape[-2:])
        return [maps[level].float() for level in self._chosen], logits


def pool_logits(logits: Tensor, stride: int) -> Tensor:
    """``(B, K, H, W)`` -> means over squares, ``(B, K, ceil(H / stride), ceil(W / stride))``."""
    if stride == 1:
        return logits
    return F.avg_pool2d(logits, stride, ceil_mode=True, count_include_pad=False)
