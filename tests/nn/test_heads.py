"""SegFormer's head and SegNeXt's: counts, shapes, and a factorisation that approximates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geodistill.nn.heads import HamHead, MatrixFactors, SegFormerHead

MAPS = [torch.randn(2, 8, 16, 12), torch.randn(2, 12, 8, 6), torch.randn(2, 16, 4, 3)]


def test_segformers_head_has_the_published_count() -> None:
    # KDA's Table IV, on its own backbone.
    head = SegFormerHead((128, 256, 512, 1024), 2)
    assert sum(p.numel() for p in head.parameters()) == 758_018


@pytest.mark.parametrize(("kind", "size"), [(SegFormerHead, (16, 12)), (HamHead, (8, 6))])
def test_every_weight_serves(kind: type[nn.Module], size: tuple[int, int]) -> None:
    head = kind((8, 12, 16), 3, width=8)
    logits = head(MAPS)
    assert logits.shape == (2, 3, *size)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())


def test_a_map_of_low_rank_is_approximated_and_one_of_high_rank_smoothed() -> None:
    torch.manual_seed(0)
    factors = MatrixFactors(12, rank=4, steps=200)
    low = (torch.rand(1, 12, 2) @ torch.rand(1, 2, 64)).view(1, 12, 8, 8)
    torch.testing.assert_close(factors(low), low, atol=0.05, rtol=0.1)
    high = torch.rand(1, 12, 8, 8)
    assert torch.linalg.matrix_rank(factors(high).flatten(2), atol=1e-4).item() <= 4


def test_one_image_gives_one_result_alone_and_in_a_batch() -> None:
    head = HamHead((8, 12, 16), 3, width=8).eval()
    with torch.no_grad():
        together = head(MAPS)
        alone = head([m[:1] for m in MAPS])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_a_single_map_will_do() -> None:
    assert HamHead((8,), 2, width=8)(MAPS[:1]).shape == (2, 2, 16, 12)
