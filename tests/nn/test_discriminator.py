"""The discriminator: published count, scores per position, gradients through what is frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.nn.discriminator import FeatureDiscriminator, discriminator_accuracy
from geodistill.nn.encoders import build_encoder


def small(form: Any = "scalar", encoder: str = "test_vit", width: int = 16) -> FeatureDiscriminator:
    torch.manual_seed(0)
    return FeatureDiscriminator(6, build_encoder(encoder), form, width)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        discriminator = FeatureDiscriminator(1024, build_encoder("vit_base_patch14_dinov2"))
        scores = discriminator(torch.zeros(2, 1024, 16, 16))
    assert sum(p.numel() for p in discriminator.parameters()) == 14_883_019
    assert scores.shape == (2, 1)


@pytest.mark.parametrize("encoder", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 2)])
def test_a_score_per_image_or_per_position(encoder: str, size: tuple[int, int]) -> None:
    maps = torch.randn(2, 6, *size)
    assert small("scalar", encoder)(maps).shape == (2, 1)
    scores = small("patch", encoder)(maps)
    assert scores.shape == (2, 1, *size)
    assert bool(((scores > 0) & (scores < 1)).all())


def test_gradients_pass_through_the_frozen_encoder() -> None:
    discriminator = small().train()
    maps = torch.randn(2, 6, 4, 4, requires_grad=True)
    discriminator(maps).sum().backward()
    assert maps.grad is not None
    assert bool(maps.grad.any())
    assert all(p.grad is not None for p in discriminator.parameters())
    assert all(p.grad is None for p in discriminator.encoder.parameters())


def test_the_frozen_encoder_stays_out_of_state_and_of_training_mode() -> None:
    discriminator = small().train()
    own = {id(p) for p in discriminator.parameters()}
    assert not own & {id(p) for p in discriminator.encoder.parameters()}
    assert not any("frozen" in key or "encoder" in key for key in discriminator.state_dict())
    assert not discriminator.encoder.training


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scalar", "patch"])
def test_lowering_the_loss_it_learns_to_raise_it(form: Any) -> None:
    discriminator = small(form, width=64).train()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    distances, accuracies = [], []
    for step in range(60):
        torch.manual_seed(step)
        first, second = torch.randn(4, 6, 4, 4) + 1, torch.randn(4, 6, 4, 4) - 1
        scores = discriminator.compare(first, second)
        distance = (scores[0] - scores[1]).square().mean()
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
        distances.append(float(distance.detach()))
        accuracies.append(float(discriminator_accuracy(*scores)))
    assert sum(distances[-5:]) > 3 * sum(distances[:5])
    assert sum(accuracies[-5:]) / 5 > 0.8


def test_its_gradients_are_negated_and_the_maps_are_not() -> None:
    discriminator = small(form="patch")
    maps = torch.randn(2, 6, 4, 4, requires_grad=True)
    parameter = discriminator.head[-1].bias
    discriminator(maps).sum().backward()
    with torch.no_grad():
        before = discriminator(maps).sum()
        parameter += 1e-2
        after = discriminator(maps).sum()
        parameter -= 1e-2
        along = discriminator(maps + 1e-3 * maps.grad.sign()).sum()
    assert after > before
    assert parameter.grad < 0
    assert along > before


def test_accuracy_has_no_preferred_side() -> None:
    low, high = torch.full((4, 1), 0.1), torch.full((4, 1), 0.9)
    assert float(discriminator_accuracy(low, high)) == float(discriminator_accuracy(high, low)) == 1.0
    assert float(discriminator_accuracy(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.9]))) == 0.5


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="patch"):
        small("pixel")
    with pytest.raises(RecipeError, match="multiple of 8"):
        FeatureDiscriminator(6, build_encoder("test_vit"), width=12)
