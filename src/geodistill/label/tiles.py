"""Windows over a large image, and which boxes belong to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from geodistill.errors import RecipeError
from geodistill.label.geometry import SMALLEST, areal, outer_ring, regions
from geodistill.label.masks import Runs
from geodistill.label.records import Bounds, Box
from geodistill.raster import Window


def tile_windows(height: int, width: int, size: int | None, overlap: int) -> list[Window]:
    """Cover an image with windows, row by row; the last of a row or column is flush with the edge.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        size: Side of a window in pixels; an image smaller than that is one smaller window. ``None``: one window,
            the image.
        overlap: Pixels that neighbours share at least (the set's authors' "gap"): 200 at 1024, 150 at 600.

    Raises:
        RecipeError: The overlap is negative or not smaller than the size.
    """
    if height < 1 or width < 1:
        return []
    if size is None:
        return [Window(0, 0, height, width)]
    if size < 1 or not 0 <= overlap < size:
        raise RecipeError(f"tiles of {size} with overlap {overlap}", "a size of at least 1 and a smaller overlap")
    rows, cols = (_starts(length, size, size - overlap) for length in (height, width))
    return [Window(row, col, min(size, height), min(size, width)) for row in rows for col in cols]


def _starts(length: int, size: int, step: int) -> list[int]:
    last = max(length - size, 0)
    return [*range(0, last, step), last]


def boxes_in(boxes: Sequence[Box], window: Window, share: float) -> list[Box]:
    """Give the boxes that belong to a window, moved to its frame and clipped to it.

    Args:
        boxes: Of the image.
        window: In pixels of the image.
        share: Least part of a box's area that must lie inside, 0..1; with 0 whatever has any area inside.

    Returns:
        In the order given, index and source kept; true masks and the set's own horizontal boxes are clipped too.

    Raises:
        RecipeError: The share is not within 0..1.
    """
    if not 0 <= share <= 1:
        raise RecipeError(f"share {share:g} of a box", "0..1")
    if not boxes:
        return []
    left, top, right, bottom = window.col, window.row, window.col + window.width, window.row + window.height
    bounds = np.array([box.box for box in boxes])
    meets = (bounds[:, :2] < (right, bottom)).all(axis=1) & (bounds[:, 2:] > (left, top)).all(axis=1)
    near = [boxes[at] for at in np.flatnonzero(meets).tolist()]
    if not near:
        return []
    shapes = regions([box.polygon for box in near], [box.kind != "polygon" for box in near])
    clipped = shapely.clip_by_rect(shapes, left, top, right, bottom)
    own, inside = shapely.area(shapes), shapely.area(clipped)
    # Rounding must not lose a box that lies inside whole.
    belongs = (inside >= SMALLEST) & (inside >= share * own * (1 - 1e-9))
    return [_moved(near[at], clipped[at], window) for at in np.flatnonzero(belongs).tolist()]


def _moved(box: Box, clipped: Any, window: Window) -> Box:
    low, high = (window.col, window.row), (window.col + window.width, window.row + window.height)
    left, top, right, bottom = box.box
    polygon = box.polygon
    if left < low[0] or top < low[1] or right > high[0] or bottom > high[1]:
        polygon = outer_ring(areal(clipped))
    segmentation = box.segmentation
    if segmentation is not None and (low, high) != ((0, 0), (segmentation["size"][1], segmentation["size"][0])):
        segmentation = crop_runs(Runs.from_coco(segmentation), window).to_coco()
    horizontal = None if box.horizontal is None else _clip(box.horizontal, window)
    return replace(box, polygon=polygon - low, segmentation=segmentation, horizontal=horizontal)


def _clip(bounds: Bounds, window: Window) -> Bounds | None:
    left, top, right, bottom = bounds
    left, right = (min(max(x - window.col, 0), window.width) for x in (left, right))
    top, bottom = (min(max(y - window.row, 0), window.height) for y in (top, bottom))
    return (left, top, right, bottom) if right > left and bottom > top else None


def crop_runs(runs: Runs, window: Window) -> Runs:
    """Give the part of an object inside a window, in the window's frame, without painting the image."""
    first = max(window.col * runs.height, 0)
    last = min(window.col + window.width, runs.width) * runs.height
    begin = int(np.searchsorted(runs.ends, first, "right"))
    end = int(np.searchsorted(runs.starts, last, "left"))
    starts, ends = runs.starts[begin:end].clip(first, None), runs.ends[begin:end].clip(None, last)
    # A run may go on through several columns: one piece a column, then each is cut to the window's rows.
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
