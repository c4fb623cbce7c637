"""MetaSegNet: an image encoder and frozen text features, fused by a crossmodal attention decoder (paper, Fig. 2).

The text features are constants of a scene. They are kept in the network as a table with one row per prompt, so that
neither training nor inference ever runs a text encoder.

The decoder (section II-C, Fig. 3) is alignment, fusion and a pyramid head. The published equations 6 and 7
define the text update by itself; here it mirrors the image update (equations 4, 5), with the updated image tokens as
keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError
from geodistill.lazy import load
from geodistill.nn.decoders import ViTBlock, conv_norm_relu, resize
from geodistill.nn.encoders import build_encoder
from geodistill.nn.output import SegmentationOutput

ANY = "any"
"""Key of the one prompt that holds everywhere: that of a network without metadata."""

MATCHING = "geodistill.methods.metasegnet.matching:Matching"

POSITION_GRID = 16
"""Side of the learned grid of image positions, stretched to the map, which at 1024 px has 32 tokens a side."""


class CrossmodalAttention(nn.Module):
    """F, tokens of one modality, updated from G, those of the other (Eq. 4, 5; with the modalities swapped Eq. 6, 7).

    ``width``, of a token, is a multiple of ``heads``. With ``norm_before`` there is a layer norm before q, k and v as
    well, which the equations do not have.
    """

    def __init__(self, width: int, heads: int, norm_before: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.other_norm = (nn.LayerNorm(width) if norm_before else nn.Identity() for _ in range(2))
        self.query, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, f: Tensor, g: Tensor, present: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` and ``(B, S, C)`` -> ``(B, T, C)``; ``present (B, S)`` bool marks what may be attended to."""
        batch, _, width = f.shape
        normed = self.other_norm(g)
        q, k, v = (
            part.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query(self.query_norm(f)), self.keys(normed), self.values(normed))
        )
        allowed = None if present is None else present[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # Eq. 5: softmax(q k^T / sqrt(d)) v
        f_prime = f + self.proj(attended.transpose(1, 2).reshape(f.shape))  # Eq. 5
        f_out: Tensor = f_prime + self.mlp(self.norm(f_prime))  # Eq. 4
        return f_out


class Alignment(nn.Module):
    """Alignment of image and text (section II-C 1): crossmodal attentions, then two blocks on the joint sequence.

    The text has at most ``tokens`` tokens.
    """

    def __init__(self, width: int, heads: int, tokens: int, norm_before: bool = True) -> None:
        super().__init__()
        self.image_attention = CrossmodalAttention(width, heads, norm_before)
        self.text_attention = CrossmodalAttention(width, heads, norm_before)
        self.image_position = nn.Parameter(torch.zeros(1, width, POSITION_GRID, POSITION_GRID))
        self.text_position = nn.Parameter(torch.zeros(1, tokens, width))
        for position in (self.image_position, self.text_position):
            nn.init.trunc_normal_(position, std=0.02)
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(2))

    def forward(self, image: Tensor, f_text: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Align image ``(B, C, h, w)`` and text ``(B, T, C)``; nothing attends to tokens not ``present (B, T)``."""
        batch, width, rows, cols = image.shape
        f_img = image.flatten(2).transpose(1, 2)
        f_img = self.image_attention(f_img, f_text, present)  # Eq. 4, 5
        f_text = self.text_attention(f_text, f_img)  # Eq. 6, 7
        place = resize(self.image_position, (rows, cols)).flatten(2).transpose(1, 2)
        joint = torch.cat([f_img + place, f_text + self.text_position[:, : f_text.shape[1]]], 1)
        attended = torch.cat([present.new_ones(batch, rows * cols), present], 1)
        for block in self.blocks:
            joint = block(joint, attended)
        aligned = joint[:, : rows * cols].transpose(1, 2).reshape(batch, width, rows, cols)
        return aligned, joint[:, rows * cols :]


class TextFusion(nn.Module):
    """The text as a prior on channels (section II-C 2): the image times the mean of the projected text, plus itself."""

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

    ``channels`` are those of the encoder's levels but the deepest, finest first; ``width`` is the fused map's.
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


@dataclass(frozen=True)
class MetaSegNetworkConfig:
    """The network.

    Attributes:
        encoder: A hierarchical encoder's name.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory; random where not given.
        width: Channels of the decoder (C in the paper); a multiple of ``heads``.
        heads: Attention heads.
        align: Use the alignment module (table IV).
        fuse: Use the fusion module (table IV).
        norm_before: Layer norm before the crossmodal attentions' q, k and v too; Eq. 5 has none.
    """

    encoder: str = "swin_base_patch4_window7_224"
    encoder_weights: str | None = "pretrained"
    width: int = 256
    heads: int = 8
    align: bool = True
    fuse: bool = True
    norm_before: bool = True


class MetaSegNetwork(nn.Module):
    """Image and prompt -> logits.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        encoder_weights: As `build_encoder` takes them.
        prompts: Key of each prompt: a climate zone's code, ``ZONE/season``, or `ANY` alone.
        text_tokens: Longest prompt in tokens.
        text_width: Channels of a text token.
        auxiliary: Keep the parts that only image-text matching needs.
        choices: The other fields of `MetaSegNetworkConfig`.

    Raises:
        RecipeError: The encoder has no pyramid, no prompt is named, or the heads do not divide the width.
    """

    text: Tensor
    present: Tensor

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        encoder_weights: str | None = None,
        prompts: Sequence[str] = (ANY,),
        text_tokens: int = 250,
        text_width: int = 768,
        auxiliary: bool = True,
        **choices: Any,
    ) -> None:
        super().__init__()
        config = MetaSegNetworkConfig(encoder_weights=encoder_weights, **choices)
        width, heads, align = config.width, config.heads, config.align
        if not prompts:
            raise RecipeError("MetaSegNet without prompts", "at least one")
        if width < 1 or heads < 1 or width % heads:
            raise RecipeError(f"network.width {width}, heads {heads}", "at least 1, and heads that divide the width")
        self.encoder = build_encoder(config.encoder, channels, encoder_weights, output_norms=True)
        if self.encoder.isotropic:
            raise RecipeError(f"MetaSegNet on {config.encoder}", "a hierarchical encoder such as a Swin or ConvNeXt")
        self.prompts = tuple(prompts)
        self.register_buffer("text", torch.zeros(len(prompts), text_tokens, text_width, dtype=torch.float16))
        self.register_buffer("present", torch.zeros(len(prompts), text_tokens, dtype=torch.bool))
        maps = self.encoder.channels[-4:]
        self.image_projection = nn.Conv2d(maps[-1], width, 1)
        # Nothing reads the text without alignment and fusion; a layer without gradient would stop DDP.
        self.text_projection = nn.Linear(text_width, width) if align or config.fuse else None
        self.alignment = Alignment(width, heads, text_tokens, config.norm_before) if align else None
        self.fusion = TextFusion(width) if config.fuse else None
        self.head = PyramidHead(maps[:-1], width, classes)
        self.matching = load(MATCHING)(width) if auxiliary and align else None

    def set_text(self, features: Sequence[Tensor]) -> None:
        """Fill the table: ``(T, text_width)`` features of each prompt, in the order of the keys.

        Raises:
            ArtifactError: A prompt's features are of another width or longer than the table.
        """
        tokens, width = self.text.shape[1:]
        for row, one in enumerate(features):
            if one.shape[1] != width or len(one) > tokens:
                raise ArtifactError(
                    f"text features of shape {tuple(one.shape)} for prompt '{self.prompts[row]}'",
                    f"at most {tokens} x {width}",
                    "use the text encoder that the network was built for",
                )
            self.text[row, : len(one)] = one.to(self.text)
            self.present[row] = torch.arange(tokens, device=self.present.device) < len(one)

    def forward(self, image: Tensor, prompt: Tensor) -> SegmentationOutput:
        """Segment.

        Args:
            image: ``(B, C, H, W)`` normalised.
            prompt: ``(B,)`` int64, each image's row of the table.

        Returns:
            Logits ``(B, K, H, W)``. In training form also features: ``prompt`` ``(B,)``, ``image_embedding`` and
            ``text_embedding`` ``(B, EMBEDDING)``, ``temperature`` ``()``, ``match`` and ``mismatch`` ``(B, 2)``: the
            match logits of each image with its own prompt and with another image's.
        """
        # One prompt fills its table; to look for its end would wait for a GPU and stop an exporter.
        whole = image.is_meta or len(self.prompts) == 1
        longest = self.present.shape[1] if whole else int(self.present[prompt].sum(1).max())
        text, present = self.text[prompt, :longest], self.present[prompt, :longest]
        maps, f_img, f_text = self._encode(image, text)
        aligned_img, aligned_text = self._align(f_img, f_text, present)
        logits = self._decode(maps, aligned_img, aligned_text, present, image.shape[-2:])
        if self.matching is None:
            return SegmentationOutput(logits)
        embeddings = self.matching.embed(f_img, f_text, present)
        swapped = other_prompt(prompt)
        _, wrong = self._align(f_img, f_text[swapped], present[swapped])
        features: dict[str, list[Tensor]] = {
            "prompt": [prompt],
            "image_embedding": [embeddings[0]],
            "text_embedding": [embeddings[1]],
            "temperature": [self.matching.temperature],
            "match": [self.matching.match(mean_of_tokens(aligned_text, present))],
            "mismatch": [self.matching.match(mean_of_tokens(wrong, present[swapped]))],
        }
        return SegmentationOutput(logits, features=features)

    def segment(self, image: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Segment under given text features, for export.

        ``(B, C, H, W)`` normalised, ``(B, T, text_width)`` and ``(B, T)`` bool -> ``(B, K, H, W)`` logits.
        """
        maps, f_img, f_text = self._encode(image, text)
        return self._decode(maps, *self._align(f_img, f_text, present), present, image.shape[-2:])

    def for_prompt(self, row: int) -> tuple[dict[str, list[str]], dict[str, Tensor]]:
        """Return arguments and state of the same network with a table of one prompt alone, that at ``row``."""
        table, kept = ("text", "present"), slice(row, row + 1)
        state = {name: value[kept] if name in table else value for name, value in self.state_dict().items()}
        return {"prompts": [self.prompts[row]]}, state

    def _encode(self, image: Tensor, text: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the encoder's maps but the deepest; that one as F_img ``(B, C, h, w)``; and F_text ``(B, T, C)``."""
        maps = self.encoder(image)[-4:]
        f_text = text if self.text_projection is None else self.text_projection(text.to(maps[-1].dtype))
        return maps[:-1], self.image_projection(maps[-1]), f_text

    def _align(self, f_img: Tensor, f_text: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if self.alignment is None:
            return f_img, f_text
        aligned: tuple[Tensor, Tensor] = self.alignment(f_img, f_text, present)
        return aligned

    def _decode(
        self, maps: Sequence[Tensor], f_img: Tensor, f_text: Tensor, present: Tensor, size: Sequence[int]
    ) -> Tensor:
        fused = f_img if self.fusion is None else self.fusion(f_img, f_text, present)
        return resize(self.head(maps, fused), size)


def other_prompt(prompt: Tensor) -> Tensor:
    """Return for each sample the position of the next sample with another prompt; its own where there is none."""
    count = len(prompt)
    order = (torch.arange(count, device=prompt.device)[:, None] + torch.arange(count, device=prompt.device)) % count
    differs = prompt[order] != prompt[:, None]
    return order.gather(1, differs.int().argmax(1, keepdim=True)).squeeze(1)
