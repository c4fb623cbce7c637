"""Scores as JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.evaluation.scoring import ImageScore
from geodistill.files import write_text
from geodistill.metrics import Scores
from geodistill.spec import Legend
from geodistill.writing import csv_text


def write_csv(path: Path, scores: Scores) -> None:
    """Write one line per class, then the means over the subset and overall accuracy; shares in 0..1.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = scores.per_class.values()
    lines: list[list[Any]] = [["class", *scores.per_class, "pixels"]]
    for index, name in enumerate(scores.names):
        lines.append([name, *(_cell(column[index]) for column in columns), int(scores.support[index])])
    lines.append(["(mean)", *map(_cell, scores.means.values()), int(scores.support.sum())])
    lines.append(["(overall accuracy)", _cell(scores.oa), *[""] * (len(columns) - 1), int(scores.support.sum())])
    _write_lines(path, lines)


def write_per_image(path: Path, images: Sequence[ImageScore], legend: Legend, subset: Sequence[str]) -> None:
    """Write one line per image: mIoU over the classes that its labels hold, OA, and the IoU of each class.

    Raises:
        OutputError: The file cannot be written.
    """
    lines: list[list[Any]] = [["image", "miou", "oa", "pixels", *(f"iou {name}" for name in legend.names)]]
    for image in images:
        scores = image.matrix.scores(legend, subset)
        cells = map(_cell, (image.miou(legend, subset), image.oa))
        lines.append([image.row.key, *cells, int(scores.support.sum()), *map(_cell, scores.iou)])
    _write_lines(path, lines)


def _write_lines(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    write_text(path, csv_text(lines))


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"
