"""Targets and loss of the distance head."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.distance import cdist

from geodistill.nn.distance import distance_loss, distance_targets


def squares() -> np.ndarray:
    """Ground, a square of 9 pixels a side and one of 5, apart."""
    classes = np.zeros((20, 30), np.int64)
    classes[3:12, 4:13] = 1
    classes[8:13, 20:25] = 1
    return classes


def test_every_region_has_a_peak_of_one_in_its_middle() -> None:
    targets = distance_targets(squares())
    assert targets.dtype == np.float32
    assert targets[7, 8] == targets[10, 22] == 1
    np.testing.assert_allclose(targets[7, 4:9], np.arange(1, 6) / 5)
    np.testing.assert_allclose(targets[8:11, 22], np.arange(1, 4) / 3)
    assert targets.min() > 0


def test_what_is_ignored_has_none_and_an_image_of_one_class_is_all_middle() -> None:
    classes = squares()
    classes[:2] = 255
    assert (distance_targets(classes)[:2] == 0).all()
    assert (distance_targets(np.ones((4, 5), np.int64)) == 1).all()
    assert (distance_targets(np.full((4, 5), 255)) == 0).all()


def blobs(seed: int) -> np.ndarray:
    """Three classes, in regions of several sizes that end at the edge of the image and within."""
    rng = np.random.default_rng(seed)
    waves = gaussian_filter(rng.normal(size=(2, 40, 50)), (0, 3, 3))
    classes: np.ndarray = (waves[0] > 0.03).astype(np.int64) + (waves[1] > 0.08)
    return classes


@given(seed=st.integers(0, 10_000))
def test_padding_is_no_edge(seed: int) -> None:
    classes = blobs(seed)
    padded = np.pad(classes, ((5, 9), (0, 13)), constant_values=255)
    np.testing.assert_allclose(distance_targets(padded)[5:45, :50], distance_targets(classes), atol=1e-5)


@given(seed=st.integers(0, 10_000))
def test_the_distance_is_that_to_the_nearest_pixel_of_another_class(seed: int) -> None:
    """By all distances, where ignored pixels leave each region in one piece."""
    rng = np.random.default_rng(seed)
    borders = np.array([[15], [35]]) + 30 * gaussian_filter(rng.normal(size=(2, 40)), (0, 3))  # of three wavy bands
    classes = (np.arange(50) > borders[..., None]).sum(0)
    row, col = rng.integers(0, 30, 2)
    classes[row : row + 10, col : col + 12] = 255
    whole = {index: label(classes == index)[0] for index in np.unique(classes[classes != 255])}
    assume(all(regions.max() == 1 for regions in whole.values()))
    expected = np.zeros(classes.shape)
    for index in whole:
        others = np.argwhere((classes != index) & (classes != 255))
        inside = np.argwhere(classes == index)
        away = cdist(inside, others).min(1) if len(others) else np.ones(len(inside))
        expected[tuple(inside.T)] = away / away.max()
    np.testing.assert_allclose(distance_targets(classes), expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_gap_of_ignored_pixels_parts_two_objects(width: int) -> None:
    classes = np.zeros((40, 50), np.int64)
    classes[5:35, 5:17] = classes[5:35, 17 + width : 29 + width] = 1
    classes[5:35, 17 : 17 + width] = 255
    left, right = distance_targets(classes)[20, 5:17], distance_targets(classes)[20, 17 + width : 29 + width]
    for across in (left, right[::-1]):  # from the ground to the gap
        assert across.max() == 1
        assert 0 < across[-1] <= (width + 1) / 2 / 6 + 1e-6
        assert (np.diff(across[:6]) > 0).all()
        assert (np.diff(across[8:]) < 0).all()


def test_ignored_pixels_within_an_object_are_no_edge() -> None:
    classes = squares()
    whole = distance_targets(classes)
    classes[6:9, 8:11] = classes[10, 22] = 255
    targets = distance_targets(classes)
    np.testing.assert_allclose(targets[classes == 0], whole[classes == 0], rtol=1e-6)
    np.testing.assert_allclose(targets[3:12, 4:8], whole[3:12, 4:8] * 5 / 4, rtol=1e-6)  # the peak, 5, is hidden
    np.testing.assert_allclose(targets[8:10, 20:25], whole[8:10, 20:25] * 3 / 2, rtol=1e-6)


def test_the_loss_is_the_mean_square_over_labelled_pixels() -> None:
    mask = torch.from_numpy(squares())[None]
    targets = torch.from_numpy(distance_targets(squares()))[None, None]
    distance = torch.logit(targets.clamp(1e-6, 1 - 1e-6)).requires_grad_()
    assert distance_loss(distance, mask).item() == pytest.approx(0, abs=1e-6)
    mask[:, :5] = 255
    loss = distance_loss(torch.zeros_like(targets).requires_grad_(), mask)
    wanted = (0.5 - distance_targets(mask[0].numpy())[5:]) ** 2
    assert loss.item() == pytest.approx(wanted.mean(), rel=1e-5)
    loss.backward()
    assert distance_loss(torch.zeros(1, 1, 20, 30), torch.full((1, 20, 30), 255)).item() == 0
