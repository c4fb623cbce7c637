"""Maps of another style: what changes, by how much, when, and that nothing of it is left in what was trained."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.methods.method import BuildContext
from geodistill.methods.supervised.network import SupervisedNetworkConfig
from geodistill.methods.supervised.training import SupervisedRecipe, build
from geodistill.nn.encoders import Encoder, build_encoder, unfold_norms
from geodistill.nn.style_noise import LEVELS, StyleNoise, add_style_noise, takes_style_noise
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("ground", "roof")), ("red", "green", "blue"), (100.0,) * 3, (50.0,) * 3)


def some_maps(images: int = 6, channels: int = 4) -> Tensor:
    """Maps whose channels have a mean and deviation of their own in each image."""
    generator = torch.Generator().manual_seed(0)
    means, deviations = (torch.rand(images, channels, 1, 1, generator=generator) * 4 + 1 for _ in range(2))
    return means + deviations * torch.randn(images, channels, 12, 10, generator=generator)


def changed(noise: StyleNoise, maps: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    after = noise(nn.Identity(), (), maps)
    assert after is not None
    return after


def test_only_mean_and_deviation_change() -> None:
    maps = some_maps()
    after = changed(StyleNoise(1.0), maps).numpy()
    assert after.shape == maps.shape
    for before, other in zip(maps.numpy().reshape(-1, 120), after.reshape(-1, 120), strict=True):
        assert abs(np.corrcoef(before, other)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert abs(after.mean((2, 3)) - maps.numpy().mean((2, 3))).min() > 1e-3


def test_they_change_by_as_much_as_they_vary_over_the_batch() -> None:
    maps, noise = some_maps(), StyleNoise(1.0)
    drawn = np.stack([changed(noise, maps, seed).numpy() for seed in range(600)])
    means, deviations = maps.numpy().mean((2, 3)), maps.numpy().std((2, 3))
    found = drawn.mean((3, 4))
    np.testing.assert_allclose(found.mean(0), means, atol=0.3)
    np.testing.assert_allclose(found.std(0), np.broadcast_to(means.std(0), means.shape), rtol=0.12)
    # A negative deviation mirrors the map about its mean, as in the paper: its size is what can be seen.
    signed = np.sign(((drawn - found[..., None, None]) * (maps.numpy() - means[..., None, None])).mean((3, 4)))
    np.testing.assert_allclose((signed * drawn.std((3, 4))).mean(0), deviations, atol=0.3)
    np.testing.assert_allclose(
        (signed * drawn.std((3, 4))).std(0), np.broadcast_to(deviations.std(0), means.shape), rtol=0.12
    )


def test_images_of_one_style_keep_it() -> None:
    maps = some_maps(1).expand(5, -1, -1, -1)
    torch.testing.assert_close(changed(StyleNoise(1.0), maps), maps, atol=0.05, rtol=0)


def test_it_works_so_often_in_training_and_never_without_gradients() -> None:
    noise, maps = StyleNoise(0.3), some_maps()
    torch.manual_seed(0)
    times = sum(noise(nn.Identity(), (), maps) is not None for _ in range(1000))
    assert times == pytest.approx(300, abs=45)
    with torch.no_grad():
        assert StyleNoise(1.0)(nn.Identity(), (), maps) is None
    assert StyleNoise(1.0).eval()(nn.Identity(), (), maps) is None


def test_the_gradient_is_finite_where_all_is_alike() -> None:
    maps = torch.full((3, 2, 4, 4), 0.5, requires_grad=True)
    changed(StyleNoise(1.0), maps).square().sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


def test_half_precision_stays_half() -> None:
    assert changed(StyleNoise(1.0), some_maps().bfloat16()).dtype == torch.bfloat16


def noisy(name: str = "test_resnet") -> Encoder:
    torch.manual_seed(0)
    encoder = build_encoder(name)
    add_style_noise(encoder, 1.0)
    return encoder


def test_an_encoders_first_levels_change_and_in_evaluation_none() -> None:
    encoder, image = noisy(), torch.randn(4, 3, 64, 64)
    assert len(encoder.channels) > LEVELS
    first, second = encoder(image), encoder(image)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "later levels follow the first"
    encoder.eval()
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), encoder(image), strict=True))
    assert encoder.state_dict().keys() == build_encoder("test_resnet").state_dict().keys()


@pytest.mark.parametrize(("name", "takes"), [
    ("mobilenetv2_100", True), ("tf_efficientnet_lite2", True), ("convnext_tiny", True), ("resnet18", True),
    ("mit_b0", False), ("test_vit", False), ("swin_tiny_patch4_window7_224", False),
])  # fmt: skip
def test_convolutional_encoders_take_it(name: str, takes: bool) -> None:
    assert takes_style_noise(name) == takes


def test_a_copy_has_its_own() -> None:
    encoder = noisy()
    copy = deepcopy(encoder).eval()
    image = torch.randn(4, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(copy(image), copy(image), strict=True))
    assert not torch.equal(encoder(image)[0], encoder(image)[0]), "which trains on"


def test_norms_are_unfolded_by_maps_as_they_are() -> None:
    disturbed, image = noisy("mobilenetv2_050"), torch.randn(4, 3, 64, 64)
    torch.manual_seed(0)
    plain = build_encoder("mobilenetv2_050")
    for encoder in (disturbed, plain):
        unfold_norms(encoder.body, image)
    found, expected = disturbed.body.state_dict(), plain.body.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_recipe_builds_it_for_training_and_the_network_is_rebuilt_without() -> None:
    recipe = SupervisedRecipe(network=SupervisedNetworkConfig(encoder="test_resnet", style_noise=0.5))
    method = build(recipe, BuildContext(SPEC))
    assert "style_noise" not in method.arguments
    found = [module.probability for module in method.network.modules() if isinstance(module, StyleNoise)]
    assert found == [0.5]


@pytest.mark.parametrize(("encoder", "share", "match"), [
    ("test_resnet", 1.5, r"network.style_noise 1.5; expected a probability from 0 to 1"),
    ("test_vit", 0.5, r"stages of a VitBody.*a convolutional encoder.*network.style_noise"),
])  # fmt: skip
def test_what_has_no_stages_or_is_no_probability_is_refused(encoder: str, share: float, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        build(SupervisedRecipe(network=SupervisedNetworkConfig(encoder=encoder, style_noise=share)), BuildContext(SPEC))


def test_an_encoder_that_stands_still_has_no_use_for_it() -> None:
    config = SupervisedNetworkConfig(encoder="test_resnet", style_noise=0.5, frozen_encoder=True)
    with pytest.raises(RecipeError, match="frozen_encoder; expected an encoder that is trained"):
        build(SupervisedRecipe(network=config), BuildContext(SPEC))
