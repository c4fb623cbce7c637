"""Strata of a map: a stratum for each class, and one for the pixels beside another class where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.inference.any_map import AnyMap
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


def stratum_strips(classes: AnyMap, ground: Ground, boundary: int) -> Iterator[StratumStrip]:
    """Yield the rows of a map with their strata, in flat memory.

    Args:
        classes: The map, of at most 254 classes where the boundary is a stratum.
        ground: Its grid on the ground.
        boundary: Pixels nearer than so many to a pixel of another class are the boundary; 0 for no such stratum.

    Raises:
        DataError: The map is truncated or corrupt, or has values that mean nothing.
    """
    for top, here, rows in classes.haloed_strips(boundary):
        strata = rows[here].copy()
        if boundary:
            strata[near_another(rows, boundary)[here]] = len(classes.legend)
        yield StratumStrip(top, rows[here], strata, ground.pixel_areas(top, len(strata)))


def near_another(classes: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """Return which pixels with data have a pixel of another class within ``distance`` rows and columns.

    Where all classes around are one, the least and the largest of them are the same.
    """
    around = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    least = cv2.erode(classes, around)  # what has no data is the largest value
    largest = cv2.dilate(np.where(classes == IGNORE_INDEX, 0, classes + 1).astype(np.uint8), around)
    different: NDArray[np.bool_] = (classes != IGNORE_INDEX) & (least.astype(np.int16) + 1 != largest)
    return different
