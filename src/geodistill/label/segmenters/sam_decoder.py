"""SAM's mask decoder for many prompts on one image: what transformers computes, without what is not asked for.

One mask a prompt is asked for (``multimask_output=False``), so the other masks are neither drawn nor stored; what all
prompts of an image share is computed once; projections are folded into the few prompt tokens (`attention`); and
transposed convolutions whose windows do not overlap are matrix products in token order, a block of tokens at a time,
so that a processor finds them in its cache. SAM2, SAM3 and EdgeTAM add feature maps of finer levels and take the best
of three masks where the single one is unstable.

Axes as in `attention`; ``P`` sparse prompt tokens, ``M`` masks a prompt, ``h x w`` image tokens (``S = h w``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
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


CPU_BLOCK = 512
"""Image tokens that are upscaled at once on a processor."""


class ImageContext(NamedTuple):
    """An embedded image, ready to be asked.

    Attributes:
        tokens: ``(1, S, C)`` image tokens without any prompt.
        fine: ``(S, 4, C / 4)`` features at twice their resolution in token order, or ``None``.
        finest: ``(S, 16, C / 8)`` features at four times their resolution in token order, or ``None``.
        side: The image tokens that prompts without masks see, with their projections.
    """

    tokens: Tensor
    fine: Tensor | None
    finest: Tensor | None
    side: ImageSide


class MaskDecoder:
    """The mask decoder of a transformers model of the SAM family."""

    def __init__(self, model: Any) -> None:
        """Take the model's weights by reference.

        Args:
            model: ``SamModel``, ``Sam2Model``, ``Sam3TrackerModel`` or ``EdgeTamModel``, in evaluation mode.
        """
        decoder = model.mask_decoder
        self.prompt_encoder = model.prompt_encoder
        self.decoder, self.transformer = decoder, decoder.transformer
        first = [decoder.obj_score_token.weight] if hasattr(decoder, "obj_score_token") else []
        self.output_tokens = torch.cat([*first, decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.iou_token = len(first)
        self.masks = (
            len(decoder.mask_tokens.weight) if getattr(decoder, "dynamic_multimask_via_stability", False) else 1
        )
        self.positions = in_token_order(model.get_image_wide_positional_embeddings(), 1)[:, 0]
        self.to_image = [CrossAttention(layer.cross_attn_token_to_image) for layer in self.transformer.layers]
        self.to_tokens = [CrossAttention(layer.cross_attn_image_to_token) for layer in self.transformer.layers]
        self.final = CrossAttention(self.transformer.final_attn_token_to_image)
        self.weight1, self.bias1 = _as_product(decoder.upscale_conv1)
        self.weight2, self.bias2 = _as_product(decoder.upscale_conv2)

    def look(self, features: tuple[Tensor, ...]) -> ImageContext:
        """Project an image's features for the first layer.

        Args:
            features: The last one ``(1, C, h, w)``; before it, of all but SAM, ``(1, C / 8, 4h, 4w)`` and
                ``(1, C / 4, 2h, 2w)``.
        """
        finer = [in_token_order(feature, side) for feature, side in zip(features[:-1], (4, 2), strict=False)]
        tokens = in_token_order(features[-1], 1)[None, :, 0]
        seen = tokens + self.prompt_encoder.no_mask_embed.weight
        placed = seen + self.positions
        look, answer = self.to_image[0], self.to_tokens[0]
        side = ImageSide(
            seen,
            look.split(look.key(placed))[0].transpose(1, 2),
            look.split(look.value(seen))[0],
            answer.split(answer.query(placed))[0].transpose(1, 2),
        )
        return ImageContext(tokens, finer[1] if finer else None, finer[0] if finer else None, side)

    def __call__(self, scene: ImageContext, sparse: Tensor, dense: Tensor | None) -> tuple[Tensor, Tensor]:
        """Draw one mask a prompt.

        Args:
            scene: The image.
            sparse: ``(N, P, C)`` embedded points and boxes; P may be 0.
            dense: ``(N, C, h, w)`` embedded mask prompts, or ``None``.

        Returns:
            Logits ``(N, 4h, 4w)`` and predicted IoU ``(N,)``.
        """
        places = torch.cat([self.output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        image = None if dense is None else scene.tokens + dense.flatten(2).transpose(1, 2)
        tokens, image = self._two_way(scene, places, image)
        last = self.iou_token + 1 + len(self.decoder.mask_tokens.weight)
        of_masks = tokens[:, self.iou_token + 1 : last]
        networks = self.decoder.output_hypernetworks_mlps[: self.masks]
        kernels = torch.stack([network(of_masks[:, i]) for i, network in enumerate(networks)], dim=2)
        logits = self._draw(scene, image, kernels)
        scores = self.decoder.iou_prediction_head(tokens[:, self.iou_token])
        if self.masks > 1:
            return self._stable(logits, scores)
        return logits[:, 0], scores[:, 0]

    def _two_way(self, scene: ImageContext, places: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor]:
        """Let tokens ``(N, T, C)`` and image ``(N, S, C)``, ``None`` for the scene's own, look at each other."""
        tokens = places
        for layer, look, answer in zip(self.transformer.layers, self.to_image, self.to_tokens, strict=True):
            tokens = _among_themselves(layer, tokens, places)
            if image is None:
                tokens = _after_look(layer, tokens + look.to_shared_image(tokens + places, scene.side))
                image = answer.shared_to_tokens(scene.side, tokens + places, tokens)
            else:
                placed = image + self.positions
                tokens = _after_look(layer, tokens + look.to_image(tokens + places, image, placed))
                image = answer.to_tokens(placed, tokens + places, tokens, image)
            image = layer.layer_norm4(image)
        assert image is not None, "a mask decoder without layers"
        tokens = tokens + self.final.to_image(tokens + places, image, image + self.positions)
        return self.transformer.layer_norm_final_attn(tokens), image

    def _draw(self, scene: ImageContext, image: Tensor, kernels: Tensor) -> Tensor:
        """Upscale image tokens ``(N, S, C)`` and apply ``kernels (N, C/8, M)``; gives logits ``(N, M, 4h, 4w)``."""
        number, size, channels = image.shape
        step = CPU_BLOCK if image.device.type == "cpu" else size
        norm = self.decoder.upscale_layer_norm
        logits = image.new_empty(number, size, 16, kernels.shape[2])
        for first in range(0, size, step):
            part = slice(first, first + step)
            block = torch.addmm(self.bias1, image[:, part].reshape(-1, channels), self.weight1)
            if scene.fine is not None:
                block = block.view(number, -1, *scene.fine.shape[1:]) + scene.fine[part]
            block = block.view(-1, channels // 4)
            block = F.gelu(F.layer_norm(block, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
            block = torch.addmm(self.bias2, block, self.weight2)
            if scene.finest is not None:
                block = block.view(number, -1, *scene.finest.shape[1:]) + scene.finest[part]
            drawn = F.gelu(block).view(number, -1, channels // 8) @ kernels
            logits[:, part] = drawn.view(number, -1, 16, kernels.shape[2])
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


def _among_themselves(layer: Any, tokens: Tensor, places: Tensor) -> Tensor:
    """Let the tokens ``(N, T, C)`` of each prompt look at each other."""
    if layer.skip_first_layer_pe:
        tokens = layer.self_attn(query=tokens[None], key=tokens[None], value=tokens[None])[0][0]
    else:
        placed = (tokens + places)[None]
        tokens = tokens + layer.self_attn(query=placed, key=placed, value=tokens[None])[0][0]
    normal: Tensor = layer.layer_norm1(tokens)
    return normal


def _after_look(layer: Any, tokens: Tensor) -> Tensor:
    """Finish a layer's tokens after they looked at the image."""
    tokens = layer.layer_norm2(tokens)
    finished: Tensor = layer.layer_norm3(tokens + layer.mlp(tokens))
    return finished


def _as_product(convolution: Any) -> tuple[Tensor, Tensor]:
    """Give the weight ``(C, 4 K)`` and bias ``(4 K,)`` of a 2 x 2 transposed convolution with stride 2."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
    return weight, convolution.bias.repeat(4)
