"""Outlines with right angles, all objects that touch at once, so that they keep the walls they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geodistill.inference.objects.snap import snap_walls

SQUARED = "right angles"
ROUND, MOVED, BROKEN = "left: few right angles", "left: would change too much", "left: outlines would cross"
"""What became of an outline. One that was left has its points on straight lines only where it touches one that was
squared, and is as it was traced elsewhere."""

TOLERANCE = 2.0
"""Pixels by which walls may move: steps of the raster are smaller, and wings of a building larger."""

_ALONG = 0.35
"""How well sides must agree with one direction and its right angle: 1 for a rectangle, 0 for a circle."""

_ALIKE = 0.15
"""Radians by which the directions of neighbours may differ that are squared together."""

_TELLING = 60.0
"""Pixels from which on the direction of an object says something."""

_AGREEMENT = 0.75
"""Intersection over union of an outline with what was traced, at least."""

Points = NDArray[np.float64]


def square_outlines(
    polygons: Sequence[shapely.Polygon], sides: tuple[float, float]
) -> tuple[list[shapely.Polygon], list[str]]:
    r"""Return outlines whose walls run along one direction or across it.

    All points of objects that touch are moved together: points joined by a wall along the direction get one coordinate
    across it, the mean over the walls, and the reverse. So a wall that two objects share stays one::

        traced   __/---\__      squared   ___________
                |    |    |               |    |      |
                |____|____|               |____|______|

    Where that cannot be, those of one direction are squared together and then each alone, and the points that they
    share with the others stay where they are.

    Args:
        polygons: A coverage: objects that touch, in pixels.
        sides: Metres of a pixel along columns and rows, since a right angle on the ground is none in the pixels of a
            map in degrees.

    Returns:
        The outlines, a coverage too, and what became of each.
    """
    scale = np.array(sides) / min(sides)
    origin = np.array(polygons[0].bounds[:2])
    traced = shapely.transform(np.array(polygons, object), lambda xy: (xy - origin) * scale)
    directions, along = np.array([_direction(shapely.simplify(polygon, TOLERANCE)) for polygon in traced]).T
    status = np.where(along < _ALONG, ROUND, BROKEN).astype(object)
    state = traced
    everything = np.ones(len(traced), bool)
    whole = directions[0], along[0]
    if len(traced) > 1:
        whole = _direction(shapely.simplify(shapely.union_all(traced), TOLERANCE))
    turned = np.abs(np.angle(np.exp(4j * (directions - whole[0])))) / 4
    large = shapely.area(traced) >= _TELLING
    if whole[1] >= _ALONG and (turned[large & (along >= _ALONG)] < _ALIKE).all():
        for tolerance in (TOLERANCE, 1.5 * TOLERANCE, 0.6 * TOLERANCE):
            rough = shapely.coverage_simplify(traced, tolerance)
            state, became = _squared(rough, traced, everything, whole[0])
            if became == SQUARED:
                return list(shapely.transform(state, lambda xy: xy / scale + origin)), [SQUARED] * len(traced)
            status[along >= _ALONG] = became
    if len(traced) > 1:
        state = shapely.coverage_simplify(traced, TOLERANCE)
        for members in _attempts(traced, directions, along):
            if (status[members] != SQUARED).all():
                mean = np.angle(np.exp(4j * directions[members]).sum()) / 4
                state, became = _squared(state, traced, members, float(mean))
                status[members] = became
    if not (status == SQUARED).any():
        return list(polygons), status.tolist()
    return list(shapely.transform(state, lambda xy: xy / scale + origin)), status.tolist()


def _attempts(polygons: NDArray[np.object_], directions: Points, along: Points) -> Iterator[NDArray[np.bool_]]:
    """Yield which objects are tried together: neighbours of one direction, the largest group first, then each alone."""
    one, other = shapely.STRtree(polygons).query(polygons, predicate="touches")
    turned = np.abs(np.angle(np.exp(4j * (directions[one] - directions[other])))) / 4
    alike = (turned < _ALIKE) & (along[one] >= _ALONG) & (along[other] >= _ALONG)
    count = len(polygons)
    graph = coo_array((np.ones(int(alike.sum())), (one[alike], other[alike])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    sizes = np.bincount(groups)
    for group in np.argsort(-sizes, kind="stable").tolist():
        if 1 < sizes[group] < count:
            yield groups == group
    for at in np.flatnonzero(along >= _ALONG).tolist():
        yield np.arange(count) == at


def _squared(
    state: NDArray[np.object_], traced: NDArray[np.object_], members: NDArray[np.bool_], direction: float
) -> tuple[NDArray[np.object_], str]:
    """Square some outlines of a coverage; return it as it was where that would be wrong, and what became of them."""
    turn = np.array([[np.cos(direction), -np.sin(direction)], [np.sin(direction), np.cos(direction)]])
    snapped = snap_walls(shapely.transform(state, lambda xy: xy @ turn), members)
    if snapped is None:
        return state, BROKEN
    squared = shapely.transform(snapped, lambda xy: xy @ turn.T)
    if not (shapely.is_valid(squared).all() and (len(squared) == 1 or shapely.coverage_is_valid(squared))):
        return state, BROKEN
    common = shapely.area(shapely.intersection(squared, traced))
    enough = common >= _AGREEMENT * (shapely.area(squared) + shapely.area(traced) - common)
    return (squared, SQUARED) if enough[members].all() else (state, MOVED)


def _direction(outline: shapely.Geometry) -> tuple[float, float]:
    """Return the direction of most sides in radians, a quarter turn being the same, and how many agree, 0..1.

    The mean of unit vectors at four times each side's angle, long sides counting by the square of their length.
    """
    total, weight = 0j, 0.0
    for ring in shapely.get_rings(outline):
        steps = np.diff(shapely.get_coordinates(ring), axis=0)
        sides = steps[:, 0] + 1j * steps[:, 1]
        lengths = np.abs(sides)
        total += (lengths**2 * (sides / np.where(lengths == 0, 1, lengths)) ** 4).sum()
        weight += float((lengths**2).sum())
    return float(np.angle(total)) / 4, abs(total) / weight if weight else 0.0
