"""Where the windows of a scene lie, what they see, and how overlapping ones become one map."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError
from geodistill.raster import Grid, Raster, Window
from geodistill.raster.grid import window_starts

if TYPE_CHECKING:
    from geodistill.inference.aoi import Outline

MOST_WINDOWS = 2**20
"""Windows along one side of a scene: more than the Earth has at 0.2 m and a quarter of overlap."""


@dataclass(frozen=True)
class WindowPlan:
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
    def of(cls, height: int, width: int, size: int, overlap: float) -> WindowPlan:
        """Cover a scene with as few windows as the overlap allows, evenly spread, the last ones flush with its edges.

        Args:
            height: Rows of the scene, at least 1.
            width: Columns of the scene, at least 1.
            size: Side of a window in pixels.
            overlap: Smallest share of a window that its neighbour covers too, 0 to 0.75.

        Raises:
            DataError: There would be more than `MOST_WINDOWS` along a side.
        """
        stride = max(int(size * (1 - overlap)), 1)
        for length in (height, width):
            if (count := -(-(length - size) // stride) + 1) > MOST_WINDOWS:
                raise DataError(
                    f"a scene with a side of {length} pixels, which is {count} windows",
                    f"at most {MOST_WINDOWS}",
                    "map a part of it at a time",
                )
        tops, lefts = (tuple(window_starts(length, size, stride, "even")) for length in (height, width))
        return cls(height, width, size, tops, lefts)

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.tops) * len(self.lefts)

    def step_down(self, row: int) -> int:
        """Rows that are finished with a row of windows, since no later one covers them."""
        return self.size if row == len(self.tops) - 1 else self.tops[row + 1] - self.tops[row]

    def step_right(self, column: int) -> int:
        """Columns that are finished with a column of windows, since no later one covers them."""
        return self.size if column == len(self.lefts) - 1 else self.lefts[column + 1] - self.lefts[column]

    def reaching(self, row: int) -> int:
        """Return the first row of windows that shares pixels with row ``row`` of windows, or ``row`` itself."""
        return bisect_right(self.tops, self.tops[row] - self.size, 0, row)


@dataclass(frozen=True)
class Part:
    """A block of a WindowPlan: rows and columns of windows, from the first to before the last.

    Its pixels are those that no window of another block finishes: from the first window's start to the start of the
    window after the last, or to the edge of the scene.
    """

    first_row: int
    last_row: int
    first_column: int
    last_column: int

    @classmethod
    def whole(cls, plan: WindowPlan) -> Part:
        """Return the block of all windows."""
        return cls(0, len(plan.tops), 0, len(plan.lefts))

    def pixels(self, plan: WindowPlan) -> Window:
        """Return the pixels of the scene that this block finishes."""
        top, left = plan.tops[self.first_row], plan.lefts[self.first_column]
        bottom = plan.height if self.last_row == len(plan.tops) else plan.tops[self.last_row]
        right = plan.width if self.last_column == len(plan.lefts) else plan.lefts[self.last_column]
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Area:
    """A rectangle of an open raster, in its pixels, read as if it were a raster of its own.

    Of an ``outline`` only the pixels inside are valid; those up to ``reach`` pixels from it are read too, so that a
    network sees what is around it, and nothing else is.
    """

    raster: Raster
    window: Window
    outline: Outline | None = None
    reach: int = 0

    @classmethod
    def whole(cls, raster: Raster) -> Area:
        """Return the whole raster."""
        return cls(raster, raster.grid.whole)

    @property
    def grid(self) -> Grid:
        """Shape and georeferencing."""
        grid = self.raster.grid
        return grid if self.window == grid.whole else grid.window(self.window)

    def windows(self, size: int, overlap: float) -> WindowPlan:
        """Return the windows over the area: see `WindowPlan.of`."""
        return WindowPlan.of(self.window.height, self.window.width, size, overlap)

    def read(self, part: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a rectangle of the area as ``(C, H, W)`` in the file's dtype and ``(H, W)`` validity.

        What lies beyond the area is 0 and not valid, as are pixels without data.

        Raises:
            DataError: The file is truncated or corrupt there.
        """
        place = part.moved(self.window.row, self.window.col)
        if self.outline is None:
            return self._read(place)
        image: NDArray[Any] = np.zeros((self.raster.channels, part.height, part.width), self.raster.dtype)
        valid = np.zeros((part.height, part.width), bool)
        for piece in self.outline.pieces(place, self.reach):
            inside = piece.moved(-place.row, -place.col).slices
            image[(..., *inside)], valid[inside] = self._read(piece)
        return image, valid & self.outline.mask(place)

    def _read(self, place: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        image, valid = self.raster.read(place, within=self.window)
        if not valid.all():
            image *= valid
        return image, valid


def area_of(raster: Raster, aoi: str | None, size: int) -> Area:
    """Return what is mapped of a raster: the whole, or where a vector file says so.

    That is the rectangle around the file's polygons with a quarter of a window's ``size`` on each side, as far as there
    are pixels, and at least a window.

    Raises:
        DataError: See `outline_on`.
    """
    if aoi is None:
        return Area.whole(raster)
    from geodistill.inference.aoi import outline_on

    outline = outline_on(raster.grid, aoi, raster.source)
    rows = _around(outline.window.row, outline.window.height, raster.grid.height, size)
    cols = _around(outline.window.col, outline.window.width, raster.grid.width, size)
    return Area(raster, Window(rows[0], cols[0], rows[1], cols[1]), outline, size)


def _around(first: int, length: int, limit: int, size: int) -> tuple[int, int]:
    """Return the first pixel and the number of pixels around a range, within 0 to ``limit``."""
    taken = min(max(length + size // 2, size), limit)
    begin = min(max(first - (taken - length) // 2, 0), limit - taken)
    return begin, taken


def axis_weights(starts: Sequence[int], size: int, blend: str) -> NDArray[np.float32]:
    """Weigh each window along one axis.

    Args:
        starts: First pixel of each window.
        size: Pixels of a window.
        blend: ``cosine``: a raised cosine that is largest at the window's centre, where a network sees most around
            a pixel, and above 0 everywhere. ``none``: each pixel belongs to the one window whose centre is nearest.

    Returns:
        ``(windows, size)`` float32, 0 to 1; over the windows they sum to 1 at each pixel.
    """
    weights = np.zeros((len(starts), size))
    if blend == "cosine":
        # Hann's window, sin^2(pi (k + 1/2) / size) at pixel k, which is then divided by the sum over all windows there.
        weights[:] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    else:
        cuts = [(a + size + b) // 2 for a, b in pairwise(starts)]
        for index, start in enumerate(starts):
            first = 0 if index == 0 else cuts[index - 1] - start
            last = size if index == len(starts) - 1 else cuts[index] - start
            weights[index, first:last] = 1
    sums = np.zeros(starts[-1] + size)
    for row, start in zip(weights, starts, strict=True):
        sums[start : start + size] += row
    return np.stack([w / sums[s : s + size] for w, s in zip(weights, starts, strict=True)]).astype(np.float32)


class Blender:
    """Sums of weighted probabilities that are not finished yet.

    Windows come row by row, in a row from left to right. In memory are one window, and below it the rows that the
    next row of windows will add to: as wide as the block, and as high as windows overlap.

    The weight of window (i, j) at a pixel is the product of a weight along each axis, w_i(y) v_j(x), and along each
    axis the weights of all windows sum to 1 at every pixel (`axis_weights`). So they do in the plane, and the sum of
    weighted probabilities needs no division at the end:

        p(y, x) = sum_i w_i(y) [ sum_j v_j(x) p_ij(y, x) ]

    The bracket is formed first, along a row of windows::

        window j          window j+1
        +------+------+                       step:  finished with window j, no later one reaches it
        | step | keep |                       keep:  moves to the left end of the buffer ...
        +------+------+------+
               | keep | new  |                       ... where window j+1 adds to it
               +------+------+

    and of what is finished the upper rows add to, and the lower ones wait for, the next row of windows::

        +-------------+  rows above the next row of windows: + waiting sums -> given away
        |    done     |
        +-------------+
        |   waiting   |  rows that the next row of windows overlaps: kept, as wide as the block
        +-------------+

    Sums are always formed in this order, so that a scene cut in blocks or continued after an interruption gives the
    same bits.
    """

    def __init__(
        self, classes: int, plan: WindowPlan, part: Part, blend: str, device: torch.device | str = "cpu"
    ) -> None:
        size = plan.size
        self._plan, self._part, self._row = plan, part, part.first_row
        self._row_weights = torch.from_numpy(axis_weights(plan.tops, size, blend)).to(device)
        self._column_weights = torch.from_numpy(axis_weights(plan.lefts, size, blend)).to(device)
        self._first = plan.lefts[part.first_column]
        width = plan.lefts[part.last_column - 1] + size - self._first
        overlap = max((size - plan.step_down(i) for i in range(len(plan.tops) - 1)), default=0)
        self._waiting = torch.zeros(classes, overlap, width, device=device)
        self._waiting_rows = 0
        self._window = torch.zeros(classes, size, size, device=device)
        # Columns of the window buffer that hold sums, and those at its left that were given away.
        self._filled = self._finished = 0

    def start_row(self, row: int, edge: Tensor | None = None) -> None:
        """Begin the next row of windows; ``edge`` holds the sums left of the block, as `edge` returned them."""
        self._row, self._filled, self._finished = row, 0, 0
        if edge is not None:
            self._filled = edge.shape[2]
            self._window[:, :, : self._filled] = edge

    def add(self, column: int, probabilities: Tensor) -> None:
        """Add the window at position ``column`` of the row: ``(K, size, size)`` probabilities."""
        self._move()
        weights = self._row_weights[self._row][:, None] * self._column_weights[column][None]
        sums, filled = self._window, self._filled
        if filled:
            sums[:, :, :filled].addcmul_(probabilities[:, :, :filled], weights[:, :filled])
        torch.mul(probabilities[:, :, filled:], weights[:, filled:], out=sums[:, :, filled:])
        self._filled = self._plan.size

    def finish(self, column: int) -> Tensor:
        """End a window, added or left out for want of data, and return what no later one will add to.

        Returns:
            ``(K, rows, columns)`` probabilities: a view that holds until the next call.
        """
        self._move()
        plan, sums = self._plan, self._window
        sums[:, :, self._filled :] = 0
        done, step = plan.step_down(self._row), plan.step_right(column)
        first = plan.lefts[column] - self._first
        if self._waiting_rows:
            sums[:, : self._waiting_rows, :step] += self._waiting[:, : self._waiting_rows, first : first + step]
        if done < plan.size:
            self._waiting[:, : plan.size - done, first : first + step] = sums[:, done:, :step]
        self._filled, self._finished = plan.size, step
        return sums[:, :done, :step]

    def edge(self) -> Tensor:
        """Return the sums right of the finished columns, to which the next block adds: ``(K, size, columns)``."""
        self._move()
        return self._window[:, :, : self._filled]

    def end_row(self) -> None:
        """End the present row of windows."""
        self._waiting_rows = self._plan.size - self._plan.step_down(self._row)

    def _move(self) -> None:
        """Move what stays to the left, into the place of the columns that were given away."""
        if self._finished:
            self._filled -= self._finished
            self._window[:, :, : self._filled] = self._window[:, :, self._finished :].clone()
            self._finished = 0
