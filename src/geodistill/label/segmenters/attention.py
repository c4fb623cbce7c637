"""Cross attention between a handful of prompt tokens and thousands of image tokens, as SAM's mask decoder needs it.

The sums are those of transformers' attention, in another order. With ``T`` tokens and ``G`` heads there are ``G T``
(about 60) score rows, fewer than the ``D`` (128) channels of the projections. So the projections of the image side
are folded into the few tokens, ``q (W k)^T = (q W) k^T`` and ``P (V W) = (P V) W``, and no image token is projected.
Where all prompts see the same image tokens (first layer, no mask prompts) these are projected once for all prompts.

Axes: ``N`` prompts, ``T`` tokens a prompt, ``S`` image tokens (row by row), ``C`` channels, ``G`` heads, ``D`` channels
of all heads, ``E = D / G``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class ImageSide(NamedTuple):
    """Image tokens of the first layer, the same for all prompts, with their projections.

    Attributes:
        tokens: ``(1, S, C)``.
        keys: ``(G, E, S)``, for tokens that look at the image.
        values: ``(G, S, E)``.
        queries: ``(G, E, S)``, for the image that looks at tokens.
    """

    tokens: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class CrossAttention:
    """The weights of one attention module of transformers' SAM, SAM2, SAM3 or EdgeTAM."""

    def __init__(self, module: Any) -> None:
        """Take the weights by reference.

        Args:
            module: ``SamAttention`` or its kin: ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj`` or ``o_proj``.
        """
        self.heads: int = module.num_attention_heads
        self.scaling: float = module.scaling
        self.query, self.key, self.value = module.q_proj, module.k_proj, module.v_proj
        self.out = module.out_proj if hasattr(module, "out_proj") else module.o_proj

    def split(self, projected: Tensor) -> Tensor:
        """Part ``(N, T, D)`` into heads ``(N, G, T, E)``."""
        return torch.unflatten(projected, -1, (self.heads, -1)).transpose(1, 2)

    def by_head(self, weight: Tensor) -> Tensor:
        """Part the rows of a weight ``(D, C)`` into heads ``(G, E, C)``."""
        return torch.unflatten(weight, 0, (self.heads, -1))

    def to_image(self, tokens: Tensor, image: Tensor, placed: Tensor) -> Tensor:
        """Tokens look at the image, each prompt at its own.

        Args:
            tokens: ``(N, T, C)`` queries.
            image: ``(N, S, C)`` values.
            placed: ``(N, S, C)`` keys: the image with its positions.

        Returns:
            ``(N, T, C)``.
        """
        queries = self.split(self.query(tokens)) * self.scaling
        # A key's bias adds the same to all scores of a row, which the softmax takes away again.
        folded = (queries @ self.by_head(self.key.weight)).flatten(1, 2)
        weights = (folded @ placed.transpose(1, 2)).softmax(-1)
        seen = torch.unflatten(weights @ image, 1, (self.heads, -1))
        values = seen @ self.by_head(self.value.weight).transpose(1, 2)
        # The weights of a row sum to one, so that the value's bias passes unchanged.
        joined: Tensor = self.out(values.transpose(1, 2).flatten(2) + self.value.bias)
        return joined

    def to_shared_image(self, tokens: Tensor, side: ImageSide) -> Tensor:
        """Tokens ``(N, T, C)`` look at one image; gives ``(N, T, C)``."""
        number = len(tokens)
        queries = self.split(self.query(tokens) * self.scaling).transpose(0, 1).flatten(1, 2)
        values = (queries @ side.keys).softmax(-1) @ side.values
        joined: Tensor = self.out(torch.unflatten(values, 1, (number, -1)).permute(1, 2, 0, 3).flatten(2))
        return joined

    def to_tokens(self, placed: Tensor, tokens: Tensor, values: Tensor, image: Tensor) -> Tensor:
        """The image looks at the tokens and adds what it sees to itself.

        Args:
            placed: ``(N, S, C)`` queries: the image with its positions.
            tokens: ``(N, T, C)`` keys.
            values: ``(N, T, C)``.
            image: ``(N, S, C)``.

        Returns:
            ``(N, S, C)``.
        """
        keys = self.split(self.key(tokens)) * self.scaling
        folded = (keys @ self.by_head(self.query.weight)).flatten(1, 2)
        offsets = (keys @ self.query.bias.view(self.heads, -1, 1)).flatten(1, 2)
        scores = torch.baddbmm(offsets, folded, placed.transpose(1, 2))
        return self._add_seen(scores, values, image)

    def shared_to_tokens(self, side: ImageSide, tokens: Tensor, values: Tensor) -> Tensor:
        """One image looks at the tokens of each prompt: ``(N, T, C)`` keys and values; gives ``(N, S, C)``."""
        number = len(tokens)
        keys = self.split(self.key(tokens) * self.scaling).transpose(0, 1).flatten(1, 2)
        scores = torch.unflatten(keys @ side.queries, 1, (number, -1)).transpose(0, 1).flatten(1, 2)
        return self._add_seen(scores, values, side.tokens.expand(number, -1, -1))

    def _add_seen(self, scores: Tensor, values: Tensor, image: Tensor) -> Tensor:
        """Weigh the tokens' values by ``scores (N, G T, S)``, project and add them to ``image (N, S, C)``."""
        weights = torch.unflatten(scores, 1, (self.heads, -1)).softmax(2).flatten(1, 2)
        folded = self.split(self.value(values)) @ self.by_head(self.out.weight.t())
        folded[:, 0] += self.out.bias  # each head's weights sum to one: added once
        return torch.baddbmm(image, weights.transpose(1, 2), folded.flatten(1, 2))
