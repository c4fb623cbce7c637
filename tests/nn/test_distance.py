"""Targets and loss of the distance head."""

import numpy as np
import pytest
import torch

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
