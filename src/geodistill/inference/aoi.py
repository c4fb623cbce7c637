"""``--aoi``: the part of a scene to map, as polygons of a vector file on the scene's pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.raster import Grid, Window

MOST_FEATURES = 100_000
"""Features of a file at most."""

_PARTS = 100
"""Edges are cut into at least so many parts of the file's extent: what is straight in one CRS bends in another."""

_CELLS = 128
"""Cells a side that a raster is cut into, to find where it lies in the file's CRS."""

_AROUND = 2
"""Cells around it that stay: nothing between the corners of cells lies further off."""

ROUNDING = 1e-3
"""Of a pixel: by how much reprojected corners may lie off the pixels they were drawn along."""

_GROUP = 256
"""Columns that are read or left out together."""


class ElsewhereError(DataError):
    """A scene and the area of interest do not overlap."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The area of interest in a raster's pixels.

    Attributes:
        polygons: Its parts, in columns and rows.
        window: The rectangle of whole pixels around them, within the raster.
        digest: Of all that follows from it.
    """

    polygons: NDArray[Any]
    window: Window
    digest: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", shapely.STRtree(self.polygons))

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return ``(H, W)`` bool: whether the centre of each pixel of a rectangle lies in the area."""
        touching = self._touching(window)
        if not len(touching):
            return np.zeros((window.height, window.width), bool)
        place = Affine.translation(window.col, window.row)
        shape = (window.height, window.width)
        burnt: NDArray[np.uint8] = rasterize(self.polygons[touching], out_shape=shape, transform=place, dtype=np.uint8)
        return burnt.astype(bool)

    def pieces(self, window: Window, reach: int) -> Iterator[Window]:
        """Yield the parts of a rectangle, column by column, that hold pixels within ``reach`` of the area."""
        begin = None
        last = window.col + window.width
        edges = [window.col, *range((window.col // _GROUP + 1) * _GROUP, last, _GROUP)]
        for left in [*edges, last]:
            right = min((left // _GROUP + 1) * _GROUP, last)
            near = left < last and len(
                self._touching(
                    Window(window.row - reach, left - reach, window.height + 2 * reach, right - left + 2 * reach)
                )
            )
            if near and begin is None:
                begin = left
            if not near and begin is not None:
                yield Window(window.row, begin, window.height, left - begin)
                begin = None

    def _touching(self, window: Window) -> NDArray[np.int64]:
        box = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        tree: Any = getattr(self, "_tree")  # noqa: B009 - made by a frozen class
        positions: NDArray[np.int64] = np.sort(tree.query(box, predicate="intersects"))
        return positions


def outline_on(grid: Grid, path: Path | str, source: str) -> Outline:
    """Return the area of a vector file on a raster's grid.

    Raises:
        DataError: The file cannot be read, has no polygons or no CRS; the raster does not say where it lies, or lies
            elsewhere.
    """
    if grid.crs is None or grid.transform.is_identity:
        raise DataError(f"{source} has no CRS and transform", "a scene that says where it lies, for --aoi")
    try:
        stat = Path(path).stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", "a vector file of polygons") from error
    stamp = (stat.st_size, stat.st_mtime_ns)
    return _clipped(grid.crs.to_wkt(), grid.transform, grid.height, grid.width, str(path), stamp, source)


@lru_cache(maxsize=4)
def _clipped(
    crs: str, transform: Affine, height: int, width: int, path: str, stamp: tuple[int, int], source: str
) -> Outline:
    """Clip the polygons of a file to a raster; once for all who ask, since there may be many."""
    table = _read(path, stamp)
    near = _cut(table.geometry.to_numpy(), _surroundings(table.crs, crs, transform, height, width))
    moved = table.set_geometry(near).to_crs(crs).geometry.to_numpy()
    a = ~transform
    pixels = shapely.transform(moved, lambda xy: np.c_[a.a * xy[:, 0] + a.b * xy[:, 1] + a.c,
                                                       a.d * xy[:, 0] + a.e * xy[:, 1] + a.f])  # fmt: skip
    pixels = shapely.make_valid(pixels[np.isfinite(shapely.bounds(pixels)).all(1)])
    frame = shapely.box(0, 0, width, height)
    inside = shapely.intersection(pixels, frame)
    inside = inside[shapely.area(inside) > 0]
    for at in np.flatnonzero(shapely.get_type_id(inside) == shapely.GeometryType.GEOMETRYCOLLECTION):
        parts = shapely.get_parts(inside[at])  # lines among them, where an edge runs along the frame, have no pixels
        inside[at] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    if not len(inside):
        raise ElsewhereError(
            f"{path} and {source} do not overlap", "an area inside the scene", "look at both in one map"
        )
    left, top, right, bottom = shapely.total_bounds(inside)
    row, col = math.floor(top + ROUNDING), math.floor(left + ROUNDING)
    window = Window(row, col, math.ceil(bottom - ROUNDING) - row, math.ceil(right - ROUNDING) - col)
    digest = hashlib.sha256(b"".join(shapely.to_wkb(inside))).hexdigest()
    return Outline(inside, window, digest)


def _surroundings(file_crs: Any, crs: str, transform: Affine, height: int, width: int) -> NDArray[Any]:
    """Return rectangles in a file's CRS that hold all of a raster, one for each turn of longitudes.

    None where the file's CRS knows no place for it.
    """
    cols, rows = np.meshgrid(np.linspace(0, width, _CELLS + 1), np.linspace(0, height, _CELLS + 1))
    to_raster = pyproj.Transformer.from_crs(file_crs, crs, always_xy=True)
    there = transform @ (cols.ravel(), rows.ravel())
    x, y = to_raster.transform(there[0], there[1], direction="INVERSE")
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return np.array([])
    x, y, starts = x[known], y[known], [0.0]
    if file_crs.is_geographic:  # the raster lies in all but the widest gap between its longitudes
        turn = math.tau / file_crs.axis_info[0].unit_conversion_factor
        x = np.sort(x % turn)
        gaps = np.diff(x, append=x[0] + turn)
        widest = int(gaps.argmax())
        x = x[(widest + 1) % len(x)] + np.array([0, turn - gaps[widest]])
        starts = [-turn, 0.0, turn]
    along, down = (_AROUND / _CELLS * np.ptp(values) for values in (x, y))
    west, east = x.min() - along, x.max() + along
    if len(starts) > 1 and east - west >= turn:
        west, east, starts = -turn, turn, [0.0]
    boxes = [shapely.box(west + start, y.min() - down, east + start, y.max() + down) for start in starts]
    return np.array(boxes)


def _cut(shapes: NDArray[Any], boxes: NDArray[Any]) -> NDArray[Any]:
    """Return polygons without what lies outside of rectangles: a raster's CRS may know no place for it, or a wrong one.

    Edges are cut into parts once more, along the rectangles too.
    """
    if not len(boxes):
        return shapes
    around, shapes = shapely.union_all(boxes), shapes.copy()
    far = ~shapely.covered_by(shapely.box(*shapely.bounds(shapes).T), around)
    left, bottom, right, top = shapely.bounds(boxes[0])
    cut = shapely.intersection(shapely.make_valid(shapes[far]), around)
    shapes[far] = shapely.segmentize(cut, max(right - left, top - bottom) / _PARTS)
    return shapes


@lru_cache(maxsize=4)
def _read(path: str, _stamp: tuple[int, int]) -> Any:
    """Read the polygons of a file, edges cut; again where it has changed."""
    import pyogrio
    import pyogrio.errors

    try:
        table = pyogrio.read_dataframe(path, columns=[], max_features=MOST_FEATURES + 1)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({str(error)[:200]})", "a vector file of polygons") from error
    if len(table) > MOST_FEATURES:
        raise DataError(f"{path} has more than {MOST_FEATURES} features", f"at most {MOST_FEATURES}")
    if hasattr(table, "geometry"):  # rows without a geometry, or with an empty one, cover nothing
        table = table[~(table.geometry.isna() | table.geometry.is_empty)]
    if not hasattr(table, "geometry") or not len(table):
        raise DataError(f"{path} has no polygons", "a vector file of polygons")
    if table.crs is None:
        raise DataError(f"{path} has no CRS", "polygons that say where they lie")
    shapes = shapely.force_2d(table.geometry.to_numpy())
    polygonal = shapely.get_dimensions(shapes) == 2
    if not polygonal.all():
        raise DataError(f"{path} holds {int((~polygonal).sum())} features that are no polygons", "polygons alone")
    left, bottom, right, top = shapely.total_bounds(shapes)
    longest = max(right - left, top - bottom) / _PARTS
    return table.set_geometry(shapely.segmentize(shapes, longest) if longest > 0 else shapes)
