"""Strata of a map: a stratum for each class, and one for the pixels beside another class where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.inference.map_file import STRIP, haloed_strips
from geodistill.raster.grid import Grid
from geodistill.raster.ground import Ground
from geodistill.spec import IGNORE_INDEX

BOUNDARY = "boundary"
"""Name of the stratum of pixels beside another class."""


@dataclass(frozen=True)
class StratumStrip:
    """Some whole rows of a map.

    Attributes:
        top: First row.
        classes: ``(rows, W)`` uint8 classes of the map, `IGNORE_INDEX` without data.
        strata: ``(rows, W)`` uint8: the class, the number of classes for the boundary, `IGNORE_INDEX` without data.
        areas: Square metres of each pixel, broadcasting to ``(rows, W)``.
    """

    top: int
    classes: NDArray[np.uint8]
    strata: NDArray[np.uint8]
    areas: NDArray[np.float64]


def stratum_strips(path: Path | str, grid: Grid, ground: Ground, count: int, boundary: int) -> Iterator[StratumStrip]:
    """Yield the rows of a map of ``count`` classes with their strata, in flat memory.

    Args:
        path: The map.
        grid: Its grid.
        ground: The same grid on the ground.
        count: Its classes, at most 254.
        boundary: Pixels nearer than so many to a pixel of another class are the boundary; 0 for no such stratum.

    Raises:
        DataError: The map is truncated or corrupt.
    """
    for top, first, rows in haloed_strips(path, grid, boundary):
        height = min(STRIP, grid.height - top)
        here = slice(first, first + height)
        strata = rows[here].copy()
        if boundary:
            strata[near_another(rows, boundary)[here]] = count
        yield StratumStrip(top, rows[here], strata, ground.pixel_areas(top, height))


def near_another(classes: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """Return which pixels with data have a pixel of another class within ``distance`` rows and columns.

    Where all classes around are one, the least and the largest of them are the same.
    """
    around = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    least = cv2.erode(classes, around)  # what has no data is the largest value
    largest = cv2.dilate(np.where(classes == IGNORE_INDEX, 0, classes + 1).astype(np.uint8), around)
    different: NDArray[np.bool_] = (classes != IGNORE_INDEX) & (least.astype(np.int16) + 1 != largest)
    return different
