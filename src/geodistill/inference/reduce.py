"""Probabilities become what a map holds: classes, the probability of the class, a value a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import UnknownNameError
from geodistill.inference.windows import Plan
from geodistill.spec import IGNORE_INDEX

STEPS = 250
"""A uint8 probability is this many times the true one, rounded; 255 is nodata."""

SAMPLES = ("uint8", "float16", "float32")
"""Sample types of probabilities. Float16 is float32 that float16 can hold, which compresses better."""


@dataclass(frozen=True)
class Wanted:
    """What is made of the probabilities beside classes.

    Attributes:
        confidence: The probability of the chosen class, uint8.
        probabilities: Sample type of one layer a class, among `SAMPLES`, or ``None`` for none.

    Raises:
        UnknownNameError: There is no such sample type.
    """

    confidence: bool = False
    probabilities: str | None = None

    def __post_init__(self) -> None:
        if self.probabilities is not None and self.probabilities not in SAMPLES:
            raise UnknownNameError("sample type of probabilities", self.probabilities, SAMPLES)


class RowReducer:
    """Collects a row of windows' finished pixels, on the device, as map values.

    Args:
        classes: Number of classes.
        plan: The windows.
        width: Columns of the block.
        wanted: What is made beside classes.
        device: Where the probabilities live.
    """

    def __init__(self, classes: int, plan: Plan, width: int, wanted: Wanted, device: torch.device | str) -> None:
        shape = (plan.size, width)
        self._wanted = wanted
        self._classes = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._confidence = torch.zeros(shape if wanted.confidence else 0, dtype=torch.uint8, device=device)
        kind = torch.uint8 if wanted.probabilities == "uint8" else torch.float32
        many = (classes, *shape) if wanted.probabilities else (0,)
        self._probabilities = torch.zeros(many, dtype=kind, device=device)

    def put(self, column: int, finished: Tensor) -> None:
        """Take ``(K, rows, columns)`` probabilities that begin at a column of the block; what is beyond it is cut."""
        columns = min(finished.shape[2], self._classes.shape[1] - column)
        rows = finished.shape[1]
        finished = finished[:, :, :columns]
        place = (slice(0, rows), slice(column, column + columns))
        classes, highest = most_probable(finished)
        self._classes[place] = classes
        if self._wanted.confidence:
            self._confidence[place] = as_steps(highest)
        if self._wanted.probabilities:
            kept = self._probabilities[(slice(None), *place)]
            if self._wanted.probabilities == "uint8":
                kept.copy_(as_steps(finished))
            else:
                kept.copy_(finished.half() if self._wanted.probabilities == "float16" else finished)

    def take(self, rows: int, valid: NDArray[np.bool_]) -> dict[str, NDArray[np.uint8] | NDArray[np.float32]]:
        """Give the first rows of each layer, ``(bands, rows, W)``; nodata where not valid: 255, or NaN of floats."""
        layers = {"classes": self._classes[None]}
        if self._wanted.confidence:
            layers["confidence"] = self._confidence[None]
        if self._wanted.probabilities:
            layers["probabilities"] = self._probabilities
        taken = {name: layer[:, :rows].cpu().numpy().copy() for name, layer in layers.items()}
        if not valid.all():
            for values in taken.values():
                values[:, ~valid] = IGNORE_INDEX if values.dtype == np.uint8 else np.nan
        return taken


def as_steps(probabilities: Tensor) -> Tensor:
    """Probabilities 0..1 as uint8 0..`STEPS`."""
    return (probabilities * STEPS).round_().clamp_(0, STEPS).to(torch.uint8)


def most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the highest along the first axis of ``(K, H, W)``: its position as uint8, and its value.

    Whole planes are compared, which is many times as fast on a CPU as `Tensor.argmax` over the first axis.
    """
    highest = probabilities[0]
    classes = torch.zeros(highest.shape, dtype=torch.uint8, device=highest.device)
    for index in range(1, len(probabilities)):
        above = probabilities[index].gt(highest).view(torch.uint8)
        torch.maximum(classes, above.mul_(index), out=classes)
        highest = torch.maximum(highest, probabilities[index])
    return classes, highest
