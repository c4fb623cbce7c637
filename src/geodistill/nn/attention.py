"""Attention blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases on queries, keys and values.

    Args:
        width: Channels of a token; a multiple of ``heads``.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` -> ``(B, T, C)``; nothing attends to tokens where ``present (B, T)`` bool is False."""
        batch, count, width = tokens.shape
        queries, keys, values = (
            self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        allowed = None if present is None else present[:, None, None]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class ViTBlock(nn.Module):
    """Pre-norm vision transformer block, as timm's ``Block``: no layer scale, no dropout, GELU.

    Args:
        width: Channels of a token; a multiple of ``heads``.
        heads: Attention heads.
        mlp_ratio: Hidden width of the two-layer perceptron over ``width``.
    """

    def __init__(self, width: int, heads: int = 8, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` -> ``(B, T, C)``; ``present`` as `SelfAttention.forward` takes it."""
        tokens = tokens + self.attn(self.norm1(tokens), present)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens
