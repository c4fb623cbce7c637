"""The floor: an object is its annotated shape, filled. No image is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from geodistill.label.prompts import Prompts
from geodistill.label.records import rectangle
from geodistill.label.segmenters.base import CroppedMask, Embedding


class BoxSegmenter:
    """Fills the annotated polygon or oriented box; without one the mask prompt, the box or the pixel of the point."""

    name = "box"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Keep the sizes of images ``(H, W, 3)``."""
        return [Embedding(image.shape[0], image.shape[1]) for image in images]

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[CroppedMask]:
        """Give the filled shapes, each with score 1."""
        for shape in shapes_of(prompts):
            yield fill(shape, embedding.height, embedding.width)


def shapes_of(prompts: Prompts) -> Sequence[NDArray[np.float64]]:
    """Give one polygon ``(V, 2)`` an object: the best that is known of its shape."""
    for polygons in (prompts.outlines, prompts.polygons):
        if polygons is not None:
            return polygons
    if prompts.boxes is not None:
        return [rectangle(*box) for box in prompts.boxes.tolist()]
    assert prompts.points is not None
    return [np.repeat(point[None].astype(np.float64), 3, axis=0) for point in prompts.points]


def fill(polygon: NDArray[np.float64], height: int, width: int) -> CroppedMask:
    """Fill a polygon ``(V, 2)`` (x, y) in a frame of ``height`` x ``width`` pixels.

    A pixel belongs to it if its centre does; a polygon too small for any has the pixel it lies in.
    """
    polygon = np.clip(polygon, 0, (width, height))
    low = np.floor(polygon.min(axis=0)).astype(int)
    high = np.ceil(polygon.max(axis=0)).astype(int)
    columns, rows = high - low
    if rows < 1 or columns < 1:
        mask = np.zeros((max(rows, 0), max(columns, 0)), bool)
    else:
        ring = [*polygon.tolist(), polygon[0].tolist()]
        shape = ({"type": "Polygon", "coordinates": [ring]}, 1)
        place = Affine.translation(*low.tolist())
        mask = rasterize([shape], out_shape=(rows, columns), transform=place, dtype="uint8").astype(bool)
    if not mask.any():
        column, row = np.minimum(polygon.mean(axis=0), (width - 1, height - 1)).astype(int).tolist()
        return CroppedMask(column, row, np.ones((1, 1), bool), 1.0)
    return CroppedMask(int(low[0]), int(low[1]), mask, 1.0)


def trim(mask: NDArray[np.bool_], left: int, top: int, score: float) -> CroppedMask:
    """Cut a mask ``(h, w)`` that lies at ``left, top`` down to the pixels that belong to it."""
    column, row, columns, rows = cv2.boundingRect(mask.view(np.uint8))
    part = np.ascontiguousarray(mask[row : row + rows, column : column + columns])
    return CroppedMask(left + column, top + row, part, score)
