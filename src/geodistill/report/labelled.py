"""What `label build` left in a folder, read back: the account of every box, and the masks that are most in doubt."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.evaluation.shown_images import class_bytes, mark_bytes, photo_bytes
from geodistill.label.accounts import Account, read_account
from geodistill.label.doubts import Shown, shown_objects
from geodistill.label.label_set import Labelled, LabelSet, load_label_set
from geodistill.label.masks import crop_runs
from geodistill.label.pixels import read_tiles
from geodistill.legend_entries import Colour
from geodistill.raster import Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend

DOUBTFUL = 24
"""Masks in doubt that are shown at most."""

BOXED: Colour = (255, 208, 0)
"""Colour of annotated boxes."""

_AROUND, _LEAST = 0.6, 24


@dataclass(frozen=True)
class Doubt:
    """A mask in doubt.

    Attributes:
        image: The name of its image in the set.
        category: Its class.
        score: The segmenter's own, 0..1.
        fill: Pixels of the mask for each of the annotated box.
        changed: Which rules changed it.
        layers: Image, mask and box, encoded; empty where the image is not at hand.
    """

    image: str
    category: str
    score: float
    fill: float
    changed: tuple[str, ...]
    layers: tuple[bytes, ...]


@dataclass(frozen=True)
class LabelledBoxes:
    """A set of labels made from boxes.

    Attributes:
        account: What became of every image and box, as ``label.json`` has it.
        legend: The classes of the masks.
        scores: Masks by score of the segmenter, in tenths.
        doubtful: The masks most in doubt, most first (`Shown.doubt`).
    """

    account: Account
    legend: Legend
    scores: tuple[int, ...]
    doubtful: tuple[Doubt, ...]


def read_labels(folder: Path) -> LabelledBoxes:
    """Read a folder of labels; its objects one by one, so that a set of millions needs no memory.

    Raises:
        DataError: It holds none, or was altered.
    """
    label_set, scores = load_label_set(folder), [0] * 10

    def counted_objects() -> Iterator[tuple[Labelled, Shown]]:
        for image, one in shown_objects(label_set):
            scores[min(max(int(10 * one.score), 0), 9)] += 1
            yield image, one

    worst = heapq.nlargest(DOUBTFUL, counted_objects(), key=lambda each: (each[1].doubt, -each[1].number))
    doubtful = tuple(_doubt(image, one, label_set) for image, one in worst)
    return LabelledBoxes(read_account(folder), label_set.legend, tuple(scores), doubtful)


def _doubt(image: Labelled, one: Shown, label_set: LabelSet) -> Doubt:
    left, top, right, bottom = one.box
    fill = one.runs.area / max((right - left) * (bottom - top), 1.0)
    layers = _layers(image, one, label_set) if image.image.is_file() else ()
    return Doubt(image.name, label_set.legend.names[one.value], one.score, fill, one.changed, layers)


def _layers(image: Labelled, one: Shown, label_set: LabelSet) -> tuple[bytes, ...]:
    """Cut a mask out with what is around it: image, mask, and the outline of its box; nothing where it is outside."""
    left, top, right, bottom = one.box
    margin = max(_AROUND * max(right - left, bottom - top), _LEAST)
    rows = [round(min(max(row, 0), image.height)) for row in (top - margin, bottom + margin)]
    cols = [round(min(max(col, 0), image.width)) for col in (left - margin, right + margin)]
    view = Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])
    if min(view.height, view.width) < 1:
        return ()
    with Raster(image.image) as raster:
        (tile,) = read_tiles(raster, [view], label_set.bands)
    crop = crop_runs(one.runs, view).crop()
    mask = np.full((view.height, view.width), IGNORE_INDEX, np.uint8)
    mask[crop.place][crop.pixels] = one.value
    return photo_bytes(tile.rgb), class_bytes(mask, label_set.legend), mark_bytes(_outline(one, view), BOXED)


def _outline(one: Shown, view: Window) -> NDArray[np.bool_]:
    """Return the pixels of a view that the sides of an annotated box run through."""
    left, top, right, bottom = one.box
    rows = np.clip([top - view.row, bottom - view.row], 0, view.height - 1).astype(int)
    cols = np.clip([left - view.col, right - view.col], 0, view.width - 1).astype(int)
    outline = np.zeros((view.height, view.width), bool)
    outline[rows[0] : rows[1] + 1, cols] = True
    outline[rows, cols[0] : cols[1] + 1] = True
    return outline
