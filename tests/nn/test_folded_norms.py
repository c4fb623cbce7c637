"""Weights whose batch norms were folded into the convolutions keep their features when they are trained."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geodistill.nn.averaging import ExponentialAverage
from geodistill.nn.encoders import Encoder, build_encoder, is_folded, unfold_norms


def block(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU6()]


def trained() -> nn.Sequential:
    """Two blocks whose norms have statistics, scales of either sign and biases, as training leaves them."""
    torch.manual_seed(0)
    network = nn.Sequential(*block(3), *block(6)).eval()
    for norm in (network[1], network[4]):
        assert isinstance(norm, nn.BatchNorm2d)
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            assert tensor is not None
            nn.init.normal_(tensor)
        nn.init.uniform_(norm.running_var, 0.2, 3)  # type: ignore[arg-type]
    return network


def folded(network: nn.Module) -> nn.Module:
    """Fold as converters for inference do: y = g (Wx - m) / s + b becomes (g / s) Wx + (b - g m / s)."""
    conv = None
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            conv = module
        elif isinstance(module, nn.BatchNorm2d) and conv is not None:
            assert module.running_mean is not None
            assert module.running_var is not None
            scale = module.weight.detach() / (module.running_var + module.eps).sqrt()
            conv.weight.data *= scale[:, None, None, None]
            module.bias.data -= scale * module.running_mean
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.running_mean)
            nn.init.constant_(module.running_var, 1 - module.eps)
    return network


def test_only_norms_with_a_bias_alone_count_as_folded() -> None:
    assert not is_folded(nn.Sequential(*block(3)))  # as they are at first
    assert not is_folded(trained())
    assert is_folded(folded(trained()))
    assert not is_folded(nn.Conv2d(3, 3, 1))


def test_unfolded_norms_compute_the_same_in_evaluation_and_in_training() -> None:
    original, network = trained(), folded(trained())
    first, other = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16)
    expected = original(first)
    torch.testing.assert_close(network(first), expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        lost = folded(trained()).train()(first)
    assert float((lost - expected.detach()).abs().mean()) > 0.3  # what training made of them before
    network.train()
    unfold_norms(network, first)
    assert network.training
    assert not is_folded(network)
    statistics = [module.running_mean.clone() for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(statistics[0], network[0](first).mean((0, 2, 3)))  # type: ignore[index]
    torch.testing.assert_close(network(first), expected, atol=1e-3, rtol=1e-3)
    network = folded(trained())
    unfold_norms(network, first)
    assert not network.training
    torch.testing.assert_close(network(other), original(other), atol=1e-4, rtol=1e-4)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small ResNet whose norms are folded, as a file of weights."""
    torch.manual_seed(0)
    body = build_encoder("test_resnet").body.model
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.ones_(module.weight)
    tensors: dict[str, Tensor] = {key: value.contiguous() for key, value in body.state_dict().items()}
    save_file(tensors, tmp_path / "folded.safetensors")
    return tmp_path / "folded.safetensors"


def test_an_encoder_unfolds_with_its_first_training_image_and_its_average_follows(weights: Path) -> None:
    image = torch.randn(4, 3, 64, 64)

    def maps(encoder: nn.Module) -> list[Tensor]:
        return [each.detach() for each in encoder(image)]

    encoder = build_encoder("test_resnet", 3, weights).eval()
    before = maps(encoder)
    averaged = ExponentialAverage(encoder, 0.9)
    with torch.no_grad():
        encoder.train()(image)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()  # as a trial puts them back
    assert is_folded(encoder)  # neither evaluation nor a trial changes anything
    for found, expected in zip(maps(encoder.train()), before, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    averaged.update(encoder)
    assert not is_folded(encoder)
    assert not is_folded(averaged)
    again = _resumed(encoder)
    state = {key: value.clone() for key, value in again.state_dict().items() if key.endswith("weight")}
    maps(again)
    assert all(value.equal(again.state_dict()[key]) for key, value in state.items())  # not a second time


def _resumed(encoder: Encoder) -> Encoder:
    other = build_encoder(encoder.name)
    other.load_state_dict(encoder.state_dict())
    return other.train()
