"""KTDA's student: encoder, FAM (Eq. 1-2), FMM (Eq. 6), neck, decoder and auxiliary head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from geodistill.errors import RecipeError, check_choices
from geodistill.nn.alignment import FAM, map_grids, pair_levels
from geodistill.nn.decoders import FCNHead, UNetDecoder, UPerHead, ViTBlock, aux_level, pyramid_of, resize
from geodistill.nn.encoders import Encoder, build_encoder, wants_output_norms
from geodistill.nn.output import SegmentationOutput

Order = Literal["fmm_neck", "neck_fmm"]
AuxFrom = Literal["fam", "fmm"]
Decoder = Literal["upernet", "unet"]
DecodeFrom = Literal["aligned", "encoder"]
Align = Literal["conv", "none"]

PYRAMID_LEVELS = 4
"""Maps that the decoder reads of an encoder that has more, or that one map becomes."""


@dataclass(frozen=True)
class KtdaNetworkConfig:
    """The student.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory;
            random where not given.
        decode_from: ``aligned``: the decoder reads the maps that FAM aligned with the teacher's and FMM adapted, as
            published. ``encoder``: it reads the student's own maps, and FAM only serves the transfer; nothing of it
            is left at inference, so any light network can be taught.
        align: ``conv`` is FAM. ``none`` matches the student's maps as they are, for a student whose channels and
            strides are the teacher's own.
        fmm_blocks: Transformer blocks of FMM for each level; 0 leaves FMM out.
        fmm_heads: Attention heads of each.
        order: Whether FMM comes before the neck (paper) or behind it (released code).
        aux_from: Whether the auxiliary head reads FAM's maps (paper) or what the decoder reads (released code).
        decoder: The decoder.
        decoder_channels: Width of the decoder; 512 for ``upernet`` and 256 for ``unet`` where not given.
        passes: Passes through encoder and FAM in a training step: 1, or the released code's 2, whose second gives the
            transfer its maps, with a drop-path of its own.
    """

    encoder: str = "convnext_base.fb_in1k(drop_path_rate=0.4, ls_init_value=1.0)"
    encoder_weights: str | None = "pretrained"
    decode_from: DecodeFrom = "aligned"
    align: Align = "conv"
    fmm_blocks: int = 4
    fmm_heads: int = 8
    order: Order = "fmm_neck"
    aux_from: AuxFrom = "fam"
    decoder: Decoder = "upernet"
    decoder_channels: int | None = None
    passes: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        check_choices(self)


class FMM(nn.Module):
    """Feature Modulation Module (Eq. 6): transformer blocks for each level, without position embedding.

    Args:
        channels: Channels of each level; multiples of ``heads``.
        blocks: Blocks for each level, 0 or more.
        heads: Attention heads.

    Raises:
        RecipeError: A level's channels do not divide by the heads.
    """

    def __init__(self, channels: Sequence[int], blocks: int, heads: int) -> None:
        super().__init__()
        if blocks < 0 or heads < 1 or (blocks and any(c % heads for c in channels)):
            raise RecipeError(
                f"FMM of {blocks} blocks with {heads} heads on {list(channels)} channels",
                "at least 0 blocks, and heads that divide every level's channels",
                "set network.fmm_heads",
            )
        self.levels = nn.ModuleList(nn.Sequential(*(ViTBlock(c, heads) for _ in range(blocks))) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``(B, Ci, Hi, Wi)`` a level -> the same shapes."""
        adapted: list[Tensor] = []
        for level, blocks in zip(maps, self.levels, strict=True):
            tokens = blocks(level.flatten(2).transpose(1, 2))
            adapted.append(tokens.transpose(1, 2).reshape(level.shape))
        return adapted


class KtdaNetwork(nn.Module):
    """The student: encoder, FAM, FMM, neck, decoder, and the auxiliary head while it trains.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        encoder: Student's encoder.
        encoder_weights: As `build_encoder` takes them.
        teacher_channels: Channels of each teacher map; they and the strides stand in for the teacher at inference.
        teacher_strides: Stride of each teacher map in pixels.
        auxiliary: Build what only training needs: the auxiliary head, and FAM where the decoder does not read it.
        choices: The other fields of `KtdaNetworkConfig`.

    Raises:
        UnknownNameError: No such encoder or choice.
        RecipeError: No student level matches a teacher level, or FMM's heads do not fit.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        encoder: str,
        teacher_channels: Sequence[int],
        teacher_strides: Sequence[int],
        encoder_weights: str | None = None,
        auxiliary: bool = True,
        **choices: Any,
    ) -> None:
        super().__init__()
        config = KtdaNetworkConfig(encoder, encoder_weights, **choices)
        norms = wants_output_norms(encoder)
        self.encoder = build_encoder(encoder, channels, encoder_weights, output_norms=norms)
        self.pairs = pair_levels(self.encoder.strides, teacher_strides)
        self.target_strides = [teacher_strides[t] for _, t in self.pairs]
        targets = [teacher_channels[t] for _, t in self.pairs]
        self.decode_from, self.order, self.aux_from = config.decode_from, config.order, config.aux_from
        self.passes = config.passes
        aligned = config.decode_from == "aligned"
        matched = [self.encoder.channels[s] for s, _ in self.pairs]
        if config.align == "none":
            _check_alike(self.encoder, matched, targets, self.pairs, self.target_strides)
        self.fam = FAM(matched, targets) if config.align == "conv" and (aligned or auxiliary) else None

        # What the decoder reads: FAM's maps or the encoder's own, made a pyramid where they have one size.
        maps, strides = (targets, self.target_strides) if aligned else (self.encoder.channels, self.encoder.strides)
        self.neck, read, strides = pyramid_of(maps, strides, single=PYRAMID_LEVELS)
        modulated = read if config.order == "neck_fmm" else targets
        self.fmm = FMM(modulated, config.fmm_blocks, config.fmm_heads) if aligned else None
        # A map that FMM or the neck made for it must be read; of an encoder's own, the last four.
        self.finest = max(len(read) - PYRAMID_LEVELS, 0) if not aligned and self.neck is None else 0
        decoder, width = config.decoder, config.decoder_channels
        self.upernet = UPerHead(read[self.finest :], classes, width or 512) if decoder == "upernet" else None
        self.unet = UNetDecoder(read, strides, classes, width or 256) if decoder == "unet" else None
        tapped = targets if self.aux_from == "fam" else read
        self.aux_head = FCNHead(tapped[aux_level(tapped)], classes) if auxiliary else None

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``.

        In training form ``aux["aux"]`` holds the auxiliary logits and ``features["aligned"]`` FAM's maps, one for
        each of `pairs`, ``(B, teacher channels, ceil(H / teacher stride), ceil(W / teacher stride))``.
        """
        levels = self.encoder(image)
        aligned = self.align(levels, image)
        read = self._refine(aligned) if self.decode_from == "aligned" else self._to_pyramid(levels)
        logits = self._decode(read, image)
        if self.aux_head is None:
            return SegmentationOutput(logits)
        tapped = aligned if self.aux_from == "fam" else read
        auxiliary = self.aux_head(tapped[aux_level(tapped)])
        if self.training and self.passes == 2:
            aligned = self.align(self.encoder(image), image)
        return SegmentationOutput(logits, {"aux": auxiliary}, {"aligned": aligned})

    def align(self, levels: Sequence[Tensor], image: Tensor) -> list[Tensor]:
        """Return the encoder's matched levels, through FAM where there is one (Eq. 1-2)."""
        matched = [levels[student] for student, _ in self.pairs]
        if self.fam is None:
            return matched
        aligned: list[Tensor] = self.fam(matched, map_grids(image.shape[-2], image.shape[-1], self.target_strides))
        return aligned

    def _refine(self, aligned: list[Tensor]) -> list[Tensor]:
        """FMM (Eq. 6) and neck, in either order."""
        if self.fmm is None:
            return self._to_pyramid(aligned)
        if self.order == "fmm_neck":
            return self._to_pyramid(self.fmm(aligned))
        adapted: list[Tensor] = self.fmm(self._to_pyramid(aligned))
        return adapted

    def _to_pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        if self.neck is None:
            return maps
        pyramid: list[Tensor] = self.neck(maps)
        return pyramid

    def _decode(self, maps: list[Tensor], image: Tensor) -> Tensor:
        size = image.shape[-2:]
        if self.unet is not None:
            logits: Tensor = self.unet(maps, size)
            return logits
        assert self.upernet is not None
        return resize(self.upernet(maps[self.finest :]), size)


def _check_alike(
    encoder: Encoder,
    channels: Sequence[int],
    targets: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    target_strides: Sequence[int],
) -> None:
    strides = [encoder.strides[s] for s, _ in pairs]
    if list(channels) != list(targets) or strides != list(target_strides):
        raise RecipeError(
            f"network.align none with channels {list(channels)} at strides {strides}",
            f"the teacher's {list(targets)} at {list(target_strides)}",
            "set network.align: conv",
        )
