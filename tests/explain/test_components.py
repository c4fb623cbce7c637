"""Components: of features made of three known patterns they are these patterns, on one scale, in like colours."""

import numpy as np
import pytest
import torch

from geodistill.explain.components import REACH, Components, as_colours, principal_components, similarities, turned_to


def patterns(height: int = 12, width: int = 16) -> torch.Tensor:
    """``(3, height, width)``: a ramp down, a ramp across, and a checkerboard, each of mean 0 and deviation 1."""
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    board = ((torch.arange(height)[:, None] + torch.arange(width)) % 2).float()
    each = torch.stack([down, across, board])
    each = each - each.mean((1, 2), keepdim=True)
    return each / each.pow(2).mean((1, 2), keepdim=True).sqrt()


def test_components_are_the_patterns_that_features_are_made_of() -> None:
    torch.manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(8, 3))[0] * torch.tensor([9.0, 3.0, 1.0])
    features = torch.einsum("ck,khw->chw", mixing, patterns()) + 5
    components = principal_components(features)
    assert components.explained == pytest.approx((81 / 91, 9 / 91, 1 / 91), abs=1e-4)
    for k, pattern in enumerate(patterns()):
        agreement = float((torch.from_numpy(components.scores[k]) * pattern).mean())
        assert abs(agreement) == pytest.approx(1, abs=1e-3)


def test_an_encoder_that_sees_the_same_gets_the_same_colours() -> None:
    other = Components(patterns().numpy(), (0.5, 0.3, 0.2))
    turned = turned_to(
        Components(np.stack([-other.scores[1], other.scores[2], other.scores[0]]), (0.4, 0.3, 0.2)), other
    )
    np.testing.assert_allclose(turned.scores, other.scores, atol=1e-4)
    assert turned.explained == (0.4, 0.3, 0.2)


def test_a_turn_changes_no_distance() -> None:
    rng = np.random.default_rng(0)
    mine = Components(rng.standard_normal((3, 5, 7)).astype(np.float32), (1, 0, 0))
    turned = turned_to(mine, Components(rng.standard_normal((3, 9, 4)).astype(np.float32), (1, 0, 0)))
    np.testing.assert_allclose((turned.scores**2).sum(0), (mine.scores**2).sum(0), rtol=1e-4)


def test_features_of_one_value_have_no_components() -> None:
    components = principal_components(torch.ones(4, 3, 3))
    assert components.explained == (0, 0, 0)
    assert not components.scores.any()


def test_colours_reach_as_far_as_is_said() -> None:
    scores = np.stack([np.full((2, 2), value, np.float32) for value in (-REACH, 0, REACH)])
    assert as_colours(Components(scores, (1, 0, 0)), 4, 4)[0, 0].tolist() == [0, 127, 255]


def test_similarity_of_like_opposite_and_unlike_places() -> None:
    features = torch.zeros(2, 1, 4)
    features[0, 0] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    values, grid = similarities(features)
    assert grid == (1, 4)
    np.testing.assert_array_equal(values[0], [255, 255, 0, 0])
    assert similarities(torch.rand(3, 70, 40))[1] == (32, 32)
