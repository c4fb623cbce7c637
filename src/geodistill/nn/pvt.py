"""KDA's student: a Pyramid Vision Transformer (Wang et al. 2021, first version) with widths of KDA's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from geodistill.errors import ArtifactError
from geodistill.nn.bodies import Body, BodyRequest

STRIDES = (4, 8, 16, 32)
TRAINED_SIDE = 224
"""Side in pixels of the image that the position embeddings are kept for."""

_HEADS, _MLP_RATIOS, _REDUCTIONS = (1, 2, 4, 8), (8, 8, 4, 4), (8, 4, 2, 1)


@dataclass(frozen=True)
class PvtSize:
    """What the named forms differ in.

    Attributes:
        widths: Channels of each stage.
        depths: Transformer blocks of each stage.
    """

    widths: tuple[int, int, int, int] = (128, 256, 512, 1024)
    depths: tuple[int, int, int, int] = (2, 4, 6, 2)


PVT_SIZES = {
    "pvt_kda": PvtSize(),
    "pvt_kda_tiny": PvtSize(depths=(1, 1, 2, 1)),
}
"""66,140,800 and 28.3 million parameters; KDA's released code calls the second one tiny."""


class ReducedAttention(nn.Module):
    """Multi-head attention whose keys and values come from a map shrunk by a convolution of stride ``reduction``.

    Wang et al. 2021, Eq. 1-4. A ``reduction`` of 1 leaves the convolution out; ``width`` is a multiple of ``heads``.

        tokens (h w) ──► queries ───────────────────────► softmax(q k^T / sqrt(d)) v ──► (h w)
               └──► convolution, norm (h w / r^2) ──► keys, values, shared by the queries ──┘
    """

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.sr = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width) if reduction > 1 else None

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """``(B, height * width, C)`` -> the same shape; height and width are multiples of the reduction."""
        batch, count, channels = tokens.shape
        queries = self.q(tokens).view(batch, count, self.heads, -1).transpose(1, 2)
        read = tokens
        if self.sr is not None and self.norm is not None:
            shrunk = self.sr(tokens.transpose(1, 2).reshape(batch, channels, height, width))
            read = self.norm(shrunk.flatten(2).transpose(1, 2))
        keys, values = self.kv(read).view(batch, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, channels))
        return projected


class PvtBlock(nn.Module):
    """Pre-norm transformer block with reduced attention; a branch is left out in training by chance ``drop_path``."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """``(B, height * width, C)`` -> the same shape."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), height, width))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return tokens


class PvtStage(nn.Module):
    """Patch embedding, position embedding and blocks of one stage.

    Args:
        in_channels: Channels of the map before.
        width: Channels of this stage.
        patch: Side of a patch, of the map before.
        grid: Side of the grid that the position embedding is kept for.
        spare: Rows before the grid's; the published last stage keeps one for a class token that it never uses.
        blocks: What follows.
    """

    def __init__(self, in_channels: int, width: int, patch: int, grid: int, spare: int, blocks: list[PvtBlock]) -> None:
        super().__init__()
        self.grid, self.spare = grid, spare
        self.proj = nn.Conv2d(in_channels, width, patch, patch)
        self.norm = nn.LayerNorm(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, spare + grid * grid, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` -> ``(B, width, H / patch, W / patch)``."""
        projected = self.proj(maps)
        height, width = projected.shape[-2:]
        tokens = self.norm(projected.flatten(2).transpose(1, 2)) + self.position(height, width)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        given: Tensor = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)
        return given

    def position(self, height: int, width: int) -> Tensor:
        """Return the embedding for a grid, ``(1, height * width, C)``, interpolated bilinearly from the kept one."""
        kept = self.pos_embed[:, self.spare :]
        if (height, width) == (self.grid, self.grid):
            return kept
        square = kept.transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        return F.interpolate(square, (height, width), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


class PvtBody(Body):
    """The four stages.

    Args:
        in_channels: Bands of the image.
        size: Widths and depths.
        drop_path_rate: Probability of leaving out a branch of the last block; it grows from 0 at the first.
    """

    def __init__(self, in_channels: int, size: PvtSize, drop_path_rate: float = 0.1) -> None:
        super().__init__(size.widths, STRIDES)
        depth = sum(size.depths)
        rates = iter([drop_path_rate * i / max(depth - 1, 1) for i in range(depth)])
        before = (in_channels, *size.widths[:-1])
        self.stages = nn.ModuleList(
            PvtStage(
                before[i],
                width,
                4 if i == 0 else 2,
                TRAINED_SIDE // STRIDES[i],
                int(i == 3),
                [PvtBlock(width, _HEADS[i], _MLP_RATIOS[i], _REDUCTIONS[i], next(rates)) for _ in range(blocks)],
            )
            for i, (width, blocks) in enumerate(zip(size.widths, size.depths, strict=True))
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)``, sides multiples of 32 -> maps at strides 4, 8, 16, 32."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else image))
        return maps


def build_pvt(request: BodyRequest) -> PvtBody:
    """Return KDA's Pyramid Vision Transformer.

    Raises:
        IndexError: Other levels than all four are asked for.
        ArtifactError: Pretrained weights are asked for.
    """
    if request.indices not in (None, (0, 1, 2, 3)):
        raise IndexError(f"levels {request.indices}, not all four")
    if request.hub:
        raise ArtifactError(
            f"pretrained weights of {request.base}", "none: nobody published any", "train it, or use null"
        )
    body = PvtBody(request.in_channels, PVT_SIZES[request.base], **request.options)
    request.load(body)
    return body
