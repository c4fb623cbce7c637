"""Loss terms for unequal classes, against values computed another way."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.losses import LovaszLoss, TverskyLoss
from torch import Tensor

from geodistill.nn.imbalance import (
    boundary_cross_entropy,
    count_class_weights,
    log_cosh_dice,
    lovasz,
    near_boundary,
    tversky,
)
from geodistill.nn.losses import cross_entropy


def example(classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits and a mask with pixels that are ignored."""
    torch.manual_seed(0)
    logits, mask = torch.randn(2, classes, 9, 11), torch.randint(0, classes, (2, 9, 11))
    mask[0, :3] = 255
    return logits, mask


def test_lovasz_is_that_of_segmentation_models_pytorch() -> None:
    logits, mask = example()
    mask[mask == 3] = 1  # a class that is not there adds nothing
    expected = LovaszLoss("multiclass", ignore_index=255)(logits, mask)
    assert lovasz(logits, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_lovasz_of_certain_answers_is_one_minus_the_mean_iou() -> None:
    truth, found = torch.tensor([[[0, 0, 1, 1, 1]]]), torch.tensor([[[0, 1, 1, 1, 0]]])
    logits = 60.0 * torch.nn.functional.one_hot(found, 2).permute(0, 3, 1, 2).float()
    assert lovasz(logits, truth).item() == pytest.approx(1 - (1 / 3 + 2 / 4) / 2, abs=1e-6)


def test_tversky_is_that_of_segmentation_models_pytorch() -> None:
    logits, mask = example()
    mask[mask == 255] = 0
    expected = TverskyLoss("multiclass", alpha=0.3, beta=0.7)(logits, mask)
    assert tversky(logits, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_tversky_counts_missed_pixels_more_and_ignored_ones_not_at_all() -> None:
    logits, mask = example(2)
    one = logits.softmax(1)[:, 1][mask != 255].numpy()
    truth = (mask[mask != 255] == 1).numpy()
    losses = []
    for chance, is_class in ((one, truth), (1 - one, ~truth)):
        hit = float(chance[is_class].sum())
        missed, wrong = float((1 - chance)[is_class].sum()), float(chance[~is_class].sum())
        losses.append(1 - hit / (hit + 0.3 * wrong + 0.7 * missed))
    assert tversky(logits, mask).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_log_cosh_dice_follows_its_definition() -> None:
    logits, mask = example(2)
    chances = logits.softmax(1)
    dice = []
    for index in (0, 1):
        chance, truth = chances[:, index][mask != 255], (mask[mask != 255] == index).float()
        dice.append(1 - (2 * float((chance * truth).sum()) + 0.05) / (float((chance + truth).sum()) + 0.05))
    assert log_cosh_dice(logits, mask).item() == pytest.approx(math.log(math.cosh(sum(dice) / 2)), rel=1e-5)


def test_near_boundary_is_every_pixel_with_another_class_in_its_square() -> None:
    torch.manual_seed(1)
    mask = torch.where(torch.rand(1, 12, 10) < 0.05, 1, 0)
    mask[0, 4:6] = 255
    found = near_boundary(mask, 2)[0]
    grid = mask[0].numpy()
    for row in range(12):
        for col in range(10):
            square = grid[max(row - 2, 0) : row + 3, max(col - 2, 0) : col + 3]
            others = (square != 255) & (square != grid[row, col])
            assert bool(found[row, col]) == (grid[row, col] != 255 and bool(others.any()))


def test_boundary_cross_entropy_is_the_mean_over_those_pixels() -> None:
    logits, mask = torch.randn(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, :, 5:] = 2
    columns = slice(3, 7)  # two on either side of the boundary between columns 4 and 5
    chosen = -logits.log_softmax(1).gather(1, mask[:, None])[:, 0, :, columns]
    assert boundary_cross_entropy(logits, mask).item() == pytest.approx(chosen.mean().item(), rel=1e-5)


def test_class_weights_fall_with_the_root_of_the_share_are_capped_and_mean_one_a_pixel() -> None:
    pixels = (90_000, 10_000, 100, 0)
    weights = count_class_weights(pixels)
    assert weights[1] / weights[0] == pytest.approx(3.0)
    assert weights[2] / weights[0] == weights[3] / weights[0] == pytest.approx(10.0)
    assert sum(p * w for p, w in zip(pixels, weights, strict=True)) / sum(pixels) == pytest.approx(1.0)
    assert all(a < b for a, b in pairwise(weights[:3]))


def test_cross_entropy_weighs_each_pixel_by_its_class() -> None:
    logits, mask = example()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    per_pixel = -logits.log_softmax(1).gather(1, mask.clamp(max=3)[:, None])[:, 0]
    labelled = mask != 255
    expected = (per_pixel * weights[mask.clamp(max=3)])[labelled].mean()
    assert cross_entropy(logits, mask, class_weights=weights).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("term", [lovasz, tversky, log_cosh_dice, boundary_cross_entropy, cross_entropy])
def test_without_any_label_a_term_is_zero_and_has_a_gradient_of_zero(term: object) -> None:
    assert callable(term)
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = term(logits, torch.full((2, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()
