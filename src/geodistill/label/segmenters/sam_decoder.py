"""SAM's mask decoder for many prompts on one image: what transformers computes, without what is not asked for.

Names are SAM's (``modeling/transformer.py``): ``queries`` are the output and prompt tokens with ``query_pe``, ``keys``
the image tokens with ``key_pe``; each layer is ``self_attn``, ``cross_attn_token_to_image``, ``mlp`` and
``cross_attn_image_to_token``. What differs is the cost:

* One mask per prompt is asked for (``multimask_output=False``), so the other masks are neither drawn nor stored.
* What all prompts of an image share is computed once (`SharedKeys`): the keys of the first layer, where there are no
  mask prompts, and their projections.
* Projections of the image are folded into the few tokens. There are ``T`` tokens (7 to 10) with ``G = 8`` heads, so
  about 60 rows of scores, fewer than the ``D = 128`` channels that each of ``S = 4096`` keys would be projected to::

      scores = (queries W_q) (keys W_k)^T = ((queries W_q) W_k^T) keys^T          keys are never projected
      output =  P (keys W_v)              = (P keys) W_v                          nor are values

  A key's bias adds the same number to a whole row of scores, which the softmax takes away again; a value's bias passes
  unchanged, since the weights ``P`` of a row sum to one.
* Transposed convolutions whose windows do not overlap are matrix products in token order, a block of tokens at a time,
  so that a processor finds them in its cache.

SAM2, SAM3 and EdgeTAM add feature maps of finer levels and take the best of three masks where the single one is
unstable.

Axes: ``N`` prompts, ``T`` tokens per prompt (``P`` of them of the prompt), ``S = h w`` image tokens (row by row), ``C``
channels, ``G`` heads, ``D`` channels of all heads, ``E = D / G``, ``M`` masks per prompt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_BLOCK = 512
"""Image tokens that are upscaled at once on a processor."""


class SharedKeys(NamedTuple):
    """Image tokens of the first layer, the same for all prompts, with their projections.

    Attributes:
        keys: ``(1, S, C)`` image tokens.
        k: ``(G, E, S)`` for ``cross_attn_token_to_image``.
        v: ``(G, S, E)`` for ``cross_attn_token_to_image``.
        q: ``(G, E, S)`` for ``cross_attn_image_to_token``, where the image asks.
    """

    keys: Tensor
    k: Tensor
    v: Tensor
    q: Tensor


class ImageContext(NamedTuple):
    """An embedded image, prepared for prompts.

    Attributes:
        keys: ``(1, S, C)`` image tokens without any prompt.
        fine: ``(S, 4, C / 4)`` features at twice their resolution in token order, or ``None``.
        finest: ``(S, 16, C / 8)`` features at four times their resolution in token order, or ``None``.
        shared: The image tokens that prompts without masks attend to.
    """

    keys: Tensor
    fine: Tensor | None
    finest: Tensor | None
    shared: SharedKeys


class CrossAttention:
    """The weights of one attention module of transformers' SAM, SAM2, SAM3 or EdgeTAM."""

    def __init__(self, module: Any) -> None:
        """Take the weights of ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj`` or ``o_proj`` by reference."""
        self.heads: int = module.num_attention_heads
        self.scaling: float = module.scaling
        self.q_proj, self.k_proj, self.v_proj = module.q_proj, module.k_proj, module.v_proj
        self.out_proj = module.out_proj if hasattr(module, "out_proj") else module.o_proj

    def separate_heads(self, projected: Tensor) -> Tensor:
        """Split ``(N, T, D)`` into heads ``(N, G, T, E)``."""
        return torch.unflatten(projected, -1, (self.heads, -1)).transpose(1, 2)

    def weight_by_head(self, weight: Tensor) -> Tensor:
        """Split the rows of a weight ``(D, C)`` into heads ``(G, E, C)``."""
        return torch.unflatten(weight, 0, (self.heads, -1))

    def token_to_image(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let tokens attend to the image, each prompt to its own; returns ``(N, T, C)``.

        ``query (N, T, C)`` are tokens with ``query_pe``, ``key (N, S, C)`` the image's with ``key_pe``, ``value``
        without.
        """
        q = self.separate_heads(self.q_proj(query)) * self.scaling
        folded = (q @ self.weight_by_head(self.k_proj.weight)).flatten(1, 2)
        weights = (folded @ key.transpose(1, 2)).softmax(-1)
        attended = torch.unflatten(weights @ value, 1, (self.heads, -1))
        by_head = attended @ self.weight_by_head(self.v_proj.weight).transpose(1, 2)
        output: Tensor = self.out_proj(by_head.transpose(1, 2).flatten(2) + self.v_proj.bias)
        return output

    def token_to_shared_image(self, query: Tensor, shared: SharedKeys) -> Tensor:
        """Let tokens ``(N, T, C)`` of all prompts attend to one image; returns ``(N, T, C)``.

        The tokens of all prompts stand below each other, so that each head is one matrix product::

            (N, G, T, E) -> (G, N T, E) @ (G, E, S) -> (G, N T, S) -> softmax -> @ (G, S, E) -> (N, T, G E)
        """
        number = len(query)
        q = self.separate_heads(self.q_proj(query) * self.scaling).transpose(0, 1).flatten(1, 2)
        attended = (q @ shared.k).softmax(-1) @ shared.v
        output: Tensor = self.out_proj(torch.unflatten(attended, 1, (number, -1)).permute(1, 2, 0, 3).flatten(2))
        return output

    def image_to_token(self, query: Tensor, key: Tensor, value: Tensor, keys: Tensor) -> Tensor:
        """Let the image attend to the tokens of its prompt, and add the result to ``keys``; returns ``(N, S, C)``.

        ``query (N, S, C)`` are image tokens with ``key_pe``, ``key (N, T, C)`` the prompt's with ``query_pe``,
        ``value`` without.
        """
        k = self.separate_heads(self.k_proj(key)) * self.scaling
        folded = (k @ self.weight_by_head(self.q_proj.weight)).flatten(1, 2)
        offsets = (k @ self.q_proj.bias.view(self.heads, -1, 1)).flatten(1, 2)
        scores = torch.baddbmm(offsets, folded, query.transpose(1, 2))
        return self._add_attended(scores, value, keys)

    def shared_image_to_token(self, shared: SharedKeys, key: Tensor, value: Tensor) -> Tensor:
        """Let one image attend to the tokens ``(N, T, C)`` of each prompt; returns ``(N, S, C)``, the image with it."""
        number = len(key)
        k = self.separate_heads(self.k_proj(key) * self.scaling).transpose(0, 1).flatten(1, 2)
        scores = torch.unflatten(k @ shared.q, 1, (number, -1)).transpose(0, 1).flatten(1, 2)
        return self._add_attended(scores, value, shared.keys.expand(number, -1, -1))

    def _add_attended(self, scores: Tensor, value: Tensor, keys: Tensor) -> Tensor:
        """Weigh the tokens' values by ``scores (N, G T, S)``, project and add them to ``keys (N, S, C)``."""
        weights = torch.unflatten(scores, 1, (self.heads, -1)).softmax(2).flatten(1, 2)
        folded = self.separate_heads(self.v_proj(value)) @ self.weight_by_head(self.out_proj.weight.t())
        folded[:, 0] += self.out_proj.bias  # each head's weights sum to one: added once
        return torch.baddbmm(keys, weights.transpose(1, 2), folded.flatten(1, 2))


class MaskDecoder:
    """The mask decoder of a transformers model of the SAM family."""

    def __init__(self, model: Any) -> None:
        """Take the weights by reference, of a ``SamModel`` or its kin in evaluation mode."""
        decoder = model.mask_decoder
        self.prompt_encoder = model.prompt_encoder
        self.decoder, self.transformer = decoder, decoder.transformer
        first = [decoder.obj_score_token.weight] if hasattr(decoder, "obj_score_token") else []
        self.output_tokens = torch.cat([*first, decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.iou_token = len(first)
        self.masks = (
            len(decoder.mask_tokens.weight) if getattr(decoder, "dynamic_multimask_via_stability", False) else 1
        )
        self.key_pe = in_token_order(model.get_image_wide_positional_embeddings(), 1)[:, 0]
        layers = self.transformer.layers
        self.cross_attn_token_to_image = [CrossAttention(layer.cross_attn_token_to_image) for layer in layers]
        self.cross_attn_image_to_token = [CrossAttention(layer.cross_attn_image_to_token) for layer in layers]
        self.final_attn_token_to_image = CrossAttention(self.transformer.final_attn_token_to_image)
        self.weight1, self.bias1 = _as_product(decoder.upscale_conv1)
        self.weight2, self.bias2 = _as_product(decoder.upscale_conv2)

    def prepare(self, features: tuple[Tensor, ...]) -> ImageContext:
        """Project an image's features for the first layer.

        The last map is ``(1, C, h, w)``; before it, of all but SAM, come ``(1, C / 8, 4h, 4w)`` and ``(1, C / 4, 2h,
        2w)``.
        """
        finer = [in_token_order(feature, side) for feature, side in zip(features[:-1], (4, 2), strict=False)]
        keys = in_token_order(features[-1], 1)[None, :, 0]
        without_mask = keys + self.prompt_encoder.no_mask_embed.weight
        placed = without_mask + self.key_pe
        to_image, to_token = self.cross_attn_token_to_image[0], self.cross_attn_image_to_token[0]
        shared = SharedKeys(
            without_mask,
            to_image.separate_heads(to_image.k_proj(placed))[0].transpose(1, 2),
            to_image.separate_heads(to_image.v_proj(without_mask))[0],
            to_token.separate_heads(to_token.q_proj(placed))[0].transpose(1, 2),
        )
        return ImageContext(keys, finer[1] if finer else None, finer[0] if finer else None, shared)

    def __call__(self, context: ImageContext, sparse: Tensor, dense: Tensor | None) -> tuple[Tensor, Tensor]:
        """Decode one mask per prompt: logits ``(N, 4h, 4w)`` and predicted IoU ``(N,)``.

        ``sparse (N, P, C)`` are embedded points and boxes, P perhaps 0; ``dense (N, C, h, w)`` embedded mask prompts.
        """
        query_pe = torch.cat([self.output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        keys = None if dense is None else context.keys + dense.flatten(2).transpose(1, 2)
        queries, keys = self._two_way_transformer(context, query_pe, keys)
        last = self.iou_token + 1 + len(self.decoder.mask_tokens.weight)
        mask_tokens = queries[:, self.iou_token + 1 : last]
        networks = self.decoder.output_hypernetworks_mlps[: self.masks]
        hyper_in = torch.stack([network(mask_tokens[:, i]) for i, network in enumerate(networks)], dim=2)
        logits = self._upscale(context, keys, hyper_in)
        scores = self.decoder.iou_prediction_head(queries[:, self.iou_token])
        if self.masks > 1:
            return self._stable(logits, scores)
        return logits[:, 0], scores[:, 0]

    def _two_way_transformer(
        self, context: ImageContext, query_pe: Tensor, keys: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the queries ``(N, T, C)`` and keys ``(N, S, C)`` after all layers.

        ``query_pe (N, T, C)`` are output and prompt tokens: the first queries, and their positional encoding. ``keys``
        ``(N, S, C)`` are image tokens with mask prompts; ``None`` stands for those that all prompts share.
        """
        queries, key_pe = query_pe, self.key_pe
        attentions = (self.cross_attn_token_to_image, self.cross_attn_image_to_token)
        for layer, to_image, to_token in zip(self.transformer.layers, *attentions, strict=True):
            queries = _self_attn(layer, queries, query_pe)
            if keys is None:  # the first layer, without mask prompts
                attended = to_image.token_to_shared_image(queries + query_pe, context.shared)
                queries = _mlp(layer, queries + attended)
                keys = to_token.shared_image_to_token(context.shared, queries + query_pe, queries)
            else:
                placed = keys + key_pe
                queries = _mlp(layer, queries + to_image.token_to_image(queries + query_pe, placed, keys))
                keys = to_token.image_to_token(placed, queries + query_pe, queries, keys)
            keys = layer.layer_norm4(keys)
        assert keys is not None, "a mask decoder without layers"
        queries = queries + self.final_attn_token_to_image.token_to_image(queries + query_pe, keys + key_pe, keys)
        return self.transformer.layer_norm_final_attn(queries), keys

    def _upscale(self, context: ImageContext, keys: Tensor, hyper_in: Tensor) -> Tensor:
        """Upscale keys ``(N, S, C)`` and apply ``hyper_in (N, C/8, M)``; returns logits ``(N, M, 4h, 4w)``."""
        number, size, channels = keys.shape
        step = CPU_BLOCK if keys.device.type == "cpu" else size
        norm = self.decoder.upscale_layer_norm
        logits = keys.new_empty(number, size, 16, hyper_in.shape[2])
        for first in range(0, size, step):
            part = slice(first, first + step)
            block = torch.addmm(self.bias1, keys[:, part].reshape(-1, channels), self.weight1)
            if context.fine is not None:
                block = block.view(number, -1, *context.fine.shape[1:]) + context.fine[part]
            block = block.view(-1, channels // 4)
            block = F.gelu(F.layer_norm(block, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
            block = torch.addmm(self.bias2, block, self.weight2)
            if context.finest is not None:
                block = block.view(number, -1, *context.finest.shape[1:]) + context.finest[part]
            masks = F.gelu(block).view(number, -1, channels // 8) @ hyper_in
            logits[:, part] = masks.view(number, -1, 16, hyper_in.shape[2])
        return in_image_order(logits)

    def _stable(self, logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Take the single mask where it is stable, else the best of the others (SAM2's rule)."""
        delta = self.decoder.dynamic_multimask_stability_delta
        single = logits[:, 0]
        inner, outer = ((single > limit).flatten(1).sum(1).float() for limit in (delta, -delta))
        stable = torch.where(outer > 0, inner / outer, 1.0) >= self.decoder.dynamic_multimask_stability_thresh
        chosen = torch.where(stable, 0, scores[:, 1:].argmax(1) + 1)
        row = torch.arange(len(logits), device=logits.device)
        return logits[row, chosen], scores[row, chosen]


def in_token_order(feature: Tensor, side: int) -> Tensor:
    """Order a map ``(1, C, h side, w side)`` as ``(h w, side side, C)``: the pixels of a token stand together.

    They are ordered as two upscalings by two give them, coarse position first; ``side`` is 1, 2 or 4.
    """
    _, channels, height, width = feature.shape
    if side == 1:
        return feature[0].flatten(1).t()[:, None].contiguous()
    halves = (2,) * (side // 2)
    split = feature[0].reshape(channels, height // side, *halves, width // side, *halves)
    count = len(halves)
    # Axes now: C, h, a (, c), w, b (, d); wanted: h, w, a, b (, c, d), C.
    pairs = [axis for level in range(count) for axis in (2 + level, 3 + count + level)]
    return split.permute(1, 2 + count, *pairs, 0).reshape(-1, side * side, channels).contiguous()


def in_image_order(logits: Tensor) -> Tensor:
    """Order ``(N, h w, 16, M)``, as `in_token_order` with side 4 does, as ``(N, M, 4h, 4w)`` with ``h = w``."""
    number, size, _, masks = logits.shape
    side = round(size**0.5)
    split = logits.view(number, side, side, 2, 2, 2, 2, masks)
    return split.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(number, masks, 4 * side, 4 * side)


def _self_attn(layer: Any, queries: Tensor, query_pe: Tensor) -> Tensor:
    """Let the tokens ``(N, T, C)`` of each prompt attend to each other."""
    if layer.skip_first_layer_pe:
        queries = layer.self_attn(query=queries[None], key=queries[None], value=queries[None])[0][0]
    else:
        query = (queries + query_pe)[None]
        queries = queries + layer.self_attn(query=query, key=query, value=queries[None])[0][0]
    normalised: Tensor = layer.layer_norm1(queries)
    return normalised


def _mlp(layer: Any, queries: Tensor) -> Tensor:
    """Normalise a layer's tokens after they attended to the image, and pass them through its MLP."""
    queries = layer.layer_norm2(queries)
    normalised: Tensor = layer.layer_norm3(queries + layer.mlp(queries))
    return normalised


def _as_product(convolution: Any) -> tuple[Tensor, Tensor]:
    """Return the weight ``(C, 4 K)`` and bias ``(4 K,)`` of a 2 x 2 transposed convolution with stride 2."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
    return weight, convolution.bias.repeat(4)
