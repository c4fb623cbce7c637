"""The decoders of Table IV: printed counts, shapes, and a factorisation that approximates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geodistill.methods.kda.table4_decoders import (
    KdaSegFormerHead,
    KdaSegNeXtHead,
    KdaUNetHead,
    KdaUperNetHead,
    MatrixFactors,
)

MAPS = [torch.randn(2, 8, 16, 12), torch.randn(2, 12, 8, 6), torch.randn(2, 16, 4, 3)]


@pytest.mark.parametrize(
    ("kind", "parameters", "printed"),
    [
        (KdaUNetHead, 12_155_586, 12.16),
        (KdaSegFormerHead, 758_018, 0.76),
        (KdaSegNeXtHead, 3_868_418, 3.87),
        (KdaUperNetHead, 972_674, 0.97),
    ],
)
def test_counts_are_those_of_table_iv(kind: type[nn.Module], parameters: int, printed: float) -> None:
    with torch.device("meta"):
        head = kind((128, 256, 512, 1024), 2)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert round(parameters / 1e6, 2) == printed


@pytest.mark.parametrize("kind", [KdaUNetHead, KdaSegFormerHead, KdaSegNeXtHead, KdaUperNetHead])
def test_every_weight_serves(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    head = kind((8, 12, 16), 3, width=8)
    logits = head(MAPS, (63, 47))
    assert logits.shape == (2, 3, 63, 47)
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
    head = KdaSegNeXtHead((8, 12, 16), 3, width=8).eval()
    with torch.no_grad():
        together = head(MAPS, (16, 12))
        alone = head([m[:1] for m in MAPS], (16, 12))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_a_single_map_will_do() -> None:
    assert KdaSegNeXtHead((8,), 2, width=8)(MAPS[:1], (16, 12)).shape == (2, 2, 16, 12)
