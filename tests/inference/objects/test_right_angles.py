"""Outlines get right angles, keep the walls they share, and stay as they were where that would be wrong."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from geodistill.inference.objects.right_angles import ROUND, SQUARED, square_outlines
from geodistill.inference.objects.tidy import absorb
from geodistill.inference.regions import outline_labels


def houses(angle: float, stretch: float = 1.0) -> list[shapely.Polygon]:
    """Three houses that share walls, turned, in pixels that are ``stretch`` times as wide as high."""
    shapes = [shapely.box(10, 10, 40, 30), shapely.box(40, 14, 62, 30)]
    shapes.append(shapely.Polygon([(10, 30), (34, 30), (34, 60), (22, 60), (22, 44), (10, 44)]))
    turned = [shapely.affinity.rotate(shape, angle, origin=(40, 35)) for shape in shapes]
    return [shapely.affinity.scale(shapely.affinity.translate(p, 10, 10), 1 / stretch, origin=(0, 0)) for p in turned]


def traced(shapes: list[shapely.Polygon], frayed: float = 0.0, seed: int = 0) -> list[shapely.Polygon]:
    labels = rasterize([(p, n) for n, p in enumerate(shapes, 1)], (95, 95), dtype="int32")
    rim = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            rim |= (np.roll(labels, step, axis) == 0) & (labels > 0)
    labels[rim & (np.random.default_rng(seed).random(labels.shape) < frayed)] = 0
    return list(outline_labels(absorb(labels, 20)))


def angles(polygon: shapely.Polygon) -> np.ndarray:
    """Return how far each corner is from a right one, in degrees."""
    points = np.array(polygon.exterior.coords)[:-1]
    back, on = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turn = np.degrees(np.arctan2(back[:, 0] * on[:, 1] - back[:, 1] * on[:, 0], (back * on).sum(1)))
    return np.minimum(np.abs(np.abs(turn) - 90), np.abs(turn))  # a neighbour's corner on a wall is straight


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0, 90), seed=st.integers(0, 999))
def test_houses_get_right_angles_and_keep_shared_walls(angle: float, seed: int) -> None:
    shapes = houses(angle)
    outlines, status = square_outlines(traced(shapes, 0.1, seed), (0.5, 0.5))
    assert shapely.coverage_is_valid(outlines)
    assert all(outline.is_valid for outline in outlines)
    if set(status) != {SQUARED}:
        return
    for outline in outlines:
        assert len(outline.exterior.coords) <= 16
        assert max(outline.intersection(s).area / outline.union(s).area for s in shapes) > 0.75
    assert shapely.union_all(outlines).geom_type == "Polygon"
    assert shapely.intersection_all([outlines[0], outlines[1]]).area < 1e-6


def test_nearly_all_groups_of_houses_are_squared() -> None:
    right = 0
    for angle in np.arange(0, 90, 4.5):
        outlines, status = square_outlines(traced(houses(angle), 0.1, int(angle)), (1, 1))
        right += set(status) == {SQUARED} and all(angles(outline).max() < 0.1 for outline in outlines)
    assert right >= 18


def test_neighbours_of_other_directions_are_squared_apart_and_keep_their_wall() -> None:
    """The second house is turned by 30 degrees against the first, and leans on it."""
    first = shapely.box(15, 20, 45, 60)
    second = shapely.affinity.rotate(shapely.box(40, 25, 75, 55), 30).difference(first)
    outlines, status = square_outlines(traced([first, second]), (1, 1))
    assert SQUARED in status
    assert shapely.coverage_is_valid(outlines)
    shared = shapely.intersection(*shapely.boundary(outlines))
    assert shared.length > 15
    assert outlines[0].intersection(outlines[1]).area < 1e-6
    for outline, house in zip(outlines, (second, first), strict=True):
        assert outline.intersection(house).area / outline.union(house).area > 0.9


def test_a_right_angle_is_one_on_the_ground() -> None:
    """At 60 degrees north a pixel of a map in degrees is half as wide as it is high."""
    outlines, status = square_outlines(traced(houses(25, 0.5)[:1]), (1.0, 2.0))
    (outline,) = outlines
    assert status == [SQUARED]
    assert angles(shapely.affinity.scale(outline, 0.5, 1.0)).max() < 0.01
    assert angles(outline).max() > 5


def test_what_is_round_stays_as_it_was() -> None:
    disc = traced([shapely.Point(45, 45).buffer(25)])
    outlines, status = square_outlines(disc, (1, 1))
    assert status == [ROUND]
    assert outlines[0].equals_exact(disc[0], 0)


def test_a_courtyard_keeps_its_walls() -> None:
    block = shapely.box(15, 15, 75, 70).difference(shapely.box(30, 30, 60, 55))
    outlines, status = square_outlines(traced([shapely.affinity.rotate(block, 20)], 0.1), (1, 1))
    assert status == [SQUARED]
    assert len(outlines[0].interiors) == 1
    assert outlines[0].area == pytest.approx(block.area, rel=0.05)
