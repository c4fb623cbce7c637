"""MAFLNet (Section 3.1): an encoder, lateral convolutions, MACA and LHFEM on each level, up-blocks and heads.

Teacher and student are this one network on different encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geodistill.errors import RecipeError, check_choices
from geodistill.methods.maflnet.lhfem import LHFEM, LhfemConfig
from geodistill.methods.maflnet.maca import MACA, MacaConfig
from geodistill.nn.adapters import adapters_of
from geodistill.nn.decoders import conv_norm_relu, resize
from geodistill.nn.encoders import build_encoder, wants_output_norms
from geodistill.nn.output import SegmentationOutput

Trained = Literal["all", "adapters", "none"]
AuxHead = Literal["linear", "conv", "none"]

LEVELS = 4
"""Levels that the decoder reads, the deepest of the encoder's."""


@dataclass(frozen=True)
class MaflNetworkConfig:
    """The network, teacher or student.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them; with ``(adapters=block)`` or
            ``(adapters=stage)`` behind it where it is to be adapted. Of a pyramid the four deepest levels are read; the
            maps of a plain vision transformer, all of one size, are first resized to strides 4, 8, 16, 32.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory;
            random where not given.
        trained: What of the encoder is trained: ``all``, its ``adapters`` only, or ``none`` of it.
        width: Channels of the decoder.
        maca: The multi-attention and cross-fused architecture, on each level.
        lhfem: The Laplacian high-frequency enhancement module, on each level.
        aux_head: Auxiliary head on the sum of the decoder's inner maps: ``linear`` (1x1 convolution), ``conv``
            (GeoSeg's 3x3 convolution before it) or ``none``.
    """

    encoder: str = "mit_b0"
    encoder_weights: str | None = "pretrained"
    trained: Trained = "all"
    width: int = 256
    maca: MacaConfig = field(default_factory=MacaConfig)
    lhfem: LhfemConfig = field(default_factory=LhfemConfig)
    aux_head: AuxHead = "linear"

    def __post_init__(self) -> None:
        check_choices(self)
        check_choices(self.lhfem, "lhfem.")


class UpBlock(nn.Module):
    """Brings a map to the next finer level: resized, joined with that level's, two 3x3 convolutions.

    Args:
        width: Channels of both maps and of the result.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_norm_relu(2 * width, width, 3), conv_norm_relu(width, width, 3))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """``(B, C, h, w)`` and ``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        joined: Tensor = self.convs(torch.cat([resize(coarse, skip.shape[-2:]), skip], 1))
        return joined


class AuxiliaryHead(nn.Module):
    """Logits of the sum of the decoder's maps but the finest (Eq. 22, in the manner of GeoSeg's UNetFormer).

    Args:
        width: Channels of the maps.
        classes: Number of classes.
        conv: Have a 3x3 convolution before the classifier.
    """

    def __init__(self, width: int, classes: int, conv: bool) -> None:
        super().__init__()
        self.conv = (
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
            if conv
            else nn.Identity()
        )
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, C, Hi, Wi)`` a level, deepest first -> ``(B, K, H, W)`` at the last one's size."""
        total = torch.stack([resize(level, maps[-1].shape[-2:]) for level in maps]).sum(0)
        logits: Tensor = self.classifier(self.dropout(self.conv(total)))
        return logits


class MaflNetwork(nn.Module):
    """Teacher or student: encoder, laterals, MACA, LHFEM, up-blocks, head, and the auxiliary head while it trains.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        encoder_weights: As `build_encoder` takes them.
        maca: Fields of `MacaConfig`; the defaults where left out.
        lhfem: Fields of `LhfemConfig`; the defaults where left out.
        auxiliary: Build what only training needs: the auxiliary head.
        choices: The other fields of `MaflNetworkConfig`.

    Raises:
        UnknownNameError: A choice has no such value.
        RecipeError: The encoder has no adapters to train, or width or MACA's heads do not fit.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        encoder_weights: str | None = None,
        maca: Mapping[str, Any] | None = None,
        lhfem: Mapping[str, Any] | None = None,
        auxiliary: bool = True,
        **choices: Any,
    ) -> None:
        super().__init__()
        maca_config, lhfem_config = MacaConfig(**(maca or {})), LhfemConfig(**(lhfem or {}))
        config = MaflNetworkConfig(encoder_weights=encoder_weights, maca=maca_config, lhfem=lhfem_config, **choices)
        width, self.trained = config.width, config.trained
        if width < 1:
            raise RecipeError(f"network.width {width}", "a number of channels from 1")
        norms = wants_output_norms(config.encoder) and self.trained == "all"
        self.encoder = build_encoder(config.encoder, channels, encoder_weights, output_norms=norms)
        self._freeze()
        used = list(self.encoder.channels)[-LEVELS:]
        self.strides = [4 << i for i in range(len(used))] if self.encoder.isotropic else None
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width)) for c in used
        )
        self.maca = nn.ModuleList(MACA(width, config.maca) for _ in used if config.maca.enabled)
        self.lhfem = nn.ModuleList(LHFEM(width, config.lhfem) for _ in used if config.lhfem.enabled)
        self.on_laterals = config.lhfem.place == "laterals"
        self.ups = nn.ModuleList(UpBlock(width) for _ in used[1:])
        self.head = nn.Sequential(conv_norm_relu(width, width, 3), nn.Conv2d(width, classes, 1))
        aux = config.aux_head
        self.aux_head = AuxiliaryHead(width, classes, aux == "conv") if auxiliary and aux != "none" else None

    def train(self, mode: bool = True) -> MaflNetwork:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.trained != "all":
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``; in training form ``aux["aux"]`` at stride 8."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained != "none"):
            maps = self.encoder(image)[-len(self.laterals) :]
        levels = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        if self.strides is not None:
            height, width = image.shape[-2:]
            levels = [resize(m, (-(-height // s), -(-width // s))) for m, s in zip(levels, self.strides, strict=True)]
        if len(self.maca):
            levels = [maca(level) for maca, level in zip(self.maca, levels, strict=True)]
        enhance: Sequence[nn.Module] = list(self.lhfem) or [nn.Identity()] * len(levels)
        if self.on_laterals:
            levels = [lhfem(level) for lhfem, level in zip(enhance, levels, strict=True)]
            enhance = [nn.Identity()] * len(levels)
        decoded = [enhance[-1](levels[-1])]
        for up, skip, lhfem in zip(self.ups, levels[-2::-1], enhance[-2::-1], strict=True):
            decoded.append(lhfem(up(decoded[-1], skip)))
        logits = resize(self.head(decoded[-1]), image.shape[-2:])
        if self.aux_head is None:
            return SegmentationOutput(logits)
        return SegmentationOutput(logits, {"aux": self.aux_head(decoded[:-1])})

    def _freeze(self) -> None:
        if self.trained == "all":
            return
        self.encoder.requires_grad_(False)
        if self.trained == "adapters":
            adapters = adapters_of(self.encoder)
            if not adapters:
                raise RecipeError(
                    f"network.trained adapters with {self.encoder.name}",
                    "an encoder with adapters, such as sam2_hiera_large(adapters=block)",
                    "name it so, or set network.trained: all",
                )
            for adapter in adapters:
                adapter.requires_grad_(True)
