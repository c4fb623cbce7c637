"""MetaSegNet: an image encoder and frozen text features, fused by a crossmodal attention decoder (paper, Fig. 2).

The text features are constants of a scene. They are kept in the network as a table with one row a prompt, so that
neither training nor inference ever runs a text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError
from geodistill.methods.metasegnet.fusion import Alignment, Fusion, PyramidHead, mean_of_tokens
from geodistill.nn.decoders import resize
from geodistill.nn.encoders import build_encoder
from geodistill.nn.output import SegmentationOutput

EMBEDDING = 256
TEMPERATURE = 0.07
ANY = "any"
"""Key of the one prompt that holds everywhere: that of a network without metadata."""


class Matching(nn.Module):
    """What image-text matching compares (ALBEF's, as the paper takes it); training only.

    Args:
        width: Channels of image and text tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(width, EMBEDDING), nn.Linear(width, EMBEDDING)
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))
        self.match = nn.Linear(width, 2)

    def embed(self, image: Tensor, text: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` and ``(B, T, C)`` -> two ``(B, EMBEDDING)`` of unit length."""
        pooled = self.image(image.mean((-2, -1))), self.text(mean_of_tokens(text, present))
        return F.normalize(pooled[0].float(), dim=-1), F.normalize(pooled[1].float(), dim=-1)


class MetaSegNetwork(nn.Module):
    """Image and prompt -> logits.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        encoder: Encoder's name; a hierarchical one.
        encoder_weights: As `build_encoder` takes them.
        prompts: Key of each prompt: a climate zone's code, ``ZONE/season``, or `ANY` alone.
        text_tokens: Longest prompt in tokens.
        text_width: Channels of a text token.
        width: Channels of the decoder (C in the paper); a multiple of ``heads``.
        heads: Attention heads.
        align: Use the alignment module (table IV).
        fuse: Use the fusion module (table IV).
        auxiliary: Keep the parts that only image-text matching needs.

    Raises:
        RecipeError: The encoder has no pyramid, or no prompt is named.
    """

    text: Tensor
    present: Tensor

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        encoder: str = "swin_base_patch4_window7_224",
        encoder_weights: str | None = None,
        prompts: Sequence[str] = (ANY,),
        text_tokens: int = 250,
        text_width: int = 768,
        width: int = 256,
        heads: int = 8,
        align: bool = True,
        fuse: bool = True,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if not prompts:
            raise RecipeError("MetaSegNet without prompts", "at least one")
        self.encoder = build_encoder(encoder, channels, encoder_weights, output_norms=True)
        if self.encoder.isotropic:
            raise RecipeError(f"MetaSegNet on {encoder}", "a hierarchical encoder such as a Swin or ConvNeXt")
        self.prompts = tuple(prompts)
        self.register_buffer("text", torch.zeros(len(prompts), text_tokens, text_width, dtype=torch.float16))
        self.register_buffer("present", torch.zeros(len(prompts), text_tokens, dtype=torch.bool))
        maps = self.encoder.channels[-4:]
        self.image_projection = nn.Conv2d(maps[-1], width, 1)
        # Nothing reads the text without alignment and fusion; a layer without gradient would stop DDP.
        self.text_projection = nn.Linear(text_width, width) if align or fuse else None
        self.alignment = Alignment(width, heads, text_tokens) if align else None
        self.fusion = Fusion(width) if fuse else None
        self.head = PyramidHead(maps[:-1], width, classes)
        self.matching = Matching(width) if auxiliary and align else None

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
        maps, deepest, words = self._read(image, text)
        aligned, aligned_words = self._align(deepest, words, present)
        logits = self._decode(maps, aligned, aligned_words, present, image.shape[-2:])
        if self.matching is None:
            return SegmentationOutput(logits)
        embeddings = self.matching.embed(deepest, words, present)
        swapped = other_prompt(prompt)
        _, wrong = self._align(deepest, words[swapped], present[swapped])
        features: dict[str, list[Tensor]] = {
            "prompt": [prompt],
            "image_embedding": [embeddings[0]],
            "text_embedding": [embeddings[1]],
            "temperature": [self.matching.temperature],
            "match": [self.matching.match(mean_of_tokens(aligned_words, present))],
            "mismatch": [self.matching.match(mean_of_tokens(wrong, present[swapped]))],
        }
        return SegmentationOutput(logits, features=features)

    def segment(self, image: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Segment under given text features, for export.

        Args:
            image: ``(B, C, H, W)`` normalised.
            text: ``(B, T, text_width)``.
            present: ``(B, T)`` bool.

        Returns:
            ``(B, K, H, W)`` logits.
        """
        maps, deepest, words = self._read(image, text)
        aligned, words = self._align(deepest, words, present)
        return self._decode(maps, aligned, words, present, image.shape[-2:])

    def _read(self, image: Tensor, text: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        maps = self.encoder(image)[-4:]
        words = text if self.text_projection is None else self.text_projection(text.to(maps[-1].dtype))
        return maps[:-1], self.image_projection(maps[-1]), words

    def _align(self, deepest: Tensor, words: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if self.alignment is None:
            return deepest, words
        aligned: tuple[Tensor, Tensor] = self.alignment(deepest, words, present)
        return aligned

    def _decode(
        self, maps: Sequence[Tensor], deepest: Tensor, words: Tensor, present: Tensor, size: Sequence[int]
    ) -> Tensor:
        fused = deepest if self.fusion is None else self.fusion(deepest, words, present)
        return resize(self.head(maps, fused), size)


def other_prompt(prompt: Tensor) -> Tensor:
    """Give for each sample the position of the next sample with another prompt; its own where there is none."""
    count = len(prompt)
    order = (torch.arange(count, device=prompt.device)[:, None] + torch.arange(count, device=prompt.device)) % count
    differs = prompt[order] != prompt[:, None]
    return order.gather(1, differs.int().argmax(1, keepdim=True)).squeeze(1)
