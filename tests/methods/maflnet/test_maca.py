"""MACA against the equations written out, position by position; its options; its counts; linear in the positions."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.maflnet.maca import MACA, CrossCovarianceAttention, Fusion, LinearAngularAttention, MacaConfig
from ranks import effective_rank

GRID = (4, 5)
PLAIN = MacaConfig(heads=2)
LITERAL: dict[str, Any] = {
    "angular_norm": False,
    "neighbourhood": "grid",
    "temperature": "divide",
    "norm_axis": "channels",
    "second_map": "same",
    "position_weight": "sigmoid",
    "residual": True,
}


def tokens(channels: int = 6, batch: int = 2) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, GRID[0] * GRID[1], channels)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def scrambled(module: nn.Module) -> nn.Module:
    """Return every parameter a value of its own, so that no two of them can be exchanged unseen."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.3, 0.7)
    return module


def laa_by_hand(module: LinearAngularAttention, x: Tensor, normed: bool, near: str) -> Tensor:
    """Eq. 1-4 for one image ``(L, C)``, one position and one head at a time."""
    length, channels = x.shape
    size = channels // module.heads
    query, key, value = (x @ module.qkv.weight.T).split(channels, 1)
    out = torch.zeros_like(x)
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(length):
            total = 0.5 * value[i, part]
            for j in range(length):
                total = total + (unit(query[i, part]) @ unit(key[j, part])) / math.pi * value[j, part]
            out[i, part] = unit(total) if normed else total
            row, col = divmod(i, GRID[1])
            for tap in range(9):
                if near == "raster":
                    other = i + tap - 4
                    inside, weight = 0 <= other < length, module.dconv[head, 0, tap, 0]
                else:
                    down, right = row + tap // 3 - 1, col + tap % 3 - 1
                    inside = 0 <= down < GRID[0] and 0 <= right < GRID[1]
                    other, weight = down * GRID[1] + right, module.dconv[head, 0, tap // 3, tap % 3]
                if inside:
                    out[i, part] += weight * value[other, part]
    return out @ module.proj.weight.T + module.proj.bias


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("near", ["raster", "grid"])
def test_laa_is_its_equations(normed: bool, near: Any) -> None:
    module = scrambled(LinearAngularAttention(6, replace(PLAIN, angular_norm=normed, neighbourhood=near)))
    assert isinstance(module, LinearAngularAttention)
    x = tokens()
    with torch.no_grad():
        expected = torch.stack([laa_by_hand(module, image, normed, near) for image in x])
        torch.testing.assert_close(module(x, GRID), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("divides", [True, False])
@pytest.mark.parametrize("axis", ["positions", "channels"])
def test_xca_is_its_equations(divides: bool, axis: Any) -> None:
    config = replace(PLAIN, temperature="divide" if divides else "multiply", norm_axis=axis)
    module = scrambled(CrossCovarianceAttention(6, config))
    assert isinstance(module, CrossCovarianceAttention)
    x, size = tokens(), 3
    with torch.no_grad():
        module.temperature.copy_(torch.tensor([0.5, 3.0]))
        expected = torch.zeros_like(x)
        for image, out in zip(x, expected, strict=True):
            query, key, value = (image @ module.qkv.weight.T).split(6, 1)
            for head in range(2):
                part = slice(head * size, (head + 1) * size)
                # As published q and k are (d, L), a row a channel.
                q, k, v = query[:, part].T, key[:, part].T, value[:, part].T
                along = 1 if axis == "positions" else 0
                q, k = q / q.norm(dim=along, keepdim=True), k / k.norm(dim=along, keepdim=True)
                scale = module.temperature[head]
                scores = q @ k.T / scale if divides else q @ k.T * scale
                out[:, part] = (scores.softmax(1) @ v).T
        expected = expected @ module.proj.weight.T + module.proj.bias
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("weight", ["softmax", "sigmoid"])
def test_fusion_is_its_equations(transposed: bool, weight: Any) -> None:
    config = replace(PLAIN, second_map="transposed" if transposed else "same", position_weight=weight)
    module = scrambled(Fusion(6, config))
    assert isinstance(module, Fusion)
    for mlp in module.pooled:  # large products would make every softmax a choice of one
        nn.init.normal_(mlp[2].weight, 0, 0.02)
    first, second = tokens(), tokens().flip(1) * 0.7
    with torch.no_grad():
        expected = torch.zeros_like(first)
        for f1, f2, out in zip(first, second, expected, strict=True):
            a1 = module.pooled[0](f1.mean(0)) + module.pooled[1](f1.amax(0))
            a2 = module.pooled[2](f2.mean(0)) + module.pooled[3](f2.amax(0))
            product = torch.outer(a1, a2)
            for f, m in ((f1, product), (f2, product.T if transposed else product)):
                across = (m.softmax(1) @ f.T).T
                pooled = torch.stack([across.mean(1), across.amax(1)]).view(1, 2, *GRID)
                score = module.spatial(pooled).flatten()
                alpha = score.softmax(0) if weight == "softmax" else score.sigmoid()
                out += f * alpha[:, None] + f  # Eq. 13: of the branch itself
        torch.testing.assert_close(module(first, second, GRID), expected, atol=1e-5, rtol=1e-4)


def test_fusion_of_uniform_weights_scales_the_sum_of_its_branches() -> None:
    """Of constant positions alpha is 1 / L under the softmax, so the result is (1 + 1 / L) times both branches."""
    fusion = Fusion(6, PLAIN)
    first, second = tokens()[:, :1].expand(-1, 20, -1), tokens()[:, 1:2].expand(-1, 20, -1)
    nn.init.zeros_(fusion.spatial[2].weight)
    with torch.no_grad():
        torch.testing.assert_close(fusion(first, second, GRID), (first + second) * 21 / 20)


@pytest.mark.parametrize("channels", [32, 256])
def test_maca_keeps_its_channels(channels: int) -> None:
    """At least a quarter of the effective rank of random maps goes through; channels that are averaged leave 1."""
    torch.manual_seed(0)
    maps = torch.randn(2, channels, 32, 32)
    with torch.no_grad():
        assert effective_rank(MACA(channels, MacaConfig())(maps)) >= effective_rank(maps) / 4


@pytest.mark.parametrize(("channels", "parameters"), [(32, 25_133), (64, 66_285), (160, 288_045), (256, 657_261)])
@pytest.mark.parametrize("neighbourhood", ["raster", "grid"])
def test_published_parameter_counts(channels: int, parameters: int, neighbourhood: Any) -> None:
    with torch.device("meta"):
        module = MACA(channels, MacaConfig(neighbourhood=neighbourhood))
    assert count(module) == parameters
    assert count(module.laa) == 4 * channels**2 + channels + 72
    assert count(module.xca) == 4 * channels**2 + channels + 8
    assert count(module.fusion) == 512 * channels + 4 * channels + 285


@pytest.mark.parametrize("option", LITERAL)
def test_every_option_changes_the_result_of_the_same_weights(option: str) -> None:
    default = scrambled(MACA(8, PLAIN))
    other = MACA(8, replace(PLAIN, **{option: LITERAL[option]}))
    state = default.state_dict()
    if option == "neighbourhood":
        state["laa.dconv"] = state["laa.dconv"].view(2, 1, 3, 3)
    other.load_state_dict(state, strict=option != "residual")
    maps = torch.randn(2, 8, *GRID)
    with torch.no_grad():
        assert not torch.allclose(default(maps), other(maps), atol=1e-3)


def test_raster_neighbours_wrap_from_row_to_row_and_grid_neighbours_do_not() -> None:
    value = torch.zeros(1, 20, 2)
    value[0, 4] = 1.0  # the end of the first row of five
    reach = {}
    for near in ("raster", "grid"):
        module = LinearAngularAttention(2, MacaConfig(heads=1, neighbourhood=near))  # type: ignore[arg-type]
        nn.init.ones_(module.dconv)
        reach[near] = module._dconv(value, GRID)[0, :, 0].view(GRID).nonzero().tolist()
    assert [1, 0] in reach["raster"]
    assert reach["grid"] == [[0, 3], [0, 4], [1, 3], [1, 4]]


def test_the_position_weight_fades_with_the_softmax_at_high_resolution() -> None:
    """The published softmax adds about 1 / (H W) of a map to itself; the sigmoid does not fade."""
    torch.manual_seed(0)
    added = {}
    for weight in ("softmax", "sigmoid"):
        fusion = Fusion(8, MacaConfig(heads=2, position_weight=weight))  # type: ignore[arg-type]
        branch = torch.randn(1, 64 * 64, 8)
        with torch.no_grad():
            added[weight] = fusion._alpha(branch, (64, 64)).mean().item()
    assert added["softmax"] == pytest.approx(1 / 4096, rel=0.05)
    assert added["sigmoid"] > 0.2


def test_only_biases_and_the_temperature_do_not_decay() -> None:
    from geodistill.methods.schema import OptimizerConfig
    from geodistill.methods.task import parameter_groups

    module = MACA(8, PLAIN)
    groups = parameter_groups(module, None, OptimizerConfig(weight_decay=0.1))
    undecayed = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert {name for name, p in module.named_parameters() if id(p) in undecayed} == {
        name for name, p in module.named_parameters() if name.endswith(("bias", "temperature"))
    }


@settings(max_examples=15)
@given(height=st.integers(1, 9), width=st.integers(1, 9), batch=st.integers(1, 3), last=st.booleans())
def test_any_size_and_layout_is_kept_and_images_do_not_mix(height: int, width: int, batch: int, last: bool) -> None:
    torch.manual_seed(0)
    module = MACA(8, PLAIN).eval()
    maps = torch.randn(batch, 8, height, width)
    with torch.no_grad():
        given_maps = maps.contiguous(memory_format=torch.channels_last) if last else maps
        whole = module(given_maps)
        assert whole.shape == maps.shape
        torch.testing.assert_close(whole[-1:], module(maps[-1:]), atol=1e-4, rtol=1e-4)


def test_a_flat_map_gives_finite_values_and_gradients() -> None:
    module = MACA(8, PLAIN)
    maps = torch.zeros(1, 8, 3, 3, requires_grad=True)
    module(maps).sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_half_precision_stays_close() -> None:
    module = MACA(16, MacaConfig(heads=4))
    maps = torch.randn(1, 16, 32, 32)
    with torch.no_grad():
        exact = module(maps)
        with torch.autocast("cpu", torch.bfloat16):
            rough = module(maps).float()
    assert (rough - exact).norm() / exact.norm() < 0.05


def test_live_memory_grows_as_the_positions_do() -> None:
    from geodistill.training.inspect import LiveMemory

    peaks = []
    with torch.device("meta"):
        module = MACA(32, MacaConfig())
    for side in (64, 128, 256):
        maps = torch.zeros(1, 32, side, side, device="meta")
        with torch.no_grad(), LiveMemory() as memory:
            module(maps)
        peaks.append(memory.peak / side**2)
    assert max(peaks) / min(peaks) < 1.1


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"maca\.heads"):
        MACA(10, MacaConfig(heads=4))
    with pytest.raises(UnknownNameError, match="raster"):
        MACA(8, MacaConfig(heads=2, neighbourhood="rows"))  # type: ignore[arg-type]
