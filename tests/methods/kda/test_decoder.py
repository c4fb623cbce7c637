"""DCF: published counts, the fusion by its equations, and an upsampler that begins as bilinear interpolation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.kda.network import DcfDecoder, DySample, KdaNetworkConfig

PVT = ((128, 256, 512, 1024), (4, 8, 16, 32))
DCF = KdaNetworkConfig()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("project", "upsample", "parameters"),
    [
        ("conv1x1_gelu", "dysample", 267_106),
        ("conv1x1_bn_gelu", "bilinear", 255_746),
        # 3x3 convolutions over 1920 channels alone are 2.21 M: the printed equation cannot give 0.27 M.
        ("conv3x3_bn_relu", "dysample", 2_250_210),
    ],
)
def test_published_parameter_counts(project: Any, upsample: Any, parameters: int) -> None:
    with torch.device("meta"):
        assert count(DcfDecoder(*PVT, 2, 128, KdaNetworkConfig(project=project, upsample=upsample))) == parameters


def test_a_map_of_the_decoders_width_is_taken_as_it_is() -> None:
    decoder = DcfDecoder((16, 32), (4, 8), 2, 16, DCF)
    assert isinstance(decoder.projections[0], nn.Identity)


def test_the_fusion_follows_its_equations() -> None:
    torch.manual_seed(0)
    decoder = DcfDecoder((8, 12, 20), (2, 4, 8), 3, 8, KdaNetworkConfig(upsample="bilinear")).eval()
    maps = [torch.randn(2, c, 16 >> i, 16 >> i) for i, c in enumerate((8, 12, 20))]
    with torch.no_grad():
        even = [p(m) for p, m in zip(decoder.projections, maps, strict=True)]
        scores = torch.stack([a.layers(e.mean((2, 3))) for a, e in zip(decoder.attentions, even, strict=True)])
        shares = scores.exp() / scores.exp().sum(0)
        torch.testing.assert_close(shares.sum(0), torch.ones(2, 8))
        w1, w2, w3 = (e * s[..., None, None] for e, s in zip(even, shares, strict=True))

        def up(m: torch.Tensor) -> torch.Tensor:
            return F.interpolate(m, scale_factor=2, mode="bilinear")

        expected = decoder.classifier(up(w1 + up(w2 + up(w3))))
        torch.testing.assert_close(decoder(maps, (32, 32)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_dysample_begins_as_bilinear_interpolation(scale: int) -> None:
    torch.manual_seed(0)
    up = DySample(8, scale)
    nn.init.zeros_(up.offset.weight)
    maps = torch.randn(2, 8, 5, 7)
    expected = F.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(maps), expected, atol=1e-5, rtol=1e-5)


def test_an_offset_moves_the_point_that_its_group_reads() -> None:
    up = DySample(8, 2, groups=2)
    nn.init.zeros_(up.offset.weight)
    # One input pixel to the right for the first group: offsets are quartered, x stands before y.
    with torch.no_grad():
        up.offset.bias.view(2, 2, 4)[0, 0] = 4.0
    maps = torch.randn(1, 8, 6, 9)
    plain = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    moved = up(maps)
    torch.testing.assert_close(moved[:, :4, :, :-4], plain[:, :4, :, 2:-2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved[:, 4:], plain[:, 4:], atol=1e-5, rtol=1e-5)


def test_dysample_keeps_its_places_in_half_precision() -> None:
    up = DySample(8, 2)
    maps = torch.randn(1, 8, 3, 300).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        half = up(maps)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), up(maps.float()), atol=2e-2, rtol=2e-2)


@pytest.mark.slow
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_comes_out_whole(height: int, width: int) -> None:
    decoder = DcfDecoder((4, 6, 8, 8), (2, 4, 8, 16), 2, 8, DCF).eval()
    maps = [torch.randn(1, c, -(-height // s), -(-width // s)) for c, s in ((4, 2), (6, 4), (8, 8), (8, 16))]
    with torch.no_grad():
        logits = decoder(maps, (height, width))
    assert logits.shape == (1, 2, height, width)
    assert bool(torch.isfinite(logits).all())


def test_every_weight_serves_and_repeated_strides_are_not_enlarged() -> None:
    decoder = DcfDecoder((4, 6, 8), (4, 8, 8), 2, 8, DCF)
    decoder(
        [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4), torch.randn(2, 8, 4, 4)], (32, 32)
    ).square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
    assert isinstance(decoder.ups[2], nn.Identity)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(RecipeError, match="multiple of 4"):
        DcfDecoder((4, 8), (4, 8), 2, 10, DCF)
    with pytest.raises(RecipeError, match="divide each other"):
        DcfDecoder((4, 8), (4, 14), 2, 8, DCF)
    with pytest.raises(UnknownNameError, match="conv1x1_gelu"):
        KdaNetworkConfig(project="conv1x1")  # type: ignore[arg-type]
