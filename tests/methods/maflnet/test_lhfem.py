"""LHFEM and its Laplacian against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geodistill.methods.maflnet.lhfem import LHFEM, LhfemConfig, laplacian

LINE = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])


def laplacian_by_hand(maps: Tensor) -> Tensor:
    """Blur, every second sample, zeros between, four times the blur, with mirrored borders."""
    height, width = maps.shape[-2:]
    kernel = (torch.outer(LINE, LINE) / 256).expand(maps.shape[1], 1, 5, 5)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, groups=x.shape[1])

    down = blur(maps)[..., ::2, ::2]
    spread = torch.zeros(*down.shape[:2], 2 * down.shape[2], 2 * down.shape[3])
    spread[..., ::2, ::2] = down
    return maps - 4 * blur(spread)[..., :height, :width]


@settings(max_examples=25)
@given(height=st.integers(3, 13), width=st.integers(3, 13))
def test_the_laplacian_is_the_pyramids_first_level(height: int, width: int) -> None:
    torch.manual_seed(height * 20 + width)
    maps = torch.rand(2, 3, height, width)
    torch.testing.assert_close(laplacian(maps), laplacian_by_hand(maps), atol=1e-6, rtol=1e-5)


@settings(max_examples=25)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_constant_maps_have_no_detail(height: int, width: int) -> None:
    detail = laplacian(torch.full((1, 2, height, width), 0.7))
    assert detail.shape == (1, 2, height, width)
    torch.testing.assert_close(detail, torch.zeros_like(detail), atol=1e-6, rtol=0)


def test_detail_is_found_at_an_edge_and_not_beside_it() -> None:
    step = torch.zeros(1, 1, 16, 16)
    step[..., 8:] = 1.0
    detail = laplacian(step).abs()[0, 0, 8]
    assert detail[7:9].min() > 0.2
    assert detail[:4].max() < 1e-6


def test_the_module_is_its_equations() -> None:
    torch.manual_seed(0)
    module = LHFEM(3, LhfemConfig(norm_before=False, residual=False)).eval()
    maps = torch.randn(2, 3, 8, 7)
    with torch.no_grad():
        sure = 1 / (1 + torch.exp(-maps))
        joined = torch.cat([maps * (1 - sure), maps * laplacian(sure)], 1)
        convolution, norm = module.fuse[0], module.fuse[1]
        fused = torch.einsum("oi,bihw->bohw", convolution.weight[:, :, 0, 0], joined)
        fused = ((fused / (norm.running_var[:, None, None] + norm.eps).sqrt()) * norm.weight[:, None, None]).relu()
        expected = fused * module.mask(fused)
        torch.testing.assert_close(module(maps), expected, atol=1e-5, rtol=1e-4)


def test_published_parameter_count_whatever_the_options() -> None:
    for config in (LhfemConfig(), LhfemConfig(norm_before=False, residual=False)):
        assert sum(p.numel() for p in LHFEM(256, config).parameters()) == 133_891


def test_each_option_changes_the_result_of_the_same_weights() -> None:
    torch.manual_seed(0)
    default = LHFEM(4, LhfemConfig())
    maps = 3 * torch.randn(2, 4, 8, 8) + 2
    for config in (LhfemConfig(norm_before=False), LhfemConfig(residual=False)):
        other = LHFEM(4, config)
        other.load_state_dict({k: v for k, v in default.state_dict().items() if k in other.state_dict()})
        with torch.no_grad():
            assert not torch.allclose(default(maps), other(maps), atol=1e-2)


def test_features_of_large_size_lose_their_detail_without_the_norm() -> None:
    """Why the norm is the default: saturated sigmoids leave no detail of the map to find."""
    torch.manual_seed(0)
    maps = 30 + 4 * torch.randn(2, 4, 16, 16)
    printed = laplacian(maps.sigmoid()).abs().mean()
    normed = laplacian(nn.BatchNorm2d(4, affine=False)(maps).sigmoid()).abs().mean()
    assert printed < 1e-4
    assert normed > 0.05


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
def test_any_size_has_finite_gradients(size: tuple[int, int]) -> None:
    module = LHFEM(4, LhfemConfig())
    maps = torch.randn(2, 4, *size, requires_grad=True)
    module(maps).square().mean().backward()
    assert torch.isfinite(maps.grad).all()
