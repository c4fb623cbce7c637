"""KDA's network and method: published counts and multiply-adds, decoders, presets, terms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from built import build_kda
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.kda.network import DECODER_WIDTHS, KdaNetwork, KdaNetworkConfig
from geodistill.methods.kda.training import KdaLossConfig, KdaObjective
from geodistill.nn.losses import cross_entropy, focal
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("ground", "landslide")), ("r", "g", "b"), (120.0,) * 3, (60.0,) * 3)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convolutions_and_layers(network: nn.Module, size: int) -> int:
    """Multiply-adds of convolutions and linear layers, without attention's products."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as flops:
        network.eval()(torch.zeros(1, 3, size, size))
    counts = {str(op): n for op, n in flops.get_flop_counts()["Global"].items()}
    assert any("attention" in op or "bmm" in op for op in counts)
    return sum(n for op, n in counts.items() if "attention" not in op and "bmm" not in op) // 2


@pytest.mark.slow
def test_published_counts_of_the_whole_model() -> None:
    with torch.device("meta"):
        network = KdaNetwork(3, 2)
    assert count(network.encoder) == 66_140_800
    assert count(network.decoder) == 267_106
    assert count(network) == 66_407_906
    # The paper counts two operations a multiply-add, at 224 pixels: 22.21 G, and 22.26 with its norms.
    assert 2 * convolutions_and_layers(network, 224) / 1e9 == pytest.approx(22.21, abs=0.005)
    assert convolutions_and_layers(network, 512) / 1e9 == pytest.approx(58.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", sorted(DECODER_WIDTHS))
@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit", "mit_b0"])
def test_every_decoder_reads_every_encoder(decoder: Any, encoder: str) -> None:
    network = KdaNetwork(4, 3, encoder=encoder, decoder=decoder, decoder_channels=16)
    logits = network(torch.randn(2, 4, 65, 97)).logits
    assert logits.shape == (2, 3, 65, 97)
    logits.square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in network.encoder.parameters())


def test_widths_are_those_of_table_iv_where_not_given() -> None:
    with torch.device("meta"):
        counts = {name: round(count(KdaNetwork(3, 2, decoder=name).decoder) / 1e6, 2) for name in DECODER_WIDTHS}
    assert counts == {"dcf": 0.27, "unet": 12.16, "segformer": 0.76, "segnext": 3.87, "upernet": 0.97}


def test_the_terms_are_cross_entropy_and_focal_with_the_published_factors() -> None:
    method = build_kda(SPEC, KdaNetworkConfig("test_resnet", decoder_channels=16), KdaLossConfig(gamma=3.0))
    torch.manual_seed(0)
    image, mask = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    batch: Any = {"image": image, "mask": mask, "valid": mask < 9, "key": ["a", "b"], "source": ["a", "b"]}
    output = method.network.eval()(image)
    terms = method.objective(output, batch, 0)
    assert terms["ce"].item() == pytest.approx(cross_entropy(output.logits, mask).item())
    assert terms["focal"].item() == pytest.approx(focal(output.logits, mask, 3.0).item())
    assert {name: method.objective.weight(name, 7) for name in terms} == {"ce": 0.4, "focal": 0.6}
    assert method.phase is None
    assert method.objective.teacher_module() is None


def test_at_another_scale_the_encoder_sees_the_image_resized_and_the_logits_are_not() -> None:
    torch.manual_seed(0)
    network = KdaNetwork(3, 2, encoder="test_resnet", decoder_channels=16, scale=0.4375).eval()
    plain = KdaNetwork(3, 2, encoder="test_resnet", decoder_channels=16).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 128, 96)
    with torch.no_grad():
        small = nn.functional.interpolate(image, (56, 42), mode="bilinear", align_corners=False)
        expected = nn.functional.interpolate(plain(small).logits, (128, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(image).logits, expected)
    with pytest.raises(RecipeError, match=r"network\.scale 0"):
        KdaNetwork(3, 2, encoder="test_resnet", scale=0.0)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="segnext"):
        KdaNetwork(3, 2, encoder="test_resnet", decoder="segnet")
    with pytest.raises(UnknownNameError, match="focal"):
        KdaObjective({"focl": 1.0})
    with pytest.raises(RecipeError, match=r"losses\.gamma -1"):
        KdaObjective({}, gamma=-1.0)
    with pytest.raises(RecipeError, match="multiple of 4"):
        KdaNetwork(3, 2, encoder="test_resnet", decoder_channels=6)
