"""Outlines with right angles, all objects that touch at once, so that they keep the walls they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SQUARED = "right angles"
ROUND, MOVED, BROKEN = "left: few right angles", "left: would change too much", "left: outlines would cross"
"""What became of an outline; those of a group that were left are as they were traced."""

TOLERANCE = 2.0
"""Pixels by which walls may move: steps of the raster are smaller, and wings of a building larger."""

_ALONG = 0.35
"""How well sides must agree with one direction and its right angle: 1 for a rectangle, 0 for a circle."""

_AGREEMENT = 0.75
"""Intersection over union of an outline with what was traced, at least."""

_DECIMALS = 6
"""Of a pixel, to which points are put."""

Points = NDArray[np.float64]


def square_outlines(
    polygons: Sequence[shapely.Polygon], sides: tuple[float, float]
) -> tuple[list[shapely.Polygon], str]:
    r"""Return outlines whose walls run along one direction or across it.

    All points of all polygons are moved together: points joined by a wall along the direction get one coordinate
    across it, the mean over the walls, and the reverse. So a wall that two objects share stays one::

        traced   __/---\__      squared   ___________
                |    |    |               |    |      |
                |____|____|               |____|______|

    Args:
        polygons: A coverage: objects that touch, in pixels.
        sides: Metres of a pixel along columns and rows, since a right angle on the ground is none in the pixels of a
            map in degrees.

    Returns:
        The outlines, or ``polygons`` themselves, and what became of them.
    """
    scale = np.array(sides) / min(sides)
    origin = np.array(polygons[0].bounds[:2])
    traced = shapely.transform(np.array(polygons, object), lambda xy: (xy - origin) * scale)
    direction, along = _direction(shapely.simplify(shapely.union_all(traced), TOLERANCE))
    if along < _ALONG:
        return list(polygons), ROUND
    turn = np.array([[np.cos(direction), -np.sin(direction)], [np.sin(direction), np.cos(direction)]])
    status = BROKEN
    for tolerance in (TOLERANCE, 1.5 * TOLERANCE, 0.6 * TOLERANCE):
        rough = shapely.coverage_simplify(traced, tolerance)
        snapped = _snapped(shapely.transform(rough, lambda xy: xy @ turn))
        if snapped is None:
            continue
        squared = shapely.transform(snapped, lambda xy: xy @ turn.T)
        if not (shapely.is_valid(squared).all() and shapely.coverage_is_valid(squared)):
            continue
        common = shapely.area(shapely.intersection(squared, traced))
        if (common >= _AGREEMENT * (shapely.area(squared) + shapely.area(traced) - common)).all():
            return list(shapely.transform(squared, lambda xy: xy / scale + origin)), SQUARED
        status = MOVED
    return list(polygons), status


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


def _snapped(polygons: NDArray[np.object_]) -> NDArray[np.object_] | None:
    """Return polygons whose sides are level or upright, without points on straight walls; ``None`` where one is lost.

    Levels that a step shorter than `TOLERANCE` parts become one.
    """
    _, points, offsets = shapely.to_ragged_array(polygons)
    rings, holders = offsets
    unique, numbers = np.unique(points, axis=0, return_inverse=True)
    numbers = numbers.ravel()
    ends = np.ones(len(points), bool)
    ends[rings[1:] - 1] = False  # no side goes from the last point of a ring to the next ring
    a = numbers[:-1][ends[:-1]]
    b = numbers[1:][ends[:-1]]
    steps = np.abs(unique[b] - unique[a])
    lengths = np.hypot(*steps.T)
    level = steps[:, 0] >= steps[:, 1]
    short = lengths < TOLERANCE
    moved = unique.copy()
    for axis, runs in ((1, level), (0, ~level)):  # along a level side the y is one, along an upright one the x
        moved[:, axis] = _shared(unique[:, axis], a, b, runs, runs | short, lengths)
    moved, places = np.unique(moved.round(_DECIMALS), axis=0, return_inverse=True)
    numbers = places.ravel()[numbers]  # points that came to lie on each other are one
    corner = _corners(moved, numbers, rings)
    outlines = [
        _ring(moved, [n for n in numbers[first : last - 1].tolist() if corner[n]])
        for first, last in zip(rings[:-1].tolist(), rings[1:].tolist(), strict=True)
    ]
    squared = []
    for first, last in zip(holders[:-1].tolist(), holders[1:].tolist(), strict=True):
        shell, *holes = outlines[first:last]
        if shell is None:
            return None
        squared.append(shapely.Polygon(shell, [hole for hole in holes if hole is not None]))
    return np.array(squared, object)


def _shared(
    values: Points,
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    runs: NDArray[np.bool_],
    joined: NDArray[np.bool_],
    lengths: Points,
) -> Points:
    """Return for each point the mean coordinate of all that it is joined with, weighed by the sides that run there."""
    graph = coo_array((np.ones(int(joined.sum())), (a[joined], b[joined])), shape=(len(values), len(values)))
    count, group = connected_components(graph, directed=False)
    weights = np.full(len(values), 1e-9)
    for end in (a, b):
        np.add.at(weights, end[runs], lengths[runs])
    sums = np.bincount(group, weights * values, count)
    means: Points = (sums / np.bincount(group, weights, count))[group]
    return means


def _corners(points: Points, numbers: NDArray[np.int64], rings: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which points are corners of some ring; neighbours keep the points of each other's corners."""
    corner = np.zeros(len(points), bool)
    for first, last in zip(rings[:-1].tolist(), rings[1:].tolist(), strict=True):
        ring = _without_repeats(points, numbers[first : last - 1].tolist())
        if len(ring) < 4:
            continue
        at = points[ring]
        back, on = at - np.roll(at, 1, axis=0), np.roll(at, -1, axis=0) - at
        cross = np.abs(back[:, 0] * on[:, 1] - back[:, 1] * on[:, 0])
        corner[np.array(ring)[cross > 1e-9 * (1 + np.abs(back).sum(1) * np.abs(on).sum(1))]] = True
    return corner


def _without_repeats(points: Points, ring: list[int]) -> list[int]:
    """Return a ring without points that lie where the one before lies."""
    before = [ring[-1], *ring[:-1]]
    return [here for here, last in zip(ring, before, strict=True) if np.abs(points[here] - points[last]).max() > 1e-9]


def _ring(points: Points, ring: list[int]) -> Points | None:
    kept = _without_repeats(points, ring) if ring else []
    return points[[*kept, kept[0]]] if len(kept) >= 4 else None
