"""Touching objects are told apart where they meet at a neck, at a doubtful wall, or at a boundary class."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import label

from geodistill.inference.objects.separate import by_boundary, separate
from geodistill.inference.objects.tidy import absorb, fill_holes

SHAPE = (70, 90)


def drawn(*polygons: shapely.Polygon) -> NDArray[np.int32]:
    """Number the pixels of polygons from 1."""
    return rasterize([(p, n) for n, p in enumerate(polygons, 1)], SHAPE, dtype="int32")


def agree(labels: NDArray[np.int32], truth: NDArray[np.int32]) -> float:
    """Return the least IoU of a true object with the label that holds most of it."""
    least = 1.0
    for n in range(1, int(truth.max()) + 1):
        own = truth == n
        best = np.bincount(labels[own]).argmax()
        least = min(least, (own & (labels == best)).sum() / (own | (labels == best)).sum())
    return least


def test_two_discs_that_touch_are_two() -> None:
    truth = drawn(shapely.Point(25, 35).buffer(16), shapely.Point(52, 35).buffer(14))
    labels = separate(truth > 0)
    assert labels.max() == 2
    assert agree(labels, truth) > 0.95


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
def test_row_houses_part_at_a_wall_that_the_network_doubts(angle: float) -> None:
    houses = [shapely.box(10 + 22 * n, 25, 32 + 22 * n, 45) for n in range(3)]
    truth = drawn(*(shapely.affinity.rotate(house, angle, origin=(43, 35)) for house in houses))
    sure = np.full(SHAPE, 0.95, np.float32)
    for one, other in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        sure[one][(truth[one] != truth[other]) & (truth[one] > 0) & (truth[other] > 0)] = 0.5
        sure[:, one][(truth[:, one] != truth[:, other]) & (truth[:, one] > 0) & (truth[:, other] > 0)] = 0.5
    labels = separate(truth > 0, sure)
    assert labels.max() == 3
    assert agree(labels, truth) > 0.85
    assert separate(truth > 0).max() == 1  # by their shape alone they are one house


@pytest.mark.parametrize("angle", [0, 15, 30, 45])
def test_a_house_with_a_wing_stays_one(angle: float) -> None:
    house = shapely.Polygon([(15, 15), (55, 15), (55, 55), (40, 55), (40, 30), (15, 30)])
    labels = separate(drawn(shapely.affinity.rotate(house, angle)) > 0)
    assert labels.max() == 1


def test_a_boundary_class_parts_objects_and_goes_to_them() -> None:
    kinds = np.zeros(SHAPE, np.uint8)
    kinds[10:40, 10:70] = 1
    kinds[10:40, 39:41] = kinds[10:12, 10:70] = 2
    inside = kinds > 0
    labels = by_boundary(kinds, inside, 2)
    assert labels.max() == 2
    assert ((labels > 0) == inside).all()
    assert (labels[:, 10:39] != labels[:, 41:70]).any()
    assert by_boundary(np.where(kinds, 2, 0).astype(np.uint8), inside, 2).max() == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), least=st.sampled_from([1.0, 5.0, 20.0]))
def test_every_object_hangs_together_and_has_its_least_size(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    inside = cv2.GaussianBlur(rng.normal(size=(40, 50)), (0, 0), 2) > 0.03
    labels = absorb(separate(inside, rng.random((40, 50)).astype(np.float32)), least)
    regions, count = label(inside)
    for n in range(1, int(labels.max()) + 1):
        assert label(labels == n)[1] == 1
        assert (labels == n).sum() >= least
    for region in range(1, count + 1):
        own = regions == region
        assert (labels[own] > 0).all() or (own.sum() < least and not labels[own].any())
    assert not labels[~inside].any()
    first = [np.flatnonzero(labels.ravel() == n)[0] for n in range(1, int(labels.max()) + 1)]
    assert first == sorted(first)


def test_holes_under_a_size_are_filled_and_slivers_join_their_longest_neighbour() -> None:
    inside = np.ones((20, 20), bool)
    inside[5:8, 5:8] = inside[12:17, 12:17] = False
    filled = fill_holes(inside, 10)
    assert filled[5:8, 5:8].all()
    assert not filled[12:17, 12:17].any()
    labels = np.zeros((10, 12), np.int32)
    labels[:, :6], labels[:, 6], labels[:, 7:] = 1, 2, 3
    labels[:4, 6] = 1
    joined = absorb(labels, 7)
    assert joined.max() == 2
    assert len(np.unique(joined[4:, 6])) == 1
