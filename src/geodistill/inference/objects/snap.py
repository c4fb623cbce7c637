"""Points of a coverage put on level and upright lines, and rings without the points that nothing needs."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

_SHORT = 2.0
"""Pixels under which a step between two walls is none: both get one coordinate."""

_DECIMALS = 6
"""Of a pixel, to which points are put."""

_NEAR = 3e-6
"""Of a pixel, within which a point lies on a side."""

Points = NDArray[np.float64]


def snap_walls(polygons: NDArray[np.object_], members: NDArray[np.bool_]) -> NDArray[np.object_] | None:
    """Return a coverage with the sides of some polygons level or upright, without points on straight walls.

    Points that they share with the other polygons stay where they are, and others on the same wall come to them.

    Returns:
        ``None`` where a polygon would be lost.
    """
    _, points, (rings, holders) = shapely.to_ragged_array(polygons)
    unique, numbers = np.unique(points, axis=0, return_inverse=True)
    numbers = numbers.ravel()
    ring_of = np.repeat(np.arange(len(rings) - 1), np.diff(rings))
    moves = np.repeat(members, np.diff(holders))[ring_of]  # of each point in its ring
    free = np.ones(len(unique), bool)
    free[numbers[~moves]] = False
    sides = (ring_of[:-1] == ring_of[1:]) & moves[:-1]
    a, b = numbers[:-1][sides], numbers[1:][sides]
    steps = np.abs(unique[b] - unique[a])
    lengths = np.hypot(*steps.T)
    level = steps[:, 0] >= steps[:, 1]
    short = lengths < _SHORT
    moved = unique.copy()
    for axis, runs in ((1, level), (0, ~level)):  # along a level side the y is one, along an upright one the x
        shared = _shared(unique[:, axis], (a, b), runs, runs | short, lengths, free)
        moved[free, axis] = shared[free]
    moved, places = np.unique(moved.round(_DECIMALS), axis=0, return_inverse=True)
    return _rebuilt(moved, places.ravel()[numbers], rings, holders)  # points that came to lie on each other are one


def _shared(
    values: Points,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    runs: NDArray[np.bool_],
    joined: NDArray[np.bool_],
    lengths: Points,
    free: NDArray[np.bool_],
) -> Points:
    """Return for each point the mean coordinate of all that it is joined with, weighed by the sides that run there.

    Points that are not free weigh a million times as much.
    """
    group = _groups(len(values), ends[0][joined].tolist(), ends[1][joined].tolist())
    count = len(values)
    weights = np.full(len(values), 1e-9)
    for end in ends:
        np.add.at(weights, end[runs], lengths[runs])
    weights[~free] *= 1e6
    sums = np.bincount(group, weights * values, count)
    means: Points = sums[group] / np.bincount(group, weights, count)[group]
    return means


def _groups(count: int, a: list[int], b: list[int]) -> NDArray[np.int64]:
    """Return for each of some points one of those that it is joined with, the same for all of them."""
    parent = list(range(count))

    def root(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    for one, other in zip(a, b, strict=True):
        parent[root(one)] = root(other)
    return np.array([root(point) for point in range(count)], np.int64)


def _rebuilt(
    points: Points, numbers: NDArray[np.int64], rings: NDArray[np.int64], holders: NDArray[np.int64]
) -> NDArray[np.object_] | None:
    """Put polygons together again, with the points that are a corner of any of them."""
    ends = list(zip(rings[:-1].tolist(), rings[1:].tolist(), strict=True))
    every = [_without_repeats(numbers[first : last - 1].tolist()) for first, last in ends]
    corner = np.zeros(len(points), bool)
    for ring in every:
        if len(ring) >= 4:
            at = points[ring]
            back, on = at - np.roll(at, 1, axis=0), np.roll(at, -1, axis=0) - at
            cross = np.abs(back[:, 0] * on[:, 1] - back[:, 1] * on[:, 0])
            corner[np.array(ring)[cross > 1e-5 * (1 + np.abs(back).sum(1) + np.abs(on).sum(1))]] = True
    outlines = [_without_repeats([n for n in ring if corner[n]]) for ring in every]
    if len(holders) > 2:
        outlines = _with_points_between(points, outlines, np.flatnonzero(corner))
    polygons = []
    for first, last in zip(holders[:-1].tolist(), holders[1:].tolist(), strict=True):
        shell, *holes = outlines[first:last]
        if len(shell) < 4:
            return None
        polygons.append(shapely.Polygon(points[shell], [points[hole] for hole in holes if len(hole) >= 4]))
    return np.array(polygons, object)


def _with_points_between(points: Points, rings: list[list[int]], corners: NDArray[np.int64]) -> list[list[int]]:
    """Return rings with the corners of others that came to lie on their sides, as a coverage asks."""
    starts = np.array([n for ring in rings for n in ring], np.int64)
    ends = np.array([n for ring in rings for n in [*ring[1:], *ring[:1]]], np.int64)
    lines = shapely.linestrings(np.stack([points[starts], points[ends]], axis=1))
    tree = shapely.STRtree(shapely.points(points[corners]))
    side, near = tree.query(lines, predicate="dwithin", distance=_NEAR)
    near = corners[near]
    along = np.hypot(*(points[near] - points[starts[side]]).T)
    between = (near != starts[side]) & (near != ends[side])
    order = np.lexsort([along[between], side[between]])
    inserted: dict[int, list[int]] = {}
    for at, point in zip(side[between][order].tolist(), near[between][order].tolist(), strict=True):
        inserted.setdefault(at, []).append(point)
    noded, at = [], 0
    for ring in rings:
        noded.append([n for place, here in enumerate(ring, at) for n in (here, *inserted.get(place, ()))])
        at += len(ring)
    return noded


def _without_repeats(ring: list[int]) -> list[int]:
    """Return a ring without points that stand twice in a row."""
    return [here for here, last in zip(ring, [*ring[-1:], *ring[:-1]], strict=True) if here != last]
