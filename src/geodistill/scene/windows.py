"""Where the windows of a scene lie, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.raster import Raster, Window

MAX_OVERLAP = 0.75
"""Beyond it a scene costs more than sixteen times its pixels."""


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Place windows along one axis: every pixel is covered, the last window is flush with the edge.

    Args:
        length: Pixels of the axis, at least 1.
        size: Pixels of a window.
        overlap: Smallest share of a window that its neighbour covers too, 0 to `MAX_OVERLAP`.

    Returns:
        First pixel of each window, ascending; ``[0]`` where one window covers the axis (and may reach beyond it).
    """
    if length <= size:
        return [0]
    stride = max(int(size * (1 - overlap)), 1)
    count = -(-(length - size) // stride) + 1
    # Spread evenly: as many windows as the overlap asks for, and none of them nearly doubles its neighbour.
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


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

    def read_rows(self, first: int, last: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read rows ``first`` to before ``last`` as ``(C, rows, width)`` float32 and ``(rows, width)`` validity.

        What lies beyond the area is 0 and not valid, as are pixels without data.
        """
        height = self.window.height
        rows, cols = max(min(last, height) - first, 0), min(width, self.window.width)
        image = np.zeros((self.raster.channels, last - first, width), np.float32)
        valid = np.zeros((last - first, width), bool)
        if rows:
            part = Window(self.window.row + first, self.window.col, rows, cols)
            pixels: NDArray[Any]
            pixels, seen = self.raster.read(part)
            image[:, :rows, :cols] = np.where(seen, pixels, 0)
            valid[:rows, :cols] = seen
        return image, valid
