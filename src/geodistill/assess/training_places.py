"""Places that a model was trained on, which no point of an accuracy assessment may lie in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError
from geodistill.raster import Grid, Raster
from geodistill.raster.ground import Ground

SPLITS_USED = ("train", "val")
"""Splits that training sees the labels of: val chooses the checkpoint."""


class TrainingPlaces:
    """The training and validation images of a manifest on the grid of a map.

    Args:
        manifest: The manifest, or its file.
        grid: The map's.

    Raises:
        DataError: The map or one of the images is not georeferenced, so that it cannot be said where it lies.
    """

    def __init__(self, manifest: Manifest | Path | str, grid: Grid) -> None:
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
        rows = [row for split in SPLITS_USED for row in manifest.rows(split)]
        ground = Ground(grid)
        if ground.crs is None or grid.transform.is_identity:
            raise DataError(
                "the map has no CRS with a transform",
                "one, to compare it with the manifest's images",
                "leave --manifest out where none of them lies in the map",
            )
        self._width = grid.width
        footprints = [
            place
            for image, windows in groupby(rows, lambda row: row.image)
            for place in _footprints(image, list(windows), ground.crs, grid.transform)
        ]
        box = shapely.box(0, 0, grid.width, grid.height)
        self.polygons: list[shapely.Polygon] = [place for place in footprints if place.intersects(box)]
        self._tree = shapely.STRtree(self.polygons)

    def inside(self, top: int, height: int) -> NDArray[np.bool_]:
        """Return which pixels of some rows of the map are touched by a place, ``(height, W)``."""
        near = self._tree.query(shapely.box(0, top, self._width, top + height))
        if not len(near):
            return np.zeros((height, self._width), bool)
        shapes = [(self.polygons[i], 1) for i in near.tolist()]
        moved = Affine.translation(0, top)
        touched = rasterize(shapes, (height, self._width), transform=moved, all_touched=True, dtype="uint8")
        used: NDArray[np.bool_] = touched > 0
        return used


def _footprints(image: Path, rows: Sequence[Row], crs: pyproj.CRS, transform: Affine) -> list[shapely.Polygon]:
    """Return the windows of an image as polygons in pixels of the map."""
    with Raster(image) as raster:
        ground = Ground(raster.grid)
    if ground.crs is None:
        raise DataError(
            f"{image}, an image of the manifest, is not georeferenced",
            "images whose places are known",
            "leave --manifest out where none of them lies in the map",
        )
    onto = pyproj.Transformer.from_crs(ground.crs, crs, always_xy=True)
    back = ~transform
    places = []
    for row in rows:
        window = row.window
        corners = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        # Straight sides of one CRS are curves in another.
        outline = shapely.segmentize(corners, max(window.width, window.height, 1) / 16)
        x, y = onto.transform(*ground.coordinates(np.array(outline.exterior.coords)).T)
        if np.isfinite(x).all() and np.isfinite(y).all():
            places.append(shapely.make_valid(shapely.Polygon(np.column_stack(back @ (x, y)))))
    return places
