"""BEiT on images of any size: timm's own maps at its size, and relative positions read at other grids."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from geodistill.methods.task import layer_factors
from geodistill.nn.beit import BeitBody, RelativePositions, distance_weights
from geodistill.nn.encoders import build_encoder


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A narrow BEiT of two blocks whose tables hold something."""
    torch.manual_seed(0)
    model = timm.create_model("beit_base_patch16_224", num_classes=0, embed_dim=32, depth=2, num_heads=2).eval()
    for block in model.blocks:
        nn.init.normal_(block.attn.relative_position_bias_table)
    return model


def test_at_the_trained_size_the_maps_are_those_of_timm(model: nn.Module) -> None:
    body = BeitBody(copy.deepcopy(model), [0, 1]).eval()
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        first, last = model.forward_intermediates(image, indices=[0, 1], intermediates_only=True)
        ours = body(image)
    torch.testing.assert_close(ours[0], first)
    torch.testing.assert_close(ours[1], model.fc_norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    assert sum(p.numel() for p in body.parameters()) == sum(p.numel() for p in model.parameters())


def test_distances_are_put_apart_by_a_geometric_progression() -> None:
    """Learned distances 0, 1 and 2 on a side of five: 1 + q = 4, so they are put at 0, 1 and 4."""
    third = 1 / 3
    wanted = [
        [1, 0, 0, 0, 0],
        [1 - third, third, 0, 0, 0],
        [third, 1 - third, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
    ]
    mirrored = [row[::-1] for row in wanted[3::-1]]
    torch.testing.assert_close(distance_weights(3, 5), torch.tensor(wanted + mirrored, dtype=torch.float32))
    assert torch.equal(distance_weights(3, 2), torch.eye(5)[1:4])  # a shorter side knows all of its distances
    assert torch.equal(distance_weights(14, 14), torch.eye(27))


@pytest.mark.parametrize("grid", [(2, 3), (5, 7)])
def test_neighbours_keep_their_number_on_any_grid(grid: tuple[int, int]) -> None:
    table = torch.zeros(5 * 5 + 3, 1)
    table[2 * 5 + 1] = 7.0  # no row apart, one column to the right of the other
    table[-3:] = torch.tensor([[1.0], [2.0], [3.0]])
    index = torch.full((1 + grid[0] * grid[1],) * 2, -1)
    width = 2 * grid[1] - 1
    for one in range(grid[0] * grid[1]):
        for other in range(grid[0] * grid[1]):
            down, across = one // grid[1] - other // grid[1], one % grid[1] - other % grid[1]
            index[1 + one, 1 + other] = (down + grid[0] - 1) * width + across + grid[1] - 1
    index[0], index[:, 0], index[0, 0] = -3, -2, -1
    scores = RelativePositions(nn.Parameter(table), (3, 3))(grid, index)[0]
    assert scores[0, 0] == 3
    assert set(scores[0, 1:].tolist()) == {1.0}
    assert set(scores[1:, 0].tolist()) == {2.0}
    assert scores[1, 2] == 7  # the first patch of the first row, and the one at its right
    assert scores[2, 1] == 0


def test_a_blocks_positions_learn_at_the_blocks_rate() -> None:
    with torch.device("meta"):
        encoder = build_encoder("beit_base_patch16_224")
    factors = {name: layer_factors(encoder, 0.9)[id(p)] for name, p in encoder.named_parameters()}
    for block in range(12):
        position = factors[f"body.positions.{block}.relative_position_bias_table"]
        assert position == factors[f"body.model.blocks.{block}.attn.qkv.weight"] == pytest.approx(0.9 ** (12 - block))
