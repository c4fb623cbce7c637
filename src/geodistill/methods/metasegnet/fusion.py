"""MetaSegNet's crossmodal attention fusion decoder: alignment, fusion, pyramid head (paper, section III-D).

The published equations 6 and 7 define the text update by itself; here it mirrors the image update (equations 4, 5),
with the updated image tokens as keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.nn.attention import ViTBlock
from geodistill.nn.decoders import conv_norm_relu, resize

POSITION_GRID = 16
"""Side of the learned grid of image positions: one a token at the paper's 512 px."""


class CrossmodalAttention(nn.Module):
    """Tokens of one modality updated from those of the other (Eq. 4 and 5; with the modalities swapped Eq. 6 and 7).

    ``F' = F + softmax(q(F) k(G)^T / sqrt(d)) v(G)`` and ``F' + MLP(LN(F'))``, with layer norm before q, k and v.

    Args:
        width: Channels of a token; a multiple of ``heads``.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.other_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, other: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` and ``(B, S, C)`` -> ``(B, T, C)``; ``present (B, S)`` bool marks what may be attended to."""
        batch, _, width = tokens.shape
        seen = self.other_norm(other)
        queries, keys, values = (
            part.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query(self.query_norm(tokens)), self.keys(seen), self.values(seen))
        )
        allowed = None if present is None else present[:, None, None]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(tokens.shape))
        updated: Tensor = tokens + self.mlp(self.norm(tokens))
        return updated


class Alignment(nn.Module):
    """Alignment of image and text: two crossmodal attentions, then transformer blocks on the joint sequence.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        tokens: Longest text in tokens.
        blocks: Transformer blocks on the joint sequence.
    """

    def __init__(self, width: int, heads: int, tokens: int, blocks: int = 2) -> None:
        super().__init__()
        self.image_attention = CrossmodalAttention(width, heads)
        self.text_attention = CrossmodalAttention(width, heads)
        self.image_position = nn.Parameter(torch.zeros(1, width, POSITION_GRID, POSITION_GRID))
        self.text_position = nn.Parameter(torch.zeros(1, tokens, width))
        for position in (self.image_position, self.text_position):
            nn.init.trunc_normal_(position, std=0.02)
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(blocks))

    def forward(self, image: Tensor, text: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Align.

        Args:
            image: ``(B, C, h, w)``.
            text: ``(B, T, C)``.
            present: ``(B, T)`` bool; padding is never attended to.

        Returns:
            The aligned image ``(B, C, h, w)`` and text ``(B, T, C)``.
        """
        batch, width, rows, cols = image.shape
        tokens = image.flatten(2).transpose(1, 2)
        tokens = self.image_attention(tokens, text, present)
        text = self.text_attention(text, tokens)
        place = resize(self.image_position, (rows, cols)).flatten(2).transpose(1, 2)
        joint = torch.cat([tokens + place, text + self.text_position[:, : text.shape[1]]], 1)
        attended = torch.cat([present.new_ones(batch, rows * cols), present], 1)
        for block in self.blocks:
            joint = block(joint, attended)
        aligned = joint[:, : rows * cols].transpose(1, 2).reshape(batch, width, rows, cols)
        return aligned, joint[:, rows * cols :]


class Fusion(nn.Module):
    """The text as a prior on channels: the image times the mean of the projected text tokens, plus itself.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.prior = nn.Linear(width, width)

    def forward(self, image: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """``(B, C, h, w)``, ``(B, T, C)`` and ``(B, T)`` bool -> ``(B, C, h, w)``."""
        prior = mean_of_tokens(self.prior(text), present)
        return image * prior[:, :, None, None] + image


def mean_of_tokens(text: Tensor, present: Tensor) -> Tensor:
    """``(B, T, C)`` -> ``(B, C)``, the mean of the tokens that are there; padding would thin it out."""
    weight = present.to(text.dtype).unsqueeze(-1)
    return (text * weight).sum(1) / weight.sum(1).clamp(min=1)


class PyramidHead(nn.Module):
    """A feature pyramid on the encoder's maps under the fused one; every level meets at the finest.

    Args:
        channels: Channels of the encoder's levels but the deepest, finest first.
        width: Channels inside, and of the fused map.
        classes: Number of classes.
    """

    def __init__(self, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(conv_norm_relu(width, width, 3) for _ in channels)
        self.fuse = conv_norm_relu((len(channels) + 1) * width, width, 3)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], fused: Tensor) -> Tensor:
        """Encoder levels, finest first, and ``(B, C, h, w)`` -> ``(B, K, H1, W1)`` logits at the finest level."""
        levels = [fused]
        for level, lateral in zip(reversed(maps), reversed(self.laterals), strict=True):
            levels.insert(0, lateral(level) + resize(levels[0], level.shape[-2:]))
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)]
        joined = torch.cat([resize(level, levels[0].shape[-2:]) for level in [*smoothed, fused]], 1)
        logits: Tensor = self.classifier(self.fuse(joined))
        return logits
