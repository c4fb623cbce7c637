"""Masks of single objects as run lengths: a thousand of them fit where one full-size mask would not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco


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
        """Take a mask ``(h, w)`` bool that lies at ``top, left`` of a frame; what lies outside the frame is left out.

        Args:
            mask: Pixels of the object.
            top: Row of the frame where the mask begins; may be negative.
            left: Column of the frame where the mask begins; may be negative.
            height: Rows of the frame.
            width: Columns of the frame.
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
        counts = segmentation["counts"]
        if isinstance(counts, list | tuple):
            steps = np.asarray(counts, np.int64)
        else:
            steps = _decompress(counts.encode("ascii") if isinstance(counts, str) else counts)
        marks = np.cumsum(steps)
        starts, ends = marks[0:-1:2], marks[1::2]
        full = ends > starts
        return cls(height, width, starts[full], ends[full])

    def to_coco(self) -> dict[str, Any]:
        """Give the compressed COCO form, with its counts as ASCII text."""
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

    def crop(self) -> tuple[int, int, NDArray[np.bool_]]:
        """Give top row, left column and the mask ``(h, w)`` bool of the smallest rectangle that holds the object."""
        top, left, bottom, right = self.bounds
        rows, columns = bottom - top, right - left
        # A run that goes on into the next column makes the rectangle as high as the frame, so this holds for it too.
        begins = (self.starts // max(self.height, 1) - left) * rows + self.starts % max(self.height, 1) - top
        steps = np.zeros(rows * columns + 1, np.int8)
        np.add.at(steps, begins, 1)
        np.add.at(steps, begins + self.ends - self.starts, -1)
        flat = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
        return top, left, flat.reshape(columns, rows).T

    def smallest_rectangle(self) -> NDArray[np.float64]:
        """Give the corners ``(4, 2)`` (x, y) of the smallest rectangle, at any angle, around the pixels."""
        top, left, mask = self.crop()
        columns = np.flatnonzero(mask.any(axis=0))
        first, last = mask.argmax(axis=0)[columns], len(mask) - mask[::-1].argmax(axis=0)[columns]
        # The corners of each column's outermost pixels: their centres would make it a pixel too small.
        points = np.concatenate([np.stack([columns + side, rows], 1) for side in (0, 1) for rows in (first, last)])
        corners = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32)))
        found: NDArray[np.float64] = np.asarray(corners, np.float64) + np.array((left, top))
        return found

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


def _decompress(packed: bytes) -> NDArray[np.int64]:
    """Undo COCO's text form: five bits a character, low first, differences to the count two before."""
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
