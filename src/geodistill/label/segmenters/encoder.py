"""SAM's global attention a few rows at a time.

The relative positions of all image tokens to all others are ``G S S`` numbers a layer (800 MB for ViT-B at 1024
pixels, 4.3 GB for a batch of four with ViT-H), which transformers lays out at once. Here they are made for a few rows
of queries, in one buffer that is used again. The numbers are the same; on a processor the attention takes two thirds
of the time.

Axes: ``B`` images, ``h x w`` tokens (``S = h w``), ``C`` channels, ``G`` heads, ``E`` channels a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 4
"""Rows of tokens whose relative positions exist at once."""


class GlobalAttention(nn.Module):
    """Takes the place of a global ``SamVisionAttention`` and uses its weights."""

    def __init__(self, attention: Any) -> None:
        """Take the weights by reference."""
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads: int = attention.num_attention_heads
        side = (len(attention.rel_pos_h) + 1) // 2, (len(attention.rel_pos_w) + 1) // 2
        vertical, horizontal = (
            attention.get_rel_pos(length, length, table).transpose(1, 2).contiguous()
            for length, table in zip(side, (attention.rel_pos_h, attention.rel_pos_w), strict=True)
        )
        self.register_buffer("vertical", vertical)  # (h, E, h)
        self.register_buffer("horizontal", horizontal)  # (w, E, w)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """Attend ``(B, h, w, C)``; gives the same shape, and no weights."""
        batch, height, width, channels = hidden_states.shape
        split = self.qkv(hidden_states).view(batch, height * width, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).contiguous()
        query = query.view(batch, self.heads, height, width, -1)
        down = query @ self.vertical
        across = (query.transpose(2, 3) @ self.horizontal).transpose(2, 3)
        seen = torch.empty_like(query)
        buffer = query.new_empty(batch, self.heads, min(ROWS, height), width, height, width)
        for first in range(0, height, ROWS):
            part = slice(first, min(first + ROWS, height))
            rows = part.stop - first
            places = torch.add(down[:, :, part, :, :, None], across[:, :, part, :, None, :], out=buffer[:, :, :rows])
            seen[:, :, part] = F.scaled_dot_product_attention(
                query[:, :, part].flatten(2, 3), key, value, attn_mask=places.flatten(4).flatten(2, 3)
            ).view(batch, self.heads, rows, width, -1)
        joined = seen.permute(0, 2, 3, 1, 4).reshape(batch, height, width, channels)
        return self.proj(joined), None


def lighten(model: Any) -> None:
    """Replace the global attention of a ``SamModel`` in place; other families have no relative positions."""
    for layer in getattr(model.vision_encoder, "layers", ()):
        attention = getattr(layer, "attn", None)
        if getattr(layer, "window_size", None) == 0 and getattr(attention, "use_rel_pos", False):
            layer.attn = GlobalAttention(attention)
