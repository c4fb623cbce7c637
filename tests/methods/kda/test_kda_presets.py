"""KDA's presets: the paper as printed and the code as released, each against values computed another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from geodistill.errors import RecipeError
from geodistill.methods.kda.network import ChannelAttention, DcfDecoder, DySample, KdaNetwork, KdaNetworkConfig
from geodistill.methods.kda.training import KdaRecipe
from geodistill.methods.method import BuildContext
from geodistill.nn.losses import focal, kl
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.recipe import load_recipe

SPEC = Spec(Legend(("ground", "landslide")), ("r", "g", "b"), (120.0,) * 3, (60.0,) * 3)


def decoder_of(preset: str) -> DcfDecoder:
    with torch.device("meta"):
        network = build_method(load_recipe("kda-landslide", ["--preset", preset]), BuildContext(SPEC)).network
    assert isinstance(network, KdaNetwork)
    assert isinstance(network.decoder, DcfDecoder)
    return network.decoder


def test_the_printed_decoder_is_equation_1() -> None:
    torch.manual_seed(0)
    config = KdaNetworkConfig(project="conv3x3_bn_relu", upsample="bilinear", attention="pooled")
    decoder = DcfDecoder((8, 12), (4, 8), 2, 16, config).eval()
    for module in decoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    maps = [torch.randn(2, 8, 8, 6), torch.randn(2, 12, 4, 3)]
    with torch.no_grad():
        primes = []
        for projection, level in zip(decoder.projections, maps, strict=True):
            conv, norm = projection[0], projection[1]
            convolved = functional.conv2d(level, conv.weight, None, padding=1)
            mean, deviation = norm.running_mean[:, None, None], (norm.running_var + 1e-5).sqrt()[:, None, None]
            primes.append(torch.relu((convolved - mean) / deviation))
        pooled = np.stack([prime.numpy().mean((2, 3)) for prime in primes])  # scales, images, channels
        shares = np.exp(pooled) / np.exp(pooled).sum(0)
        fine, coarse = (p * torch.from_numpy(s)[..., None, None] for p, s in zip(primes, shares, strict=True))
        fused = fine + functional.interpolate(coarse, (8, 6), mode="bilinear")
        whole = functional.interpolate(fused, (32, 24), mode="bilinear")
        expected = functional.conv2d(whole, decoder.classifier.weight, decoder.classifier.bias)
        torch.testing.assert_close(decoder(maps, (32, 24)), expected, atol=1e-5, rtol=1e-5)


def test_the_presets_build_the_two_decoders() -> None:
    printed, released = decoder_of("printed"), decoder_of("released")
    counts = [sum(p.numel() for p in decoder.parameters()) for decoder in (printed, released)]
    # Four 3x3 convolutions on 1920 channels, their norms, the classifier; Table IV's 0.27 M.
    assert counts == [1920 * 128 * 9 + 4 * 2 * 128 + 128 * 2 + 2, 267_106]
    assert [type(layer) for layer in printed.projections[0]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert not any(isinstance(module, ChannelAttention | DySample) for module in printed.modules())
    assert isinstance(released.attentions[0], ChannelAttention)
    assert isinstance(released.ups[0], DySample)


@pytest.mark.parametrize(("preset", "form"), [("printed", "patch"), ("released", "scalar"), ("coherent", "scalar")])
def test_phase_1_is_the_papers(preset: str, form: str) -> None:
    recipe = load_recipe("kda-landslide-distil", ["--preset", preset])
    assert isinstance(recipe, KdaRecipe)
    phase = recipe.losses.phase
    assert (phase.lr, phase.end_lr, phase.discriminator_lr, phase.discriminator_end_lr) == (5e-5, 5e-8, 5e-6, 5e-9)
    assert phase.factors() == {"adversarial": 0.4, "kl": 0.6, "feature": 0.0}
    assert (phase.temperature, phase.grid, phase.discriminator.form) == (5.0, 16, form)
    assert phase.steps == 200 * phase.epoch_steps == 200 * -(-16_692 // 8)
    assert recipe.data.batch_size == 8
    assert recipe.data.without_replacement == (preset != "coherent")


@pytest.mark.parametrize(("preset", "scale"), [("printed", 1.0), ("released", 0.4375), ("coherent", 1.0)])
def test_phase_2_is_the_papers(preset: str, scale: float) -> None:
    recipe = load_recipe("kda-landslide", ["--preset", preset])
    assert isinstance(recipe, KdaRecipe)
    optimizer, schedule, steps = recipe.optimizer, recipe.schedule, recipe.trainer.max_steps
    assert (recipe.data.batch_size, steps) == (16, 200 * 1043)
    rates = [
        (optimizer.encoder_lr * schedule.factor(step, steps, True), optimizer.lr * schedule.factor(step, steps))
        for step in (0, steps, steps - 1)
    ]
    assert rates[0] == pytest.approx((5e-6, 5e-4))
    assert rates[1] == pytest.approx((5e-9, 5e-6))
    assert rates[2] == pytest.approx((5.31e-9, 5.03e-6), rel=1e-3)  # as docs/kda.md says of the last epoch
    assert recipe.network.scale == scale
    assert recipe.losses.weights == {"ce": 0.4, "focal": 0.6}


@pytest.mark.slow
def test_released_images_are_224_pixels_in_both_phases() -> None:
    recipe = load_recipe("kda-landslide", ["--preset", "released"])
    sizes: list[Any] = []
    with torch.device("meta"):
        network = build_method(recipe, BuildContext(SPEC)).network
        assert isinstance(network, KdaNetwork)
        network.encoder.register_forward_hook(lambda module, args, out: sizes.append(tuple(args[0].shape[2:])))
        assert network(torch.zeros(1, 3, 512, 512)).logits.shape == (1, 2, 512, 512)
    assert sizes == [(224, 224)]
    assert recipe.data.crop == 512
    distil = load_recipe("kda-landslide-distil").data
    assert (distil.crop, distil.scale) == (224, (0.4375, 0.4375))


def test_the_divergence_and_the_focal_term_are_their_definitions() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3)
    powers = [np.exp(maps.numpy() / 5) for maps in (student, teacher)]
    q, p = (power / power.sum(1, keepdims=True) for power in powers)
    expected = 25 * (p * np.log(p / q)).sum(1).mean()
    assert float(kl(student, teacher, temperature=5.0)) == pytest.approx(expected, rel=1e-4)
    logits, mask = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4))
    share = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    hit = np.where(mask.numpy() == 1, share[:, 1], share[:, 0])
    assert float(focal(logits, mask, 2.0)) == pytest.approx(float((-((1 - hit) ** 2) * np.log(hit)).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--network.decoder", "unet", "--network.project", "conv3x3_bn_relu"], r"network\.project.*not dcf"),
        (["--network.decoder", "segformer", "--network.upsample", "bilinear"], r"network\.upsample.*not dcf"),
        (["--losses.phase.lr", "1e-3"], r"losses\.phase\.lr.*steps is 0"),
    ],
)
def test_keys_that_do_nothing_are_refused_with_the_reason(flags: list[str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load_recipe("kda-landslide", flags)


def test_another_decoder_under_a_preset_needs_no_other_key() -> None:
    assert load_recipe("kda-landslide", ["--preset", "printed", "--network.decoder", "unet"]).network.decoder == "unet"


def test_a_teacher_that_phase_2_would_not_ask_is_refused() -> None:
    recipe = load_recipe("kda-landslide", ["--teacher.encoder", "test_vit", "--teacher.weights", "null"])
    with pytest.raises(RecipeError, match="teacher 'teacher', which no loss term asks"):
        build_method(recipe, BuildContext(SPEC))
