"""Masks of single objects: a cropped array as a segmenter gives it, run lengths to keep, and polygons filled.

A thousand run-length masks fit into memory where one mask of the full size would not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from geodistill.raster import Window


@dataclass(frozen=True, eq=False)
class Mask:
    """The mask of one object in a frame, such as a tile: False everywhere outside its crop.

    Attributes:
        left: Column of the frame where the crop begins; may be negative.
        top: Row of the frame where the crop begins; may be negative.
        pixels: ``(h, w)`` bool; ``(0, 0)`` where no pixel belongs to the object.
        score: A segmenter's own estimate of the mask's quality, 0 to 1 (SAM: predicted IoU; not calibrated).
    """

    left: int
    top: int
    pixels: NDArray[np.bool_]
    score: float = 1.0

    @classmethod
    def tight(cls, pixels: NDArray[np.bool_], left: int, top: int, score: float) -> Mask:
        """Return the mask of pixels ``(h, w)`` bool at ``left, top``, cropped to those that belong to the object."""
        column, row, columns, rows = cv2.boundingRect(pixels.view(np.uint8))
        part = np.ascontiguousarray(pixels[row : row + rows, column : column + columns])
        return cls(left + column, top + row, part, score)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the crop covers; the crop must lie inside the frame."""
        rows, columns = self.pixels.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)

    def within(self, height: int, width: int) -> Mask:
        """Return the mask without what lies outside a frame of ``height`` x ``width`` pixels."""
        rows, columns = self.pixels.shape
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = max(min(self.top + rows, height), top), max(min(self.left + columns, width), left)
        part = self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return replace(self, left=left, top=top, pixels=part)

    def runs(self, height: int, width: int) -> Runs:
        """Return the run lengths in a frame of ``height`` x ``width`` pixels; the score is lost."""
        return Runs.of(self.pixels, self.top, self.left, height, width)


@dataclass(frozen=True, eq=False)
class Runs:
    """The pixels of one object in a frame, column by column as COCO counts them.

    Attributes:
        height: Rows of the frame.
        width: Columns of the frame.
        starts: ``(R,)`` int64, first pixel of each run; pixel ``(row, col)`` has the number ``col * height + row``.
        ends: ``(R,)`` int64, the pixel after each run; runs are sorted and do not touch.
    """

    height: int
    width: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> Runs:
        """Take a mask ``(h, w)`` bool that begins at row ``top`` and column ``left`` of a frame, both perhaps negative.

        What lies outside the frame of ``height`` x ``width`` pixels is left out.
        """
        mask = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
        top, left = max(top, 0), max(left, 0)
        # A row of False above and below makes every run begin and end inside its own column.
        edges = np.diff(np.pad(mask, ((1, 1), (0, 0))).T.astype(np.int8), axis=1)
        columns, rows = np.nonzero(edges == 1)
        starts = (left + columns) * height + top + rows
        columns, rows = np.nonzero(edges == -1)
        ends = (left + columns) * height + top + rows
        # A run down to the last row goes on where the next column begins with one.
        joined = starts[1:] == ends[:-1]
        return cls(height, width, starts[np.r_[True, ~joined][: len(starts)]], ends[np.r_[~joined, True][: len(ends)]])

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, Any]) -> Runs:
        """Read a COCO run-length mask ``{"size": [height, width], "counts": bytes, text or numbers}``."""
        height, width = (int(side) for side in segmentation["size"])
        marks = np.cumsum(run_lengths(segmentation["counts"]))
        starts, ends = marks[0:-1:2], marks[1::2]
        full = ends > starts
        return cls(height, width, starts[full], ends[full])

    def to_coco(self) -> dict[str, Any]:
        """Return the compressed COCO form, with its counts as ASCII text."""
        marks = np.stack([self.starts, self.ends], axis=1).ravel()
        counts = np.diff(marks, prepend=0, append=self.height * self.width).tolist()
        if counts and not counts[-1]:
            counts.pop()  # an object that ends with the frame has no background after it
        packed = coco.frPyObjects({"size": [self.height, self.width], "counts": counts}, self.height, self.width)
        return {"size": [self.height, self.width], "counts": packed["counts"].decode("ascii")}

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.ends - self.starts).sum())

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """First row, first column, and the row and column after the last; four zeros where empty."""
        if not len(self.starts):
            return 0, 0, 0, 0
        left, right = int(self.starts[0]) // self.height, (int(self.ends[-1]) - 1) // self.height + 1
        first, last = self.starts % self.height, (self.ends - 1) % self.height
        # A run that goes on into the next column touches the last row and the first.
        if ((self.ends - 1) // self.height > self.starts // self.height).any():
            return 0, left, self.height, right
        return int(first.min()), left, int(last.max()) + 1, right

    def crop(self) -> Mask:
        """Return the pixels of the smallest rectangle that holds the object.

        With ``rows = 3``, the runs of a crop are laid out column by column, +1 where one begins and -1 where it ends;
        the running sum is 1 inside a run and 0 elsewhere, and a reshape makes columns of it::

            pixel   0  1  2 | 3  4  5 | 6  7  8        0 3 6      . # #
            steps   .  + -  | +  .  . | .  - .    ->   1 4 7  ->  # # .
            sum     0  1  0 | 1  1  1 | 1  0  0        2 5 8      . # .
        """
        top, left, bottom, right = self.bounds
        rows, columns = bottom - top, right - left
        # A run that goes on into the next column makes the rectangle as high as the frame, so this holds for it too.
        begins = (self.starts // max(self.height, 1) - left) * rows + self.starts % max(self.height, 1) - top
        steps = np.zeros(rows * columns + 1, np.int8)
        np.add.at(steps, begins, 1)
        np.add.at(steps, begins + self.ends - self.starts, -1)
        flat = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
        return Mask(left, top, flat.reshape(columns, rows).T)

    def smallest_rectangle(self) -> NDArray[np.float64]:
        """Return the corners ``(4, 2)`` (x, y) of the smallest rectangle, at any angle, around the pixels."""
        crop = self.crop()
        mask = crop.pixels
        columns = np.flatnonzero(mask.any(axis=0))
        first, last = mask.argmax(axis=0)[columns], len(mask) - mask[::-1].argmax(axis=0)[columns]
        # The corners of each column's outermost pixels: their centres would make it a pixel too small.
        points = np.concatenate([np.stack([columns + side, rows], 1) for side in (0, 1) for rows in (first, last)])
        corners = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
        placed: NDArray[np.float64] = np.asarray(corners, np.float64) + np.array((crop.left, crop.top))
        return placed

    def overlap(self, other: Runs) -> int:
        """Count the pixels that lie in both; the frames must be equal."""
        if not len(self.starts) or not len(other.starts):
            return 0
        return self.area + other.area - _union(self, other)


def _union(first: Runs, second: Runs) -> int:
    """Pixels in either: the sum of the gaps between merged marks at which at least one run is open."""
    marks = np.concatenate([first.starts, second.starts, first.ends, second.ends])
    steps = np.r_[np.ones(len(first.starts) + len(second.starts)), -np.ones(len(first.ends) + len(second.ends))]
    order = np.argsort(marks, kind="stable")
    open_runs = np.cumsum(steps[order])[:-1]
    return int(np.diff(marks[order])[open_runs > 0].sum())


def run_lengths(counts: Any) -> NDArray[np.int64]:
    """Return ``(R,)`` how long the runs of a COCO mask are, by turns outside and inside: bytes, text or numbers."""
    if isinstance(counts, list | tuple):
        return np.asarray(counts, np.int64)
    return _decompress(counts.encode("ascii") if isinstance(counts, str) else counts)


def _decompress(packed: bytes) -> NDArray[np.int64]:
    """Undo COCO's text form: five bits per character, low first, differences to the count two before."""
    counts: list[int] = []
    value, shift = 0, 0
    for character in packed:
        part = character - 48
        value |= (part & 31) << shift
        shift += 5
        if not part & 32:
            if part & 16:
                value |= -1 << shift
            if len(counts) > 2:
                value += counts[-2]
            counts.append(value)
            value, shift = 0, 0
    return np.asarray(counts, np.int64)


def crop_runs(runs: Runs, window: Window) -> Runs:
    """Return the part of an object inside a window, in the window's frame, without painting the image."""
    first = max(window.col * runs.height, 0)
    last = min(window.col + window.width, runs.width) * runs.height
    begin = int(np.searchsorted(runs.ends, first, "right"))
    end = int(np.searchsorted(runs.starts, last, "left"))
    starts, ends = runs.starts[begin:end].clip(first, None), runs.ends[begin:end].clip(None, last)
    # A run may go on through several columns: one piece per column, then each is cut to the window's rows.
    firsts, lasts = starts // runs.height, (ends - 1) // runs.height
    pieces = lasts - firsts + 1
    which = np.repeat(np.arange(len(starts)), pieces)
    columns = firsts[which] + np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    tops = np.maximum(starts[which] - columns * runs.height, max(window.row, 0))
    bottoms = np.minimum(np.minimum(ends[which] - columns * runs.height, runs.height), window.row + window.height)
    kept = bottoms > tops
    base = (columns[kept] - window.col) * window.height - window.row
    new_starts, new_ends = base + tops[kept], base + bottoms[kept]
    joined = np.flatnonzero(new_starts[1:] == new_ends[:-1])
    return Runs(window.height, window.width, np.delete(new_starts, joined + 1), np.delete(new_ends, joined))


def fill_polygon(polygon: NDArray[np.float64], height: int, width: int, score: float = 1.0) -> Mask:
    """Return the pixels whose centre lies inside a polygon ``(V, 2)`` (x, y); of a smaller one the pixel it lies in."""
    low = np.clip(np.floor(polygon.min(axis=0)), 0, (max(width - 1, 0), max(height - 1, 0))).astype(int)
    high = np.clip(np.ceil(polygon.max(axis=0)), low + 1, (max(width, 1), max(height, 1))).astype(int)
    mask = centres_inside([polygon], low[0], low[1], high[1] - low[1], high[0] - low[0])
    column, row = (np.floor(polygon.mean(axis=0)) - low).astype(int)
    if not mask.any() and 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
        mask[row, column] = True
    return Mask(int(low[0]), int(low[1]), mask, score)


def centres_inside(
    rings: Sequence[NDArray[np.float64]], left: int, top: int, rows: int, columns: int
) -> NDArray[np.bool_]:
    """Return ``(rows, columns)`` bool from ``left, top``: pixels whose centre lies inside ``rings (V, 2)`` (even-odd).

    Each row is scanned at the height of its centres: an edge that crosses there counts for every centre to its right,
    and a pixel is inside where the number of edges passed is odd. This is exact, where OpenCV's filling would add the
    pixels under the outline::

        edges         |           |     |           |
        centres    .     x    x      .     x    x      .
        passed     0     1    1      2     3    3      4
    """
    x, y = (np.concatenate([ring[:, axis] for ring in rings]) - (left, top)[axis] for axis in (0, 1))
    x2, y2 = (np.concatenate([np.roll(ring[:, axis], -1) for ring in rings]) - (left, top)[axis] for axis in (0, 1))
    # The rows whose centres an edge passes, end to end in one array for all edges.
    first, last = (np.ceil(end(y, y2) - 0.5).clip(0, rows).astype(int) for end in (np.minimum, np.maximum))
    passed = last - first
    edge = np.repeat(np.arange(len(x)), passed)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(passed) - passed, passed)
    at = x[edge] + (row + 0.5 - y[edge]) * (x2 - x)[edge] / (y2 - y)[edge]
    flips = np.zeros((rows, columns + 1), np.int32)
    np.add.at(flips, (row, np.ceil(at - 0.5).clip(0, columns).astype(int)), 1)
    inside: NDArray[np.bool_] = np.cumsum(flips[:, :columns], axis=1) % 2 == 1
    return inside
