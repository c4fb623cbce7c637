"""What every loss term on logits and labels holds, whatever it weighs."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.nn.decoders import resize
from geodistill.nn.imbalance import boundary_cross_entropy, log_cosh_dice, lovasz, tversky
from geodistill.nn.losses import cross_entropy, focal, pixel_dice, soft_dice
from geodistill.spec import IGNORE_INDEX

Term = Callable[[Tensor, Tensor], Tensor]

TERMS: dict[str, Term] = {
    "cross_entropy": cross_entropy,
    "smoothed": partial(cross_entropy, smoothing=0.1),
    "focal": focal,
    "soft_dice": soft_dice,
    "pixel_dice": pixel_dice,
    "lovasz": lovasz,
    "tversky": tversky,
    "log_cosh_dice": log_cosh_dice,
    "boundary": boundary_cross_entropy,
}
CLASSES = 4


@pytest.fixture(params=TERMS)
def term(request: pytest.FixtureRequest) -> Term:
    return TERMS[request.param]


def example() -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 10, 12) and a mask with an ignored corner, every class in both images."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, CLASSES, 10, 12, generator=generator)
    mask = torch.randint(0, CLASSES, (2, 5, 6), generator=generator)
    mask = mask.repeat_interleave(2, 1).repeat_interleave(2, 2)
    mask[:, :3, :5] = IGNORE_INDEX
    assert all(set(range(CLASSES)) < set(image.unique().tolist()) for image in mask)
    return logits, mask


def one_hot(mask: Tensor) -> Tensor:
    """(B, H, W) -> (B, K, H, W), 0 where the mask is ignored."""
    known = mask != IGNORE_INDEX
    return (F.one_hot(mask.where(known, 0), CLASSES) * known[..., None]).permute(0, 3, 1, 2).float()


def value_and_gradient(term: Term, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = term(logits, mask)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def test_what_is_said_of_ignored_pixels_is_neither_here_nor_there(term: Term) -> None:
    logits, mask = example()
    ignored = (mask == IGNORE_INDEX)[:, None]
    value, gradient = value_and_gradient(term, logits, mask)
    other, moved = value_and_gradient(term, torch.where(ignored, -7 * logits + 2, logits), mask)
    torch.testing.assert_close(other, value)
    assert not gradient[ignored.expand_as(gradient)].any()
    torch.testing.assert_close(moved, gradient)
    assert gradient.any()


def test_neither_the_order_of_images_nor_that_of_classes_matters(term: Term) -> None:
    logits, mask = example()
    value = term(logits, mask)
    torch.testing.assert_close(term(logits.flip(0), mask.flip(0)), value)
    order = torch.tensor([2, 0, 3, 1])  # class k becomes order[k]
    renamed = torch.cat([order, torch.full((256 - CLASSES,), IGNORE_INDEX)])[mask]
    torch.testing.assert_close(term(logits[:, order.argsort()], renamed), value)


def test_a_number_added_to_all_classes_of_a_pixel_changes_nothing(term: Term) -> None:
    logits, mask = example()
    offset = 5 * torch.randn(2, 1, 10, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(term(logits + offset, mask), term(logits, mask), rtol=1e-4, atol=1e-5)


def test_the_truer_the_cheaper(term: Term) -> None:
    _, mask = example()
    prices = [float(term(certainty * one_hot(mask), mask)) for certainty in (-6, -2, 0, 2, 4)]
    assert prices == sorted(prices, reverse=True)
    assert len(set(prices)) == len(prices)


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"smoothed"}))
def test_certain_truth_costs_nothing(name: str) -> None:
    _, mask = example()
    value, gradient = value_and_gradient(TERMS[name], 40 * one_hot(mask), mask)
    assert abs(float(value)) < 1e-4
    assert gradient.abs().max() < 1e-4


def test_smoothing_makes_certainty_dear() -> None:
    _, mask = example()
    prices = [float(TERMS["smoothed"](certainty * one_hot(mask), mask)) for certainty in (3, 5, 40)]
    assert prices[0] < prices[1] < prices[2]


@pytest.mark.parametrize("certainty", [-1e4, 1e4])
def test_any_certainty_has_a_finite_price_and_gradient(term: Term, certainty: float) -> None:
    _, mask = example()
    value, gradient = value_and_gradient(term, certainty * one_hot(mask), mask)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(term: Term, dtype: torch.dtype) -> None:
    logits, mask = example()
    rounded = logits.to(dtype)
    value = term(rounded, mask)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, term(rounded.float(), mask))


def test_smaller_logits_are_brought_to_the_masks_size(term: Term) -> None:
    logits, mask = example()
    small = logits[..., ::2, ::2]
    torch.testing.assert_close(term(small, mask), term(resize(small, mask.shape[-2:]), mask))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_slope(term: Term, seed: int) -> None:
    logits, mask = example()
    _, gradient = value_and_gradient(term, logits, mask)
    way = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
    step = 1e-2
    slope = (term(logits + step * way, mask) - term(logits - step * way, mask)) / (2 * step)
    torch.testing.assert_close((gradient * way).sum(), slope, rtol=3e-2, atol=2e-4)
