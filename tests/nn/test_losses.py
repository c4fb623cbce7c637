"""Loss terms against their definitions."""

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geodistill.nn.losses import (
    KlAxis,
    RunningStatistics,
    TargetNorm,
    TargetNormaliser,
    cross_entropy,
    explained_variance,
    focal,
    gradient_norms,
    kl,
    layer_normalise,
    mse,
    weighted_sum,
)


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    mask[0, :3] = 255
    chosen = -logits.log_softmax(1).gather(1, mask.clamp(max=3)[:, None])[:, 0]
    assert cross_entropy(logits, mask).item() == pytest.approx(chosen[mask != 255].mean().item(), rel=1e-5)


def test_cross_entropy_without_any_label_is_exactly_zero_and_has_a_gradient_of_zero() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_cross_entropy_brings_smaller_logits_to_the_masks_size() -> None:
    logits, mask = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 9, 7))
    full = F.interpolate(logits, size=(9, 7), mode="bilinear", align_corners=False)
    assert cross_entropy(logits, mask).item() == pytest.approx(F.cross_entropy(full, mask).item(), rel=1e-5)


def test_mse_is_the_mean_over_elements() -> None:
    assert mse(torch.zeros(1, 2, 3, 4), torch.full((1, 2, 3, 4), 3.0)).item() == 9.0


@pytest.mark.parametrize("axis", get_args(KlAxis))
def test_kl_is_the_mean_divergence_of_its_distributions(axis: KlAxis) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5)
    if axis == "spatial":
        rows = [m.flatten(2).reshape(-1, 20) for m in (student, teacher)]
    elif axis == "channel":
        rows = [m.permute(0, 2, 3, 1).reshape(-1, 3) for m in (student, teacher)]
    else:
        rows = [m.reshape(-1, 5) for m in (student, teacher)]
    p, q = rows[1].softmax(-1), rows[0].softmax(-1)
    each = (p * (p / q).log()).sum(-1)
    assert kl(student, teacher, axis).item() == pytest.approx(each.mean().item(), rel=1e-4)
    assert kl(student, teacher, axis, "batchmean").item() == pytest.approx(each.sum().item() / 2, rel=1e-4)


def test_reference_kl_equals_the_released_codes_call() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5)
    released = F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    assert kl(student, teacher, "width", "batchmean").item() == pytest.approx(released.item(), rel=1e-4)


def test_kl_is_zero_for_equal_maps_and_grows_a_square_with_temperature() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 8, 4, 4) * 0.01
    assert kl(student, student).item() == pytest.approx(0.0, abs=1e-7)
    # For small logits the divergence falls with the square of the temperature, which the factor makes up for.
    assert kl(student, teacher, temperature=4.0).item() == pytest.approx(kl(student, teacher).item(), rel=0.05)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(-1000, 1000), st.floats(0.5, 20))
def test_running_statistics_equal_those_of_all_batches_at_once(sizes: list[int], mean: float, std: float) -> None:
    torch.manual_seed(0)
    batches = [mean + std * torch.randn(size, 2, 3, 5) for size in sizes]
    statistics = RunningStatistics(2)
    for batch in batches:
        statistics.update(batch)
    everything = torch.cat(batches).double()
    expected = (everything - everything.mean((0, 2, 3), keepdim=True)) / everything.std(
        (0, 2, 3), correction=0, keepdim=True
    )
    torch.testing.assert_close(statistics.standardise(everything).double(), expected, atol=2e-2, rtol=2e-2)


def test_a_channel_that_never_moves_does_not_weigh_without_bound() -> None:
    statistics = RunningStatistics(2)
    maps = torch.stack([torch.full((4, 4), 7.0), torch.randn(4, 4)])[None]
    statistics.update(maps)
    assert statistics.standardise(maps + 0.01).abs().max() < 10
    assert torch.isfinite(statistics.standardise(torch.zeros(1, 2, 4, 4))).all()


def test_running_statistics_resume_from_their_state() -> None:
    first, second = torch.randn(2, 2, 4, 3, 3)
    whole, resumed = RunningStatistics(4), RunningStatistics(4)
    whole.update(first)
    resumed.load_state_dict(whole.state_dict())
    for statistics in (whole, resumed):
        statistics.update(second)
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), resumed.buffers(), strict=True))


def test_layer_normalise_has_no_mean_and_unit_deviation_at_each_pixel() -> None:
    normed = layer_normalise(5 + 3 * torch.randn(2, 64, 3, 4))
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.std(1, correction=0), torch.ones(2, 3, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", get_args(TargetNorm))
def test_statistics_are_taken_only_where_the_kind_needs_them(kind: TargetNorm) -> None:
    norm, target = TargetNormaliser(kind, 3), 5 + torch.randn(2, 3, 4, 4)
    norm.update(target)
    assert bool(norm.statistics.count) == norm.measures == (kind in ("standardised", "phi_s"))
    assert (kind == "raw") == torch.equal(norm(target), target)


def test_explained_variance_is_one_for_equal_maps_and_zero_for_the_mean() -> None:
    teacher = torch.randn(2, 3, 8, 8)
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert explained_variance(teacher, teacher).item() == 1.0
    assert explained_variance(mean, teacher).item() == pytest.approx(0.0, abs=1e-5)


def test_gradient_norms_name_each_terms_share_and_leave_gradients_alone() -> None:
    layer = nn.Linear(2, 1, bias=False)
    image = torch.tensor([[3.0, 4.0]])
    out = layer(image).sum()
    terms = {
        "once": out,
        "thrice": 3 * out,
        "constant": torch.ones(()),
        "elsewhere": nn.Linear(1, 1)(image[:, :1]).sum(),
    }
    norms = gradient_norms(terms, layer.parameters())
    assert norms == {"once": pytest.approx(5.0), "thrice": pytest.approx(15.0), "constant": 0.0, "elsewhere": 0.0}
    assert layer.weight.grad is None
    weighted_sum({"once": out}, {"once": 2.0}).backward()
    assert layer.weight.grad is not None
    assert math.isclose(layer.weight.grad.norm().item(), 10.0, rel_tol=1e-5)


def test_focal_plays_down_what_is_classified_well() -> None:
    torch.manual_seed(0)
    logits, mask = 3 * torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    mask[0, :3] = 255
    chosen = logits.softmax(1).gather(1, mask.clamp(max=3)[:, None])[:, 0]
    expected = (-((1 - chosen) ** 2) * chosen.log())[mask != 255].mean()
    assert focal(logits, mask).item() == pytest.approx(expected.item(), rel=1e-4)
    assert focal(logits, mask, gamma=0.0).item() == pytest.approx(cross_entropy(logits, mask).item(), rel=1e-4)


def test_focal_is_finite_on_a_certain_mistake_and_zero_without_labels() -> None:
    logits = torch.tensor([[200.0, -200.0]]).view(1, 2, 1, 1).requires_grad_()
    wrong = focal(logits, torch.ones(1, 1, 1, dtype=torch.int64))
    assert wrong.item() == pytest.approx(-math.log(1e-7), rel=1e-3)
    nothing = focal(logits, torch.full((1, 2, 2), 255))
    nothing.backward()
    assert nothing.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()
