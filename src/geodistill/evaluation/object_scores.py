"""Scores of objects and boundaries over a split, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.errors import DataError, RecipeError, check_name
from geodistill.evaluation.intervals import interval, resample
from geodistill.evaluation.object_counts import COLUMNS, THRESHOLDS, count_objects
from geodistill.evaluation.results import OBJECTS
from geodistill.files import write_json
from geodistill.metrics import ratio
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.writing import aligned, json_number

Figures = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ObjectScores:
    """Scores of the objects of some classes, 0..1, NaN where there was nothing to divide by.

    Attributes:
        names: The classes.
        metres: Distance from a boundary that counts as near.
        figures: ``(K,)`` by name: ``precision``, ``recall`` and ``f1`` of objects at an IoU over 0.5, ``f1_averaged``
            over 0.5 to 0.95, ``pq`` (panoptic quality), ``boundary_iou`` and ``boundary_f1``.
        intervals: ``(2, K)`` by name, of 95 %, by bootstrap over groups of images; empty under two groups.
        true: True objects of each class.
    """

    names: tuple[str, ...]
    metres: float
    figures: Figures
    intervals: Figures
    true: NDArray[np.int64]

    def rows(self) -> list[dict[str, Any]]:
        """Return for each class its figures with the ends of their intervals, ``None`` where there is none."""
        rows = []
        for at, name in enumerate(self.names):
            row: dict[str, Any] = {"name": name, "objects": int(self.true[at])}
            for key, values in self.figures.items():
                row[key] = json_number(values[at])
                low, high = self.intervals[key][:, at] if self.intervals else (np.nan, np.nan)
                row[f"{key}_low"], row[f"{key}_high"] = json_number(low), json_number(high)
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {"boundary_metres": self.metres, "classes": self.rows()}

    def write(self, out: Path | str) -> None:
        """Write ``objects.json`` among the results of an evaluation.

        Raises:
            OutputError: It cannot be written.
        """
        write_json(Path(out) / OBJECTS, self.to_dict())

    def __str__(self) -> str:
        heads = {"f1_averaged": "f1 averaged", "boundary_iou": "boundary IoU", "boundary_f1": "boundary f1"}
        cells = [["objects of", "true", *(heads.get(key, key) for key in self.figures)]]
        for row in self.rows():
            shown = [_shown(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in self.figures]
            cells.append([row["name"], str(row["objects"]), *shown])
        return "\n".join([*aligned(cells), f"boundaries at {self.metres:g} m"])


class ObjectScoring:
    """Watches `evaluate` and counts the objects of each image; memory is that of an image's classes and labels.

    Args:
        classes: Names of the classes whose objects are scored.
        metres: Distance from a boundary that counts as near.

    Raises:
        RecipeError: There is no class, or the distance is not above 0.
    """

    def __init__(self, classes: Sequence[str], metres: float) -> None:
        if not classes or not metres > 0:
            raise RecipeError(f"objects of {len(classes)} classes at {metres} metres", "a class, and metres above 0")
        self._names, self._metres = tuple(dict.fromkeys(classes)), metres
        self._counts: dict[str, NDArray[np.float64]] = {}
        self._indices: list[int] = []

    def check(self, legend: Legend) -> None:
        """Refuse classes that are not scored.

        Raises:
            UnknownNameError: One is not.
        """
        for name in self._names:
            check_name("class", name, legend.names)
        self._indices = [legend.names.index(name) for name in self._names]

    def begin(self, row: Row) -> None:
        """Begin an image.

        Raises:
            DataError: Its ground sampling distance is not known.
        """
        if row.gsd is None:
            raise DataError(
                f"{row.image} has no ground sampling distance",
                "one, for a distance in metres",
                "georeference the image, or leave --objects out",
            )
        shape = (row.window.height, row.window.width)
        self._distance = self._metres / row.gsd
        self._pixels = [np.full(shape, IGNORE_INDEX, np.uint8) for _ in range(2)]

    def add(self, first: int, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Take in ``(rows, W)`` classes and labels from a row on."""
        for whole, rows in zip(self._pixels, (prediction, truth), strict=True):
            whole[first : first + len(rows)] = rows

    def end(self, row: Row) -> None:
        """Count the objects of the image that was begun."""
        key = row.place
        counts = count_objects(self._pixels[0], self._pixels[1], self._indices, self._distance)
        self._counts[key] = self._counts.get(key, 0) + counts

    def scores(self) -> ObjectScores:
        """Return the scores over all images, with intervals by bootstrap over groups (an image without one is one)."""
        sums = np.stack(list(self._counts.values()))
        total = sums.sum(0)
        intervals: Figures = {}
        if len(sums) > 1:
            none = (np.nan, np.nan)
            drawn = object_figures(resample(sums))
            intervals = {key: np.array([interval(v) or none for v in values.T]).T for key, values in drawn.items()}
        return ObjectScores(self._names, self._metres, object_figures(total), intervals, total[:, 0].astype(np.int64))


def object_figures(counts: NDArray[np.float64]) -> Figures:
    """Return the figures of ``(..., K, COLUMNS)`` counts, each ``(..., K)``."""
    column = {name: counts[..., at] for at, name in enumerate(COLUMNS)}
    true, hits, wrong = column["true"], column["hits_0.50"], column["false_0.50"]
    averaged = [
        ratio(2 * column[f"hits_{t:.2f}"], column[f"hits_{t:.2f}"] + column[f"false_{t:.2f}"] + true)
        for t in THRESHOLDS
    ]
    precision = ratio(column["near_predicted"], column["contour_predicted"])
    recall = ratio(column["near_true"], column["contour_true"])
    # Where one of them has no boundary at all, the other's are all wrong or all missed.
    agreement = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
    return {
        "precision": ratio(hits, hits + wrong),
        "recall": ratio(hits, true),
        "f1": averaged[0],
        "f1_averaged": np.mean(averaged, axis=0),
        "pq": ratio(2 * column["iou"], hits + wrong + true),
        "boundary_iou": ratio(column["common_band"], column["joint_band"]),
        "boundary_f1": np.where(column["contour_predicted"] + column["contour_true"] > 0, agreement, np.nan),
    }


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.2f}-{high:.2f})"
