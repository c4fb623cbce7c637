"""MAFLNet's terms against their definitions; ignored pixels; the printed forms."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.maflnet.training import MaflLossConfig, MaflObjective
from geodistill.nn.losses import pixel_dice
from geodistill.nn.output import SegmentationOutput


def drawn(seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    logits = torch.randn(2, classes, 6, 5, requires_grad=True)
    mask = torch.randint(0, classes - 1, (2, 6, 5))  # the last class is absent
    mask[0, :2] = 255
    return logits, mask


def terms(config: MaflLossConfig, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    batch: Any = {"mask": mask, "key": ["a", "b"]}
    return MaflObjective(config)(SegmentationOutput(logits, {"aux": 2 * logits}), batch, 0)


def test_cross_entropy_is_geosegs_over_labelled_pixels_or_over_all() -> None:
    logits, mask = drawn()
    log = logits.detach().log_softmax(1)
    total = 0.0
    for b, y, x in (mask != 255).nonzero().tolist():
        pixel = log[b, :, y, x]
        total += float(-(0.95 * pixel[mask[b, y, x]] + 0.05 / 4 * pixel.sum()))
    labelled = int((mask != 255).sum())
    assert terms(MaflLossConfig(), logits, mask)["ce"].item() == pytest.approx(total / labelled, rel=1e-5)
    everything = terms(MaflLossConfig(ce_mean="all"), logits, mask)
    assert everything["ce"].item() == pytest.approx(total / mask.numel(), rel=1e-5)
    assert everything["aux"].item() != pytest.approx(everything["ce"].item())


def test_region_dice_is_geosegs() -> None:
    logits, mask = drawn()
    keep = mask != 255
    shares, losses = logits.detach().softmax(1), []
    for k in range(4):
        p, y = shares[:, k][keep], (mask == k)[keep].float()
        dice = (2 * (p * y).sum() + 0.05) / (p.sum() + y.sum() + 0.05)
        losses.append((1 - dice) * (y.sum() > 0))
    assert terms(MaflLossConfig(), logits, mask)["dice"].item() == pytest.approx(float(sum(losses)) / 4, rel=1e-5)


def test_pixel_dice_is_equation_21() -> None:
    logits, mask = drawn()
    shares, found = logits.detach().softmax(1), []
    for b, y, x in (mask != 255).nonzero().tolist():
        label = F.one_hot(mask[b, y, x], 4)
        p = shares[b, :, y, x]
        found.append(float(1 - 2 * (p * label / (p + label)).sum()))
    assert terms(MaflLossConfig(dice="pixel"), logits, mask)["dice"].item() == pytest.approx(
        sum(found) / len(found), rel=1e-5
    )


def test_the_two_dices_differ_where_a_class_is_rare() -> None:
    """Region Dice weighs a class of one pixel like one of a thousand; Eq. 21 weighs pixels."""
    mask = torch.zeros(1, 20, 20, dtype=torch.int64)
    mask[0, 0, 0] = 1
    logits = torch.zeros(1, 2, 20, 20)
    logits[:, 0] = 6.0  # right everywhere but at the one pixel
    found = {kind: terms(MaflLossConfig(dice=kind), logits, mask)["dice"].item() for kind in ("region", "pixel")}  # type: ignore[arg-type]
    assert found["region"] > 0.4
    assert found["pixel"] < 0.01


@pytest.mark.parametrize("config", [MaflLossConfig(), MaflLossConfig(dice="pixel", ce_mean="all")])
def test_a_perfect_prediction_owes_nothing_and_ignored_pixels_owe_nothing(config: MaflLossConfig) -> None:
    _, mask = drawn()
    logits = 40 * F.one_hot(mask.where(mask != 255, 0), 4).permute(0, 3, 1, 2).float()
    exact = MaflObjective(MaflLossConfig(smoothing=0.0, dice=config.dice, ce_mean=config.ce_mean))
    batch: Any = {"mask": mask, "key": ["a", "b"]}
    assert all(t.item() == pytest.approx(0.0, abs=2e-3) for t in exact(SegmentationOutput(logits), batch, 0).values())
    other, mask = drawn()
    changed = other.detach().clone()
    changed[0, :, :2] += 5 * torch.randn(4, 2, 5)
    for name, term in terms(config, other, mask).items():
        assert term.item() == pytest.approx(terms(config, changed, mask)[name].item(), rel=1e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), unlabelled=st.booleans())
def test_terms_are_finite_and_have_gradients(seed: int, unlabelled: bool) -> None:
    logits, mask = drawn(seed)
    if unlabelled:
        mask[:] = 255
    found = terms(MaflLossConfig(dice="pixel" if seed % 2 else "region"), logits, mask)
    sum(found.values()).backward()
    assert torch.isfinite(logits.grad).all()
    assert all((term.item() == 0) == unlabelled for term in found.values())


def test_logits_of_another_size_are_resized() -> None:
    mask = drawn()[1]
    small = torch.randn(2, 4, 3, 3)
    large = F.interpolate(small, size=(6, 5), mode="bilinear", align_corners=False)
    assert pixel_dice(small, mask).item() == pytest.approx(pixel_dice(large, mask).item(), rel=1e-5)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="dice"):
        MaflObjective(MaflLossConfig(weights={"dise": 1.0}))
    with pytest.raises(UnknownNameError, match="region"):
        MaflObjective(MaflLossConfig(dice="regional"))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="smoothing"):
        MaflObjective(MaflLossConfig(smoothing=1.0))
