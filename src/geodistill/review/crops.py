"""What a reviewer sees of an object: the image around it, outlines of mask and box in pixels of the tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio import Affine

from geodistill.label.masks import Mask, Runs
from geodistill.label.pixels import read_tiles
from geodistill.label.tiles import ImageTask
from geodistill.raster import Raster, Window

MARGINS = (0.4, 1.0, 2.5, 6.0)
"""Levels of zoom, nearest first: how much is seen around an object, as a share of its longer side."""

LEAST = 24
"""Pixels seen around an object at least, at the nearest level; twice as many at each further one."""

MOST = 2048
"""Side in pixels of what is read for a picture."""

SHOWN = 1024
"""Side in pixels of a picture."""


def crop_windows(instance: Mapping[str, Any], window: Window) -> list[Window]:
    """Return what each level of zoom shows around an object, in pixels of its tile ``window``."""
    left, top, right, bottom = _extent(instance)
    longer = max(right - left, bottom - top)
    middle = ((left + right) / 2, (top + bottom) / 2)
    windows = []
    for level, margin in enumerate(MARGINS):
        side = int(min(longer + 2 * max(margin * longer, LEAST * 2**level), MOST))
        width, height = min(side, window.width), min(side, window.height)
        col = int(np.clip(middle[0] - width / 2, 0, window.width - width))
        row = int(np.clip(middle[1] - height / 2, 0, window.height - height))
        windows.append(Window(row, col, height, width))
    return windows


def _extent(instance: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of mask, where there is one, and box together."""
    bounds = [instance[name] for name in ("bbox", "annotated_bbox") if name in instance]
    parts = [(x, y, x + wide, y + high) for x, y, wide, high in bounds]
    low, high = np.min(parts, axis=0), np.max(parts, axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def read_crop(task: ImageTask, tile: Window, part: Window, bands: tuple[int, ...] | None) -> bytes:
    """Return a part of a tile as the segmenter sees it, as JPEG, of `SHOWN` pixels at most.

    Raises:
        DataError: The image cannot be read.
    """
    window = Window(tile.row + part.row, tile.col + part.col, part.height, part.width)
    with Raster(task.image) as raster:
        rgb = next(iter(read_tiles(raster, [window], bands))).rgb
    scale = SHOWN / max(part.height, part.width)
    if scale < 1:
        size = (max(round(part.width * scale), 1), max(round(part.height * scale), 1))
        rgb = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    encoded: bytes = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[
        1
    ].tobytes()
    return encoded


def runs_path(runs: Mapping[str, Any]) -> str:
    """Return the edges of an object's pixels as the path of an SVG, in pixels of its frame."""
    return mask_path(Runs.from_coco(runs).crop())


def mask_path(mask: Mask) -> str:
    """Return the edges of a mask's pixels as the path of an SVG, in pixels of its frame."""
    if not mask.pixels.any():
        return ""
    place = Affine.translation(mask.left, mask.top)
    pixels = mask.pixels.astype(np.uint8)
    shapes = rasterio.features.shapes(pixels, mask=mask.pixels, transform=place)
    return "".join(polygon_path(np.array(ring)[:-1]) for shape, _ in shapes for ring in shape["coordinates"])


def polygon_path(polygon: NDArray[np.float64]) -> str:
    """Return a polygon ``(V, 2)`` as the path of an SVG."""
    return "M" + "L".join(f"{x:.6g} {y:.6g}" for x, y in polygon.tolist()) + "Z"
