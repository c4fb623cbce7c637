"""Supervised baselines: what each architecture asks of its encoder, and a step of training."""

from typing import get_args

import pytest
import torch

from built import build_supervised
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.supervised.network import DECODERS, Architecture, SupervisedNetwork, SupervisedNetworkConfig
from geodistill.methods.supervised.training import SupervisedLossConfig
from geodistill.nn.encoders import build_encoder
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("land", "water")), ("r", "g", "b"))


def test_recipes_offer_every_decoder() -> None:
    assert get_args(Architecture) == tuple(DECODERS)


@pytest.mark.parametrize(("architecture", "stride"), [("deeplabv3plus", 16), ("pspnet", 8), ("fcn", 8)])
def test_architectures_that_read_one_deep_map_dilate_the_encoder(architecture: str, stride: int) -> None:
    with torch.device("meta"):
        network = SupervisedNetwork(3, 2, architecture=architecture, encoder="resnet18")
    assert max(network.encoder.strides) == stride
    assert network.encoder.name == f"resnet18(output_stride={stride})"


@pytest.mark.parametrize("encoder", ["mit_b0", "swin_tiny_patch4_window7_224"])
def test_an_encoder_that_cannot_be_dilated_is_refused_by_name(encoder: str) -> None:
    with pytest.raises(RecipeError, match="cannot be dilated to stride 8"):
        SupervisedNetwork(3, 2, architecture="pspnet", encoder=encoder)


@pytest.mark.parametrize("architecture", ["fpn", "deeplabv3plus"])
def test_a_plain_transformer_is_refused_where_a_pyramid_is_needed(architecture: str) -> None:
    with pytest.raises(RecipeError, match="strides"):
        SupervisedNetwork(3, 2, architecture=architecture, encoder="test_vit")


def test_a_frozen_encoder_neither_learns_nor_drifts() -> None:
    network = SupervisedNetwork(
        3, 2, architecture="fcn", encoder="test_resnet", frozen_encoder=True, decoder_channels=8
    )
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    network.train()(torch.randn(2, 3, 32, 32)).logits.mean().backward()
    assert not network.encoder.training
    assert network.decoder.training
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.encoder.state_dict().items())
    assert all(p.grad is not None for p in network.decoder.parameters())


def test_the_dinov2_row_trains_neck_and_head_alone() -> None:
    with torch.device("meta"):
        network = SupervisedNetwork(
            3, 5, architecture="upernet", encoder="vit_base_patch14_dinov2", frozen_encoder=True
        )
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable == 23_599_104 + 32_258_565


def test_convnext_under_a_head_gets_output_norms_unless_frozen() -> None:
    with torch.device("meta"):
        assert SupervisedNetwork(3, 2, architecture="upernet", encoder="convnext_atto").encoder.norms is not None
        frozen = SupervisedNetwork(3, 2, architecture="upernet", encoder="convnext_atto", frozen_encoder=True)
    assert frozen.encoder.norms is None


def test_a_method_can_be_rebuilt_from_its_arguments() -> None:
    method = build_supervised(
        SPEC, SupervisedNetworkConfig("unet", "test_resnet", decoder_channels=16), SupervisedLossConfig()
    )
    rebuilt = SupervisedNetwork(3, 2, **method.arguments, auxiliary=False)
    rebuilt.load_state_dict(method.network.state_dict())
    assert method.name == "supervised"
    assert method.phase is None


@pytest.mark.slow
def test_steps_on_labels_lower_the_loss_and_unlabelled_images_give_zero() -> None:
    torch.manual_seed(0)
    method = build_supervised(
        SPEC, SupervisedNetworkConfig("unet", "test_resnet", decoder_channels=16), SupervisedLossConfig()
    )
    image = torch.randn(4, 3, 32, 32)
    batch = {"image": image, "mask": (image[:, 0] > 0).long(), "valid": torch.ones(4, 32, 32) > 0, "key": ["a"] * 4}
    optimiser = torch.optim.AdamW(method.network.parameters(), 3e-3)
    losses = []
    for step in range(12):
        loss = method.objective(method.network(image), batch, step)["ce"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    batch["mask"] = torch.full((4, 32, 32), 255)
    assert method.objective(method.network(image), batch, 0)["ce"].item() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "channels"),
    [("fcn", "resnet50", 1024), ("upernet", "vit_base_patch14_dinov2", 768), ("segformer", "mit_b0", 160)],
)
def test_an_auxiliary_head_reads_the_third_level_of_four(architecture: str, encoder: str, channels: int) -> None:
    with torch.device("meta"):
        network = SupervisedNetwork(3, 5, architecture=architecture, encoder=encoder, aux_head=True)
        output = network.train()(torch.zeros(2, 3, 64, 64))
        plain = SupervisedNetwork(3, 5, architecture=architecture, encoder=encoder, aux_head=True, auxiliary=False)
    assert output.aux["aux"].shape == output.logits.shape == (2, 5, 64, 64)
    # One 3x3 convolution, its norm, and a classifier with bias.
    head = sum(p.numel() for p in network.aux_head.parameters())
    assert head == channels * 256 * 9 + 2 * 256 + 256 * 5 + 5
    assert plain.aux_head is None
    assert sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in plain.parameters()) == head


def test_an_auxiliary_term_of_0_builds_no_head() -> None:
    network = SupervisedNetworkConfig("unet", "test_resnet", decoder_channels=16)
    method = build_supervised(SPEC, network, SupervisedLossConfig(weights={"aux": 0.4}))
    mask = torch.randint(0, 2, (2, 32, 32))
    batch = {"image": torch.randn(2, 3, 32, 32), "mask": mask, "valid": mask < 2, "key": ["a", "b"]}
    terms = method.objective(method.network(batch["image"]), batch, 0)
    assert list(terms) == ["ce", "aux"]
    assert [method.objective.weight(name, 0) for name in terms] == [1.0, 0.4]
    rebuilt = SupervisedNetwork(3, 2, **method.arguments, auxiliary=False)
    rebuilt.load_state_dict({k: v for k, v in method.network.state_dict().items() if not k.startswith("aux_head")})
    without = build_supervised(SPEC, network, SupervisedLossConfig())
    assert without.network.aux_head is None
    assert list(without.objective(without.network(batch["image"]), batch, 0)) == ["ce"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unet"):
        SupervisedNetwork(3, 2, architecture="unett", encoder="test_resnet")
    with pytest.raises(UnknownNameError, match="ce"):
        build_supervised(
            SPEC, SupervisedNetworkConfig(encoder="test_resnet"), SupervisedLossConfig(weights={"dise": 1.0})
        )


def test_odd_sizes_do_not_depend_on_what_surrounds_them() -> None:
    network = SupervisedNetwork(3, 2, architecture="fpn", encoder="test_resnet", decoder_channels=32).eval()
    image = torch.randn(1, 3, 40, 56)
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :40, :56] = image
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits, network(padded).logits[..., :40, :56])
    assert build_encoder("test_resnet").strides[-1] == 32


def test_fpn_takes_one_window_of_one_value_a_group() -> None:
    torch.manual_seed(0)
    network = SupervisedNetwork(3, 2, architecture="fpn", encoder="test_resnet", decoder_channels=32).eval()
    images = torch.randn(2, 3, 32, 32)  # its deepest map is one pixel, a group one channel
    with torch.no_grad():
        torch.testing.assert_close(network(images[:1]).logits, network(images).logits[:1], rtol=1e-5, atol=1e-5)
