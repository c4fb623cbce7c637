"""Adapters in front of frozen transformer blocks."""

import pytest
import torch
from torch import nn

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.nn.adapters import HIDDEN, AdaptedBlock, Adapter, adapters_of
from geodistill.nn.encoders import build_encoder, format_name, parse_name


def test_an_adapter_adds_its_perceptron() -> None:
    torch.manual_seed(0)
    adapter, tokens = Adapter(6), torch.randn(2, 3, 4, 6)
    first, second = adapter.mlp[0], adapter.mlp[2]
    hidden = nn.functional.gelu(tokens @ first.weight.T + first.bias)
    expected = tokens + nn.functional.gelu(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(adapter(tokens), expected)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 6 * HIDDEN + HIDDEN + 6


@pytest.mark.parametrize(("place", "count"), [("block", 48), ("stage", 4)])
def test_the_large_hiera_has_an_adapter_a_block_or_a_stage(place: str, count: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(f"sam2_hiera_large(adapters={place})")
        plain = build_encoder("sam2_hiera_large")
    adapters = adapters_of(encoder)
    own = sum(p.numel() for adapter in adapters for p in adapter.parameters())
    assert len(adapters) == count
    assert sum(p.numel() for p in encoder.parameters()) - own == 212_149_296
    assert own == {"block": 1_714_416, "stage": 75_008}[place]
    assert (encoder.channels, encoder.strides) == (plain.channels, plain.strides)


@pytest.mark.slow
def test_an_adapter_has_the_width_that_its_block_reads() -> None:
    with torch.device("meta"):
        encoder = build_encoder("sam2_hiera_large(adapters=stage)")
        widths = [a.mlp[0].in_features for a in adapters_of(encoder)]
        maps = encoder.eval()(torch.zeros(1, 3, 65, 97))
    assert widths == [144, 144, 288, 576]
    assert [m.shape[-2:] for m in maps] == [(17, 25), (9, 13), (5, 7), (3, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "sam2_hiera_tiny"])
def test_zero_adapters_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    adapted = build_encoder(f"{name}(adapters=block)").eval()
    plain = build_encoder(name).eval()
    state = {
        key.replace(".block.", "."): value for key, value in adapted.state_dict().items() if ".adapter." not in key
    }
    plain.load_state_dict(state)
    for adapter in adapters_of(adapted):
        nn.init.zeros_(adapter.mlp[2].weight)
        nn.init.zeros_(adapter.mlp[2].bias)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(adapted(image), plain(image), strict=True):
            assert torch.equal(a, b)


def test_names_with_adapters_are_read_and_written() -> None:
    assert parse_name("sam2_hiera_tiny( adapters = stage )") == ("sam2_hiera_tiny", {"adapters": "stage"})
    assert format_name("sam2_hiera_tiny", {"adapters": "stage"}) == "sam2_hiera_tiny(adapters=stage)"
    encoder = build_encoder("test_vit(adapters=block)")
    assert encoder.name == "test_vit(adapters=block)"
    assert all(isinstance(block, AdaptedBlock) for block in encoder.body.model.blocks)


@pytest.mark.parametrize("name", ["test_resnet(adapters=block)", "mobilenetv2_100(adapters=block)"])
def test_an_encoder_without_transformer_blocks_is_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(RecipeError, match="transformer blocks"):
        build_encoder(name)


def test_a_wrong_place_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="one of block, stage"):
        build_encoder("sam2_hiera_tiny(adapters=layer)")
    with torch.device("meta"), pytest.raises(RecipeError, match="stages"):
        build_encoder("test_vit(adapters=stage)")
