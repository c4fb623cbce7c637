"""Scores of a segmentation: one streaming confusion matrix, and everything read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geodistill.errors import DataError, check_name, counted
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.writing import json_number

NanPolicy = Literal["nan", "zero"]

PER_CLASS = {"iou": "IoU", "f1": "F1", "precision": "prec", "recall": "recall"}
"""What each class is scored by, with its heading in a table; the mean over classes is called ``m`` and the same."""

FEW_PLACES = 10
"""Places below which an interval by bootstrap over places is itself uncertain."""

_CHUNK = 1 << 20
"""Pixels counted at a time: OpenCV counts in float32, which is exact below 2 ** 24."""


class ConfusionMatrix:
    """Pixel counts by true (rows) and predicted class, ``counts (K, K)`` int64, summed over any number of images."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def update(self, prediction: NDArray[Any] | torch.Tensor, target: NDArray[Any] | torch.Tensor) -> None:
        """Count pixels.

        Args:
            prediction: Integers in 0..K-1, any shape; anything in 0..255 where the target is ignored.
            target: Integers in 0..K-1 or ``IGNORE_INDEX``, same shape.

        Raises:
            DataError: The shapes differ or a value is out of range.
        """
        if prediction.shape != target.shape:
            raise DataError(f"prediction {tuple(prediction.shape)} for labels {tuple(target.shape)}", "one shape")
        predicted, true = _flat(prediction), _flat(target)
        counts, classes = np.zeros_like(self.counts), self.classes
        for start in range(0, true.size, _CHUNK):
            part = [true[start : start + _CHUNK], predicted[start : start + _CHUNK]]
            # One pass over both arrays; twice as fast as numpy.bincount, which wants one 64-bit key a pixel.
            histogram = cv2.calcHist(part, [0, 1], None, [classes, classes], [0, classes, 0, classes])
            counts += histogram.astype(np.int64).reshape(classes, classes)
        # Out-of-range values are in no bin.
        if counts.sum() + np.count_nonzero(true == IGNORE_INDEX) != true.size:
            labelled = true != IGNORE_INDEX
            highest = max(int(predicted[labelled].max()), int(true[labelled].max()))
            raise DataError(f"class {highest} under {classes} classes", f"0 to {classes - 1}")
        self.counts += counts

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Return the counts of both together."""
        total = ConfusionMatrix(self.classes)
        total.counts = self.counts + other.counts
        return total

    def scores(self, legend: Legend, subset: Sequence[str] | None = None, nan_policy: NanPolicy = "nan") -> Scores:
        """Read the scores off the counts.

        Args:
            legend: The classes, one per row.
            subset: Names of the classes the means are taken over, by default all (for ISPRS sets: without clutter).
            nan_policy: What a score without any pixel to divide by counts as in the means: left out, or 0.

        Raises:
            DataError: The legend has another number of classes.
            UnknownNameError: A class of the subset is not in the legend.
        """
        if len(legend) != self.classes:
            raise DataError(f"a legend of {len(legend)} classes for {self.classes} rows", "one class per row")
        names = tuple(subset) if subset else legend.names
        for name in names:
            check_name("class", name, legend.names)
        hits = np.diag(self.counts).astype(np.float64)
        true, predicted = self.counts.sum(1), self.counts.sum(0)
        per_class = {
            "iou": ratio(hits, true + predicted - hits),
            "f1": ratio(2 * hits, true + predicted),
            "precision": ratio(hits, predicted),
            "recall": ratio(hits, true),
        }
        chosen = [legend.names.index(name) for name in names]
        means = {f"m{key}": _mean(values[chosen], nan_policy) for key, values in per_class.items()}
        figures: dict[str, Any] = per_class | means
        total = self.counts.sum()
        return Scores(
            names=legend.names,
            subset=names,
            support=true,
            counts=self.counts.copy(),
            oa=float(hits.sum() / total) if total else float("nan"),
            **figures,
        )


def places_drawn(places: int) -> str:
    """Return how many places an interval by bootstrap is drawn from, and that it is uncertain where they are few."""
    return counted(places, "place") + (": uncertain" if places < FEW_PLACES else "")


@dataclass(frozen=True)
class Scores:
    """Scores of one evaluation, all in 0..1, NaN where there was nothing to divide by.

    Attributes:
        names: Class names; the arrays below have one value per class.
        iou: Intersection over union.
        f1: Harmonic mean of precision and recall.
        precision: Share of predicted pixels that are right.
        recall: Share of true pixels that were found.
        support: Labelled pixels of each class.
        counts: The confusion matrix, ``(K, K)``, rows true, columns predicted.
        subset: Classes the means are taken over.
        miou: Mean of the class IoUs over the subset; likewise `mf1`, `mprecision`, `mrecall`.
        oa: Overall accuracy, trace over total, over all classes.
        interval: Ends of the 95 % interval of `miou` over groups of images; ``None`` where there are not two.
        groups: Places that the interval is drawn from (groups, or images without one); 0 without an interval.

    Example:
        >>> scores = gd.evaluate("runs/student", "manifest.parquet")
        >>> bool(0 <= scores.miou <= 1), scores.iou.shape
        (True, (2,))
    """

    names: tuple[str, ...]
    iou: NDArray[np.float64]
    f1: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    support: NDArray[np.int64]
    counts: NDArray[np.int64]
    subset: tuple[str, ...]
    miou: float
    mf1: float
    mprecision: float
    mrecall: float
    oa: float
    interval: tuple[float, float] | None = None
    groups: int = 0

    @property
    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """The arrays of `PER_CLASS` by name."""
        return {key: getattr(self, key) for key in PER_CLASS}

    @property
    def means(self) -> dict[str, float]:
        """Their means by name, such as ``miou``."""
        return {f"m{key}": getattr(self, f"m{key}") for key in PER_CLASS}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; NaN becomes ``None``."""
        means = {key: json_number(value) for key, value in (self.means | {"oa": self.oa}).items()}
        columns = self.per_class.items()
        classes = {
            name: {key: json_number(values[k]) for key, values in columns} | {"pixels": int(self.support[k])}
            for k, name in enumerate(self.names)
        }
        return {**means, "means_over": list(self.subset), "classes": classes, "confusion": self.counts.tolist()}

    def __str__(self) -> str:
        """Return an aligned table, in percent; ``-`` where there was nothing to divide by."""
        width = max(len("mean *"), *(len(name) for name in self.names))
        lines = [f"{'class':<{width}}{''.join(f'{title:>8}' for title in PER_CLASS.values())}        pixels"]
        columns = self.per_class.values()
        for index, name in enumerate(self.names):
            cells = "".join(_percent(column[index]) for column in columns)
            lines.append(f"{name:<{width}}{cells}{self.support[index]:>14,}")
        partial = len(self.subset) < len(self.names)
        means = "".join(_percent(mean) for mean in self.means.values())
        lines.append(f"{'mean *' if partial else 'mean':<{width}}{means}{self.support.sum():>14,}")
        lines.append(f"overall accuracy {_percent(self.oa).strip()}")
        if self.interval is not None:
            low, high = self.interval
            drawn = f"(95 %, {places_drawn(self.groups)})"
            lines.append(f"mean IoU of other places like these {100 * low:.1f} to {100 * high:.1f} {drawn}")
        if partial:
            lines.append(f"* over {', '.join(self.subset)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from geodistill.notebook import html_text

        return html_text(str(self))


def _percent(value: float) -> str:
    return f"{'-':>8}" if np.isnan(value) else f"{100 * value:>8.2f}"


def _flat(values: NDArray[Any] | torch.Tensor) -> NDArray[np.uint8]:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    if array.dtype != np.uint8:
        if array.size and (array.min() < 0 or array.max() > 255):
            raise DataError(f"class indices from {array.min()} to {array.max()}", "0 to 255")
        array = array.astype(np.uint8)
    flat: NDArray[np.uint8] = array.reshape(-1)
    return flat


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``part / whole``, both of one shape; NaN where there is nothing to divide by."""
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return shares


def _mean(values: NDArray[np.float64], nan_policy: NanPolicy) -> float:
    if nan_policy == "zero":
        values = np.nan_to_num(values)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
