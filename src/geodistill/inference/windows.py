"""Where the windows of a scene lie, and what they see."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.raster import Raster, Window

MAX_OVERLAP = 0.75
"""Beyond it a scene costs more than sixteen times its pixels."""

MOST_WINDOWS = 2**20
"""Windows along one side of a scene: more than the Earth has at 0.2 m and a quarter of overlap."""


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Place windows along one axis: every pixel is covered, the last window is flush with the edge.

    Args:
        length: Pixels of the axis, at least 1.
        size: Pixels of a window.
        overlap: Smallest share of a window that its neighbour covers too, 0 to `MAX_OVERLAP`.

    Returns:
        First pixel of each window, ascending; ``[0]`` where one window covers the axis (and may reach beyond it).

    Raises:
        DataError: There would be more than `MOST_WINDOWS`.
    """
    if length <= size:
        return [0]
    stride = max(int(size * (1 - overlap)), 1)
    count = -(-(length - size) // stride) + 1
    if count > MOST_WINDOWS:
        raise DataError(
            f"a scene with a side of {length} pixels, which is {count} windows",
            f"at most {MOST_WINDOWS}",
            "map a part of it at a time",
        )
    # Spread evenly: as many windows as the overlap asks for, and none of them nearly doubles its neighbour.
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class Plan:
    """The grid of windows over a scene; window (i, j) begins at row ``tops[i]``, column ``lefts[j]``.

    Attributes:
        height: Rows of the scene.
        width: Columns of the scene.
        size: Side of a window; the windows reach beyond a scene that is smaller.
        tops: First row of each row of windows.
        lefts: First column of each column of windows.
    """

    height: int
    width: int
    size: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, height: int, width: int, size: int, overlap: float) -> Plan:
        """Cover a scene of ``height`` x ``width`` with as few windows as the overlap allows.

        Raises:
            DataError: They would be too many.
        """
        tops, lefts = window_starts(height, size, overlap), window_starts(width, size, overlap)
        return cls(height, width, size, tuple(tops), tuple(lefts))

    def step_down(self, row: int) -> int:
        """Rows that are finished with a row of windows, since no later one covers them."""
        return self.size if row == len(self.tops) - 1 else self.tops[row + 1] - self.tops[row]

    def step_right(self, column: int) -> int:
        """Columns that are finished with a column of windows, since no later one covers them."""
        return self.size if column == len(self.lefts) - 1 else self.lefts[column + 1] - self.lefts[column]

    def reaching(self, row: int) -> int:
        """Give the first row of windows that shares pixels with row ``row`` of windows, or ``row`` itself."""
        return bisect_right(self.tops, self.tops[row] - self.size, 0, row)


@dataclass(frozen=True)
class Part:
    """A block of a Plan: rows and columns of windows, from the first to before the last.

    Its pixels are those that no window of another block finishes: from the first window's start to the start of the
    window after the last, or to the edge of the scene.
    """

    first_row: int
    last_row: int
    first_column: int
    last_column: int

    @classmethod
    def whole(cls, plan: Plan) -> Part:
        """Give the block of all windows."""
        return cls(0, len(plan.tops), 0, len(plan.lefts))

    def pixels(self, plan: Plan) -> Window:
        """Give the pixels of the scene that this block finishes."""
        top, left = plan.tops[self.first_row], plan.lefts[self.first_column]
        bottom = plan.height if self.last_row == len(plan.tops) else plan.tops[self.last_row]
        right = plan.width if self.last_column == len(plan.lefts) else plan.lefts[self.last_column]
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Area:
    """A rectangle of an open raster, read as if it were a raster of its own.

    Attributes:
        raster: The open file.
        window: The rectangle, in pixels of the file.
    """

    raster: Raster
    window: Window

    @classmethod
    def whole(cls, raster: Raster) -> Area:
        """Give the whole raster."""
        grid = raster.grid
        return cls(raster, Window(0, 0, grid.height, grid.width))

    def read(self, part: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a rectangle of the area as ``(C, H, W)`` in the file's dtype and ``(H, W)`` validity.

        What lies beyond the area is 0 and not valid, as are pixels without data.

        Raises:
            DataError: The file is truncated or corrupt there.
        """
        inside = part.intersection(self.window.height, self.window.width)
        image: NDArray[Any]
        if inside == part:
            image, valid = self._read_inside(part)
        else:
            image = np.zeros((self.raster.channels, part.height, part.width), self.raster.dtype)
            valid = np.zeros((part.height, part.width), bool)
            if inside.height and inside.width:
                where = Window(inside.row - part.row, inside.col - part.col, inside.height, inside.width)
                image[(..., *where.slices)], valid[where.slices] = self._read_inside(inside)
        if not valid.all():
            image *= valid
        return image, valid

    def _read_inside(self, part: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        row, col = self.window.row + part.row, self.window.col + part.col
        return self.raster.read(Window(row, col, part.height, part.width))
