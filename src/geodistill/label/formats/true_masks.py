"""True masks from pictures in which every object has a colour of its own (iSAID, HRSC2016's LandMask)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.label.annotated_masks import nearest
from geodistill.label.boxes import Bounds, Box, ImageBoxes
from geodistill.label.formats.detection import fold
from geodistill.label.masks import Runs
from geodistill.legend_entries import Colour
from geodistill.raster import Raster

ISAID_COLOURS: Mapping[str, Colour] = {
    "ship": (0, 0, 63),
    "storage-tank": (0, 63, 63),
    "baseball-diamond": (0, 63, 0),
    "tennis-court": (0, 63, 127),
    "basketball-court": (0, 63, 191),
    "ground-track-field": (0, 63, 255),
    "bridge": (0, 127, 63),
    "large-vehicle": (0, 127, 127),
    "small-vehicle": (0, 0, 127),
    "helicopter": (0, 0, 191),
    "swimming-pool": (0, 0, 255),
    "roundabout": (0, 191, 127),
    "soccer-ball-field": (0, 127, 191),
    "plane": (0, 127, 255),
    "harbor": (0, 100, 155),
}
"""Colour of each class in iSAID's semantic pictures, by DOTA's names."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of a picture; ``category`` is empty where no semantic picture was given."""

    runs: Runs
    category: str

    @property
    def box(self) -> Bounds:
        """xmin, ymin, xmax, ymax in pixels; the last column and row are included, so the maxima lie after them."""
        top, left, bottom, right = self.runs.bounds
        return float(left), float(top), float(right), float(bottom)


class ColourMask:
    """A picture in which every object has one colour.

    Args:
        colours: ``(3, H, W)`` uint8 RGB; black is no object.
    """

    def __init__(self, colours: NDArray[np.uint8]) -> None:
        self.height, self.width = colours.shape[1:]
        # Column by column, as COCO counts pixels.
        self._packed = _pack(colours).T.ravel()
        places = np.flatnonzero(self._packed)
        order = np.argsort(self._packed[places], kind="stable")
        self._places = places[order].astype(np.int64)
        self._values, self._firsts = np.unique(self._packed[self._places], return_index=True)
        self._ends = np.append(self._firsts[1:], len(self._places))

    @classmethod
    def load(cls, path: Path, width: int, height: int, drawn: tuple[float | None, ...] = ()) -> ColourMask:
        """Read a picture that must be of this size, or of width and height ``drawn``, which is brought to it.

        Raises:
            DataError: It is not, cannot be read, or has no colours.
        """
        return cls(_read_colours(path, width, height, drawn))

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Every colour but black, by rising value."""
        return tuple((int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in self._values)

    def pixels(self, colour: Colour) -> NDArray[np.int64]:
        """Return the numbers of a colour's pixels ``(P,)`` rising; ``(row, col)`` has the number col * H + row."""
        value = colour[0] << 16 | colour[1] << 8 | colour[2]
        at = int(np.searchsorted(self._values, value))
        if at == len(self._values) or self._values[at] != value:
            return np.zeros(0, np.int64)
        return self._places[self._firsts[at] : self._ends[at]]

    def runs(self, colour: Colour) -> Runs:
        """Return the object of a colour; no pixels where the colour does not occur."""
        pixels = self.pixels(colour)
        begins = np.diff(pixels, prepend=-2) > 1
        ends = np.diff(pixels, append=self.height * self.width + 1) > 1
        return Runs(self.height, self.width, pixels[begins], pixels[ends] + 1)


def instances_of(
    instance_file: Path,
    semantic_file: Path | None,
    width: int,
    height: int,
    colours: Mapping[str, Colour] = ISAID_COLOURS,
) -> list[Instance]:
    """Read every object of an instance picture (RGB, one colour per object, black elsewhere) with its class.

    Classes come from a semantic picture in which each has a colour, where there is one (iSAID:
    ``_instance_id_RGB.png`` and ``_instance_color_RGB.png``); both must be ``width`` x ``height``.

    Raises:
        DataError: A picture is of another size, has no colours, or an object's class is in no entry of ``colours``.
    """
    mask = ColourMask.load(instance_file, width, height)
    if semantic_file is None:
        return [Instance(mask.runs(colour), "") for colour in mask.colours]
    classes = _pack(_read_colours(semantic_file, width, height)).T.ravel()
    names = {red << 16 | green << 8 | blue: name for name, (red, green, blue) in colours.items()}
    objects = []
    for colour in mask.colours:
        values, counts = np.unique(classes[mask.pixels(colour)], return_counts=True)
        value = int(values[counts.argmax()])
        if value not in names:
            rgb = (value >> 16, value >> 8 & 255, value & 255)
            raise DataError(f"{semantic_file}: object {colour} has the colour {rgb}", "a class of the legend")
        objects.append(Instance(mask.runs(colour), names[value]))
    return objects


_LEAST_IOU = 0.5
"""Intersection over union of horizontal boxes below which an object is not the one that a box was drawn around."""


def with_true_masks(image: ImageBoxes, instances: Sequence[Instance]) -> tuple[ImageBoxes, int, int]:
    """Return each box the mask of the object that it was drawn around.

    Pairs of one class are made one to one, those that overlap most first, and none whose horizontal boxes overlap less
    than `_LEAST_IOU`. Objects without a class may belong to a box of any.

    Returns:
        The image with masks where a pair was found, the number of boxes without one, and of objects without a box.
    """
    boxes: list[Box] = list(image.boxes)
    rows, cols, iou = _overlaps([box.hbox for box in boxes], [one.box for one in instances])
    free_rows, free_cols = set(range(len(boxes))), set(range(len(instances)))
    for at in np.argsort(-iou, kind="stable").tolist():
        row, col = int(rows[at]), int(cols[at])
        if iou[at] < _LEAST_IOU:
            break
        if row in free_rows and col in free_cols and fold(instances[col].category) in ("", fold(boxes[row].category)):
            boxes[row] = replace(boxes[row], segmentation=instances[col].runs.to_coco())
            free_rows.remove(row)
            free_cols.remove(col)
    return replace(image, boxes=tuple(boxes)), len(free_rows), len(free_cols)


def _overlaps(
    first: Sequence[Bounds], second: Sequence[Bounds]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return positions of the pairs of horizontal boxes that meet, and their intersection over union."""
    a, b = np.array(first, np.float64).reshape(-1, 4), np.array(second, np.float64).reshape(-1, 4)
    rows, cols = shapely.STRtree(shapely.box(*b.T)).query(shapely.box(*a.T), "intersects")
    a, b = a[rows], b[cols]
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    return rows, cols, np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _pack(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    red, green, blue = colours.astype(np.uint32)
    packed: NDArray[np.uint32] = red << 16 | green << 8 | blue
    return packed


def _read_colours(path: Path, width: int, height: int, drawn: tuple[float | None, ...] = ()) -> NDArray[np.uint8]:
    with Raster(path) as raster:
        pixels, _ = raster.read()
    if pixels.shape[:0:-1] == drawn:
        rows, columns = nearest(height, pixels.shape[1]), nearest(width, pixels.shape[2])
        pixels = pixels[:, rows[:, None], columns]
    if pixels.shape[1:] != (height, width):
        raise DataError(f"{path} is {pixels.shape[2]} x {pixels.shape[1]}", f"{width} x {height} as its image")
    if len(pixels) < 3 or pixels.dtype != np.uint8:
        raise DataError(f"{path} has {len(pixels)} bands of {pixels.dtype}", "an RGB picture of 8 bits")
    colours: NDArray[np.uint8] = pixels[:3]
    return colours
