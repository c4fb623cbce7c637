"""Polygons in pixels of an image: their areas, what lies of them inside a rectangle, and the pixels that they fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pycocotools import mask as coco
from rasterio.features import rasterize
from rasterio.transform import Affine

from geodistill.label.masks import Mask, Runs

Shapes = NDArray[np.object_]
"""``(N,)`` shapely polygons."""
SMALLEST = 1e-4
"""Square pixels; what is smaller has no area: a hundredth of a pixel squared, far above the noise of reprojection."""
FAR = 1e8
"""Pixels; coordinates beyond are on no image, and would overflow in the arithmetic of overlays."""


def bounds_of(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return ``(N, 4)`` float64: xmin, ymin, xmax, ymax of each polygon ``(V, 2)``; NaN where a vertex is NaN."""
    if not polygons:
        return np.zeros((0, 4))
    vertices = np.concatenate(polygons)
    firsts = np.cumsum([0, *(len(polygon) for polygon in polygons[:-1])])
    with np.errstate(invalid="ignore"):
        low, high = np.minimum.reduceat(vertices, firsts), np.maximum.reduceat(vertices, firsts)
    return np.concatenate([low, high], axis=1)


def hulls(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Return the convex hull of each polygon: the region of a box, in whatever order its corners are written."""
    return np.asarray(shapely.convex_hull(_joined(shapely.linestrings, polygons)), object)


def outlines(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Return each polygon as it is, mended where it crosses itself."""
    shapes = np.asarray(shapely.polygons(_joined(shapely.linearrings, polygons)), object)
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def regions(polygons: Sequence[NDArray[np.float64]], boxes: Sequence[bool]) -> Shapes:
    """Return the region of each polygon: the hull where ``boxes`` says that it is a box, else its outline."""
    shapes = np.empty(len(polygons), object)
    is_box = np.asarray(boxes, bool)
    for chosen, shape in ((is_box, hulls), (~is_box, outlines)):
        places = np.flatnonzero(chosen)
        if len(places):
            shapes[places] = shape([polygons[place] for place in places.tolist()])
    return shapes


def outer_ring(shape: Any) -> NDArray[np.float64]:
    """Return the vertices ``(V, 2)`` of a region's outer line without the closing one; of several parts, the hull's.

    The region must have an area.
    """
    shape = areal(shape)
    if shape.geom_type != "Polygon":
        shape = shape.convex_hull
    ring: NDArray[np.float64] = np.asarray(shapely.get_coordinates(shape.exterior), np.float64)[:-1]
    return ring


def areal(shape: Any) -> Any:
    """Return the parts of a region that have an area: clipping leaves lines and points where it only touches."""
    parts = [part for part in shapely.get_parts(shape, return_index=False) if part.geom_type != "GeometryCollection"]
    kept = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon") and not part.is_empty]
    return kept[0] if len(kept) == 1 else shapely.union_all(kept)


def _joined(make: Any, polygons: Sequence[NDArray[np.float64]]) -> Any:
    """Make one geometry per polygon, all in one call."""
    belongs = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    return make(np.concatenate(polygons), indices=belongs)


def fill_polygon(polygon: NDArray[np.float64], height: int, width: int, score: float = 0.0) -> Mask:
    """Return the pixels whose centre lies inside a polygon ``(V, 2)`` (x, y); of a smaller one the pixel it lies in."""
    low = np.clip(np.floor(polygon.min(axis=0)), 0, (max(width - 1, 0), max(height - 1, 0))).astype(int)
    high = np.clip(np.ceil(polygon.max(axis=0)), low + 1, (max(width, 1), max(height, 1))).astype(int)
    mask = centres_inside(polygon, low[0], low[1], high[1] - low[1], high[0] - low[0])
    column, row = (np.floor(polygon.mean(axis=0)) - low).astype(int)
    if not mask.any() and 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
        mask[row, column] = True
    return Mask(int(low[0]), int(low[1]), mask, score)


def centres_inside(polygon: NDArray[np.float64], left: int, top: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """Return ``(rows, columns)`` bool from ``left, top``: pixels whose centre lies inside a polygon (even-odd rule).

    Each row is scanned at the height of its centres: an edge that crosses there counts for every centre to its right,
    and a pixel is inside where the number of edges passed is odd. This is exact, where OpenCV's filling would add the
    pixels under the outline::

        edges         |           |     |           |
        centres    .     x    x      .     x    x      .
        passed     0     1    1      2     3    3      4
    """
    x, y = polygon[:, 0] - left, polygon[:, 1] - top
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(rows) + 0.5
    crosses = (y <= centres[:, None]) != (y2 <= centres[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x + (centres[:, None] - y) * (x2 - x) / (y2 - y)
    # A pixel is inside if an odd number of edges crosses its row left of its centre.
    first = np.clip(np.ceil(np.where(crosses, at, 0.0) - 0.5), 0, columns).astype(int)
    flips = np.zeros((rows, columns + 1), np.int32)
    row_of, edge = np.nonzero(crosses)
    np.add.at(flips, (row_of, first[row_of, edge]), 1)
    inside: NDArray[np.bool_] = np.cumsum(flips[:, :columns], axis=1) % 2 == 1
    return inside


def rasterise(polygon: NDArray[np.float64], height: int, width: int) -> Mask:
    """Return the pixels of a polygon ``(V, 2)`` (x, y) in a frame of ``height`` x ``width`` pixels, as GDAL burns it.

    A pixel belongs to it if its centre does; a polygon too small for any has the pixel it lies in.
    """
    polygon = np.clip(polygon, 0, (width, height))
    low = np.floor(polygon.min(axis=0)).astype(int)
    high = np.ceil(polygon.max(axis=0)).astype(int)
    columns, rows = high - low
    if rows < 1 or columns < 1:
        pixels = np.zeros((max(rows, 0), max(columns, 0)), bool)
    else:
        ring = [*polygon.tolist(), polygon[0].tolist()]
        pixels = _burn({"type": "Polygon", "coordinates": [ring]}, int(low[0]), int(low[1]), (rows, columns))
    if not pixels.any():
        column, row = np.minimum(polygon.mean(axis=0), (width - 1, height - 1)).astype(int).tolist()
        return Mask(column, row, np.ones((1, 1), bool))
    return Mask(int(low[0]), int(low[1]), pixels)


def _burn(shape: Any, left: int, top: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Burn a region into ``size`` rows and columns that begin at ``left, top``: pixels whose centre lies inside."""
    burnt = rasterize([(shape, 1)], out_shape=size, transform=Affine.translation(left, top), dtype="uint8")
    pixels: NDArray[np.bool_] = burnt.astype(bool)
    return pixels


Ring = NDArray[np.float64]


def mask_of(rings: Sequence[Ring], holes: Sequence[Ring], width: int, height: int) -> dict[str, Any] | None:
    """Fill outlines: pixels whose centre lies inside a ring and in no hole.

    Args:
        rings: Outlines ``(V, 2)`` of the object's parts, x and y in pixels; may reach beyond the image.
        holes: Outlines of what is cut out of them.
        width: Of the image.
        height: Of the image.

    Returns:
        COCO run lengths in the frame of the image; ``None`` where a vertex is not finite.
    """
    if not all(np.isfinite(ring).all() for ring in (*rings, *holes)):
        return None
    rings, holes = ([ring.clip(-FAR, FAR) for ring in which] for which in (rings, holes))
    shape = shapely.union_all(shapely.clip_by_rect(outlines(rings), 0, 0, width, height))
    if holes:
        shape = shapely.difference(shape, shapely.union_all(outlines(holes)))
    shape = areal(shape)
    if shape.is_empty:
        return Runs.of(np.zeros((0, 0), bool), 0, 0, height, width).to_coco()
    left, top = (int(np.floor(low)) for low in shape.bounds[:2])
    right, bottom = (int(np.ceil(high)) for high in shape.bounds[2:])
    size = (max(bottom - top, 1), max(right - left, 1))
    return Runs.of(_burn(shape, left, top, size), top, left, height, width).to_coco()


def coco_polygons(polygons: Sequence[Ring], width: int, height: int) -> dict[str, Any] | None:
    """Fill COCO polygons as COCO's own tools do; attributes and result as those of `mask_of`."""
    if not all(np.isfinite(polygon).all() for polygon in polygons):
        return None
    if any((p < 0).any() or (p > (width, height)).any() for p in polygons):
        # COCO's code takes memory by the length of the outline, however far outside the image it runs.
        return mask_of(polygons, [], width, height)
    packed = coco.merge(coco.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width))
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}
