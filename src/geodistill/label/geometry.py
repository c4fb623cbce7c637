"""Areas of many polygons at once, and what lies of them inside a rectangle; all in pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Shapes = NDArray[np.object_]
"""``(N,)`` shapely polygons."""

SMALLEST = 1e-4
"""Square pixels; what is smaller has no area: a hundredth of a pixel squared, far above the noise of reprojection."""

FAR = 1e8
"""Pixels; coordinates beyond are on no image, and would overflow in the arithmetic of overlays."""


def bounds_of(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Give ``(N, 4)`` float64: xmin, ymin, xmax, ymax of each polygon ``(V, 2)``; NaN where a vertex is NaN."""
    if not polygons:
        return np.zeros((0, 4))
    vertices = np.concatenate(polygons)
    firsts = np.cumsum([0, *(len(polygon) for polygon in polygons[:-1])])
    with np.errstate(invalid="ignore"):
        low, high = np.minimum.reduceat(vertices, firsts), np.maximum.reduceat(vertices, firsts)
    return np.concatenate([low, high], axis=1)


def hulls(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Give the convex hull of each polygon: the region of a box, in whatever order its corners are written."""
    return np.asarray(shapely.convex_hull(_joined(shapely.linestrings, polygons)), object)


def outlines(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Give each polygon as it is, mended where it crosses itself."""
    shapes = np.asarray(shapely.polygons(_joined(shapely.linearrings, polygons)), object)
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def regions(polygons: Sequence[NDArray[np.float64]], boxes: Sequence[bool]) -> Shapes:
    """Give the region of each polygon: the hull where ``boxes`` says that it is a box, else its outline."""
    shapes = np.empty(len(polygons), object)
    is_box = np.asarray(boxes, bool)
    for chosen, shape in ((is_box, hulls), (~is_box, outlines)):
        places = np.flatnonzero(chosen)
        if len(places):
            shapes[places] = shape([polygons[place] for place in places.tolist()])
    return shapes


def outer_ring(shape: Any) -> NDArray[np.float64]:
    """Give the vertices ``(V, 2)`` of a region's outer line without the closing one; of several parts, the hull's.

    The region must have an area.
    """
    shape = areal(shape)
    if shape.geom_type != "Polygon":
        shape = shape.convex_hull
    ring: NDArray[np.float64] = np.asarray(shapely.get_coordinates(shape.exterior), np.float64)[:-1]
    return ring


def areal(shape: Any) -> Any:
    """Give the parts of a region that have an area: clipping leaves lines and points where it only touches."""
    parts = [part for part in shapely.get_parts(shape, return_index=False) if part.geom_type != "GeometryCollection"]
    kept = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon") and not part.is_empty]
    return kept[0] if len(kept) == 1 else shapely.union_all(kept)


def _joined(make: Any, polygons: Sequence[NDArray[np.float64]]) -> Any:
    """Make one geometry a polygon, all in one call."""
    belongs = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    return make(np.concatenate(polygons), indices=belongs)
