"""BEiT for images of any size: its relative positions are read at the distances of the image's own grid of patches.

Bao et al. 2022, "BEiT: BERT Pre-Training of Image Transformers".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.layers.pos_embed_rel import gen_relative_position_index
from torch import Tensor, nn

from geodistill.nn.bodies import BodyRequest, VitBody, tapped_blocks

PREFIX = 3
"""Last rows of a table: class token to patch, patch to class token, class token to itself."""


class RelativePositions(nn.Module):
    """What a block adds to its attention scores: a learned number for each distance of two patches.

    Args:
        table: ``((2 h - 1) (2 w - 1) + 3, heads)``, the distances row by row, from ``1 - h`` and ``1 - w`` on.
        grid: Patches down and across, h and w, that it was learned on.
    """

    def __init__(self, table: nn.Parameter, grid: Sequence[int]) -> None:
        super().__init__()
        self.relative_position_bias_table = table
        self.grid = tuple(grid)

    def forward(self, grid: Sequence[int], index: Tensor) -> Tensor:
        """Return the scores of every pair of tokens, the class token first: ``(heads, 1 + H W, 1 + H W)``.

        Args:
            grid: Patches down and across, H and W.
            index: ``(1 + H W, 1 + H W)`` int64: each pair's row in a table of that grid.
        """
        table: Tensor = self.relative_position_bias_table
        if tuple(grid) != self.grid:
            down, across = (distance_weights(*sides).to(table) for sides in zip(self.grid, grid, strict=True))
            pairs = table[:-PREFIX].reshape(down.shape[1], across.shape[1], -1)
            read = torch.einsum("yi,xj,ijn->yxn", down, across, pairs)
            table = torch.cat((read.flatten(0, 1), table[-PREFIX:]))
        return table[index].permute(2, 0, 1)


@cache
def distance_weights(learned: int, side: int) -> Tensor:
    """Return how distances on a side of so many patches are read off those of a learned side.

    On a longer side the learned distances are put apart by a geometric progression that reaches its end, as BEiT's code
    has it, so that near patches stay near; between them the way is linear. On a shorter one they stay as they are.

    Args:
        learned: Patches on the learned side.
        side: Patches on the side that is read.

    Returns:
        ``(2 side - 1, 2 learned - 1)`` float32, each row's sum 1.
    """
    steps: NDArray[Any] = np.ones(learned - 1)
    if side > learned > 1:
        low, high = 1.0, float(side)
        for _ in range(60):
            ratio = (low + high) / 2
            low, high = (low, ratio) if sum(ratio**i for i in range(learned - 1)) > side - 1 else (ratio, high)
        steps = low ** np.arange(learned - 1)
    reach = np.concatenate(([0.0], steps.cumsum()))
    known, distances = np.concatenate((-reach[:0:-1], reach)), np.arange(1 - side, side)
    columns = [np.interp(distances, known, one) for one in np.eye(len(known))]
    return torch.from_numpy(np.stack(columns, 1).astype(np.float32))


class BeitBody(VitBody):
    """A BEiT whose maps are the patch tokens after some of its blocks, as `VitBody` has them.

    Args:
        model: timm's, with a table of relative positions in each block.
        indices: Blocks to tap, from 0, ascending.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        super().__init__(model, indices)
        parts: Any = model
        parts.patch_embed.strict_img_size = False
        self.positions = nn.ModuleList()
        for block in parts.blocks:
            attention = block.attn
            self.positions.append(RelativePositions(attention.relative_position_bias_table, attention.window_size))
            # Blocks take what they add from outside, where it fits the image.
            attention.relative_position_bias_table = attention.relative_position_index = attention.window_size = None

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps, all of one size."""
        parts: Any = self.model
        grid = [int(side) // self.strides[0] for side in image.shape[-2:]]
        index = gen_relative_position_index((grid[0], grid[1]), class_token=True, device=image.device)
        tokens = parts.patch_embed(image)
        tokens = torch.cat((parts.cls_token.expand(tokens.shape[0], -1, -1), tokens), 1)
        maps = []
        for number, (block, positions) in enumerate(zip(parts.blocks, self.positions, strict=True)):
            tokens = block(tokens, shared_rel_pos_bias=positions(grid, index))
            if number in self.indices:
                maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, grid))
        maps[-1] = self.norm(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return maps


def build_beit(request: BodyRequest) -> BeitBody:
    """Return a BEiT of timm.

    Raises:
        IndexError: The blocks asked for are not ascending, or not among the model's.
        TypeError, RuntimeError: timm's, where an option or a size is not its.
    """
    model: Any = timm.create_model(
        request.base, pretrained=request.hub, num_classes=0, in_chans=request.in_channels, **request.options
    )
    request.load(model)
    return BeitBody(model, tapped_blocks(len(model.blocks), request.indices))
