"""What every network does, whatever its method: forward, backward, sizes, bands, channels, save and load, inference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geodistill.methods.kda.network import KdaNetwork
from geodistill.methods.ktda.network import KtdaNetwork
from geodistill.methods.maflnet.network import MaflNetwork
from geodistill.methods.maflnet.training import PRESETS
from geodistill.methods.metasegnet.network import MetaSegNetwork
from geodistill.methods.sep.network import SepNetwork
from geodistill.methods.supervised.network import DECODERS, SupervisedNetwork
from ranks import collapsed

CLASSES = 3
FLAT = {"teacher_channels": [16] * 4, "teacher_strides": [16] * 4}
PYRAMID = {"teacher_channels": [16, 24, 32, 48, 64], "teacher_strides": [2, 4, 8, 16, 32]}
SMALL: dict[str, Any] = {"decoder_channels": 16}
KTDA: dict[str, Any] = {"encoder": "test_resnet", "fmm_blocks": 1, "decoder_channels": 16}


def metasegnet(channels: int, classes: int, **arguments: Any) -> MetaSegNetwork:
    """MetaSegNet with texts of another length for each of two prompts."""
    made = MetaSegNetwork(channels, classes, prompts=("Af", "Cfb"), text_tokens=9, text_width=12, **arguments)
    made.set_text([torch.randn(3 + 2 * i, 12) for i in range(2)])
    return made


NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "unet": (SupervisedNetwork, {"architecture": "unet", "encoder": "test_resnet", **SMALL}),
    "unet-vit": (SupervisedNetwork, {"architecture": "unet", "encoder": "test_vit", **SMALL}),
    "upernet": (SupervisedNetwork, {"architecture": "upernet", "encoder": "test_convnext", **SMALL}),
    "upernet-frozen-vit": (
        SupervisedNetwork,
        {"architecture": "upernet", "encoder": "test_vit", "frozen_encoder": True, **SMALL},
    ),
    "deeplabv3plus": (SupervisedNetwork, {"architecture": "deeplabv3plus", "encoder": "test_resnet", **SMALL}),
    "pspnet": (SupervisedNetwork, {"architecture": "pspnet", "encoder": "test_resnet", **SMALL}),
    "fcn": (SupervisedNetwork, {"architecture": "fcn", "encoder": "test_resnet", **SMALL}),
    "fcn-vit": (SupervisedNetwork, {"architecture": "fcn", "encoder": "test_vit", **SMALL}),
    "segformer": (SupervisedNetwork, {"architecture": "segformer", "encoder": "mit_b0", **SMALL}),
    "fpn": (SupervisedNetwork, {"architecture": "fpn", "encoder": "test_resnet", "decoder_channels": 32}),
    "manet": (SupervisedNetwork, {"architecture": "manet", "encoder": "test_resnet", **SMALL}),
    "ktda": (KtdaNetwork, KTDA | FLAT),
    "ktda-reference": (KtdaNetwork, KTDA | FLAT | {"order": "neck_fmm", "aux_from": "fmm"}),
    "ktda-no-fmm-unet": (KtdaNetwork, KTDA | FLAT | {"fmm_blocks": 0, "decoder": "unet"}),
    "ktda-vit-student": (KtdaNetwork, KTDA | PYRAMID | {"encoder": "test_vit"}),
    "ktda-pyramid": (KtdaNetwork, KTDA | PYRAMID),
    "ktda-light": (KtdaNetwork, KTDA | FLAT | {"decode_from": "encoder", "decoder": "unet"}),
    "ktda-light-vit": (
        KtdaNetwork,
        KTDA | PYRAMID | {"decode_from": "encoder", "encoder": "test_vit", "aux_from": "fmm"},
    ),
    "ktda-twin": (
        KtdaNetwork,
        KTDA | PYRAMID | {"encoder": "test_efficientnet", "align": "none", "decode_from": "encoder", "decoder": "unet"},
    ),
    "kda": (KdaNetwork, {"encoder": "test_resnet", **SMALL}),
    "kda-vit": (KdaNetwork, {"encoder": "test_vit", **SMALL}),
    "kda-printed": (KdaNetwork, {"encoder": "mit_b0", "project": "conv3x3_bn_relu", "upsample": "bilinear", **SMALL}),
    "kda-segnext": (KdaNetwork, {"encoder": "test_resnet", "decoder": "segnext", **SMALL}),
    "maflnet": (MaflNetwork, {"encoder": "mit_b0", "width": 16}),
    "maflnet-vit": (MaflNetwork, {"encoder": "test_vit(adapters=block)", "trained": "adapters", "width": 16}),
    "metasegnet": (metasegnet, {"encoder": "test_convnext", "width": 16, "heads": 2}),
    "sep-unet": (SepNetwork, {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 32}),
    "sep-upernet-vit": (SepNetwork, {"architecture": "upernet", "encoder": "test_vit", **SMALL}),
    "sep-mask2former": (
        SepNetwork,
        {"architecture": "mask2former", "encoder": "test_convnext", "decoder_channels": 64},
    ),
    "maflnet-printed": (MaflNetwork, {"encoder": "test_resnet", "width": 16, **PRESETS["printed"]["network"]}),
    "maflnet-released": (MaflNetwork, {"encoder": "test_resnet", "width": 16, **PRESETS["released"]["network"]}),
}


QUICK = ("unet", "upernet-frozen-vit", "ktda-light-vit", "kda", "maflnet", "sep-unet")
"""Those of which `make quick` asks all questions."""


@pytest.fixture(params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def build(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    kind, arguments = NETWORKS[request.param]

    def make(bands: int = 3, auxiliary: bool = True) -> nn.Module:
        torch.manual_seed(0)
        return kind(bands, CLASSES, **arguments, auxiliary=auxiliary)

    return make


def run(network: nn.Module, image: Tensor) -> Any:
    return network(*inputs(network, image))


def inputs(network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """The image, and where the network reads a text, the prompt of each, another for the second."""
    return (image, torch.arange(len(image))) if isinstance(network, MetaSegNetwork) else (image,)


def test_every_decoder_is_asked() -> None:
    asked = {arguments["architecture"] for kind, arguments in NETWORKS.values() if kind is SupervisedNetwork}
    assert asked == set(DECODERS)


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_logits_have_the_images_size(build: Callable[..., nn.Module], bands: int) -> None:
    network = build(bands).eval()
    for size in ((64, 64), (65, 97)):
        with torch.no_grad():
            logits = run(network, torch.randn(2, bands, *size)).logits
        assert logits.shape == (2, CLASSES, *size)
        assert torch.isfinite(logits).all()


def test_every_trainable_parameter_has_a_gradient(build: Callable[..., nn.Module]) -> None:
    network = build().train()
    output = run(network, torch.randn(2, 3, 64, 64))
    everything = [output.logits, *output.aux.values(), *(m for maps in output.features.values() for m in maps)]
    torch.stack([(t * torch.randn_like(t)).mean() for t in everything if t.is_floating_point()]).sum().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.slow
def test_save_and_load_give_the_same_logits(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    first = build().eval()
    save_file(first.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    second = build().eval()
    for parameter in second.parameters():
        nn.init.zeros_(parameter)
    second.load_state_dict(load_file(tmp_path / "model.safetensors"))
    image = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        assert torch.equal(run(first, image).logits, run(second, image).logits)


@pytest.mark.slow
def test_the_inference_form_needs_a_part_of_the_state_and_gives_the_same_logits(
    build: Callable[..., nn.Module],
) -> None:
    training, inference = build().eval(), build(auxiliary=False).eval()
    state = training.state_dict()
    assert set(inference.state_dict()) <= set(state)
    inference.load_state_dict({key: state[key] for key in inference.state_dict()})
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        a, b = run(training, image), run(inference, image)
    assert torch.equal(a.logits, b.logits)
    assert not b.aux
    assert not b.features


def test_the_encoder_can_be_found_by_the_optimiser(build: Callable[..., nn.Module]) -> None:
    network = build()
    own = {id(p) for p in network.parameters()}
    assert isinstance(network.encoder, nn.Module)
    assert {id(p) for p in network.encoder.parameters()} <= own


@pytest.mark.slow
def test_no_block_collapses_its_channels(build: Callable[..., nn.Module]) -> None:
    """At initial weights; a map whose channels are all alike never learns to be more."""
    network = build()
    assert collapsed(network, *inputs(network, torch.randn(2, 3, 128, 128))) == []


def test_a_block_that_averages_its_channels_is_found() -> None:
    class Average(SupervisedNetwork):  # a class of this package's, as far as its module says
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean(1, keepdim=True) + 0 * image

    Average.__module__ = SupervisedNetwork.__module__
    network = Average(3, CLASSES, architecture="fcn", encoder="test_resnet", decoder_channels=16)
    (found,) = collapsed(network, torch.randn(2, 16, 8, 8))
    assert "Average" in found
