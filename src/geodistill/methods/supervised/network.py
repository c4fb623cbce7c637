"""The supervised network: any encoder under one of the common decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from geodistill.errors import GeodistillError, RecipeError, check_name
from geodistill.lazy import load
from geodistill.nn.decoders import FCNHead, aux_level, checked_scale, pyramid_of, rescale, resize
from geodistill.nn.encoders import build_encoder, format_name, parse_name, wants_output_norms
from geodistill.nn.output import SegmentationOutput, pad_to_multiple

Architecture = Literal["unet", "upernet", "deeplabv3plus", "pspnet", "fcn", "segformer", "fpn", "manet"]


@dataclass(frozen=True)
class DecoderKind:
    """A decoder, and what it asks of the encoder.

    Attributes:
        build: The ``module:attribute`` of what makes it of the channels and strides of the maps, the number of classes
            and a width. Its ``forward`` takes the maps, finest first, and the image's size; its logits may be smaller.
        width: That of its publication.
        multiple: What a width must be a multiple of.
        strides: Maps that it needs.
        output_stride: Stride of its deepest map, to which an encoder that shrinks further is dilated.
        reads_pyramid: Maps of one size, as a plain vision transformer's, are first made a pyramid.
    """

    build: str
    width: int = 256
    multiple: int = 1
    strides: tuple[int, ...] = ()
    output_stride: int | None = None
    reads_pyramid: bool = False


_BUILDERS = "geodistill.methods.supervised.decoder_builders"
_PYRAMID = (4, 8, 16, 32)

DECODERS = {
    "unet": DecoderKind("geodistill.nn.decoders:UNetDecoder", reads_pyramid=True),
    "upernet": DecoderKind(f"{_BUILDERS}:build_upernet", width=512, reads_pyramid=True),
    "deeplabv3plus": DecoderKind(f"{_BUILDERS}:build_deeplabv3plus", strides=(4, 8, 16), output_stride=16),
    "pspnet": DecoderKind(f"{_BUILDERS}:build_pspnet", width=512, output_stride=8),
    "fcn": DecoderKind(f"{_BUILDERS}:build_fcn", width=512, output_stride=8),
    "segformer": DecoderKind(f"{_BUILDERS}:build_segformer", strides=_PYRAMID, reads_pyramid=True),
    # FPN's group norms have 32 groups.
    "fpn": DecoderKind(f"{_BUILDERS}:build_fpn", width=128, multiple=32, strides=_PYRAMID),
    "manet": DecoderKind("geodistill.methods.supervised.multi_attention:build_manet", width=32, strides=_PYRAMID),
}
"""Decoders by name: those of `Architecture`."""


@dataclass(frozen=True)
class SupervisedNetworkConfig:
    """The network.

    Attributes:
        architecture: The decoder.
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory;
            random where not given.
        frozen_encoder: Train the decoder alone, as the "DINOv2" rows of the papers do.
        lora: Rank of the low-rank updates that are trained in place of a transformer encoder's weights and added to
            them at the end (LoRA, extra ``adapt``); all weights are trained where not given.
        head_rates: Factors of `optimizer.lr` for several decoders that are trained at once on a frozen encoder, such as
            0.1, 1 and 10; the best of them on the validation images is kept. One decoder where not given.
        decoder_channels: Width of the decoder; that of its publication where not given.
        style_noise: How often in training, 0..1, the first maps of a convolutional encoder get another style, as new
            places have (DSU).
        scale: Factor of the image's height and width before the encoder, and back for the logits: 0.4375 shows the
            network 224 of 512 pixels.
    """

    architecture: Architecture = "unet"
    encoder: str = "mobilenetv2_100"
    encoder_weights: str | None = None
    frozen_encoder: bool = False
    lora: int | None = None
    head_rates: tuple[float, ...] = ()
    decoder_channels: int | None = None
    style_noise: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.style_noise <= 1:
            raise RecipeError(f"network.style_noise {self.style_noise}", "a probability from 0 to 1")
        if self.lora is not None and (self.lora < 1 or self.frozen_encoder):
            raise RecipeError(f"network.lora {self.lora}", "a rank from 1, and no network.frozen_encoder")
        if self.head_rates and (min(self.head_rates) <= 0 or not self.frozen_encoder):
            raise RecipeError(f"network.head_rates {list(self.head_rates)}", "above 0, with network.frozen_encoder")


class SupervisedNetwork(nn.Module):
    """An encoder and a decoder, and in training an auxiliary FCN head where it is asked for.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        architecture: The decoder, a name of `DECODERS`.
        encoder: See `SupervisedNetworkConfig`, as for its weights, ``frozen_encoder``, ``decoder_channels``, ``scale``.
        aux_head: An FCN head beside the decoder, on the last but one of the maps that the decoder reads.
        distance: A distance head: one more channel of the decoder's last layer, see `distance_targets`.
        auxiliary: Build what only training needs: that head.

    Raises:
        RecipeError: The architecture cannot read this encoder's maps, or the scale is not above 0.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        architecture: Architecture = "unet",
        encoder: str = "mobilenetv2_100",
        encoder_weights: str | None = None,
        frozen_encoder: bool = False,
        decoder_channels: int | None = None,
        scale: float = 1.0,
        aux_head: bool = False,
        distance: bool = False,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        check_name("architecture", architecture, DECODERS)
        self.scale, self.classes, self.distance = checked_scale(scale), classes, distance
        norms = wants_output_norms(encoder) and not frozen_encoder
        self.encoder = build_encoder(_dilated(encoder, architecture), channels, encoder_weights, output_norms=norms)
        self.frozen_encoder = frozen_encoder
        if frozen_encoder:
            self.encoder.requires_grad_(False)
        maps, strides = list(self.encoder.channels), list(self.encoder.strides)
        self.neck = None
        if DECODERS[architecture].reads_pyramid:
            self.neck, maps, strides = pyramid_of(maps, strides)
        self.decoder = _decoder(architecture, self.encoder.name, maps, strides, classes + distance, decoder_channels)
        self.aux_head = FCNHead(maps[aux_level(maps)], classes) if aux_head and auxiliary else None

    def train(self, mode: bool = True) -> SupervisedNetwork:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen_encoder:
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``; the auxiliary head's are ``aux["aux"]``.

        A distance head gives ``distance`` too.
        """
        whole = image.shape[-2:]
        image = rescale(image, self.scale)
        # Some decoders double sizes step by step, so every map must halve evenly; zero is the mean.
        multiple = max(32, *self.encoder.strides) if self.neck is None and not self.encoder.isotropic else 1
        padded = pad_to_multiple(image, multiple)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
            maps = self.encoder(padded)
        if self.neck is not None:
            maps = self.neck(maps)
        logits = self._to_image(self.decoder(maps, padded.shape[-2:]), padded, image, whole)
        distance = None
        if self.distance:
            logits, distance = logits[:, : self.classes], logits[:, self.classes :]
        if self.aux_head is None:
            return SegmentationOutput(logits, distance=distance)
        auxiliary = self._to_image(self.aux_head(maps[aux_level(maps)]), padded, image, whole)
        return SegmentationOutput(logits, {"aux": auxiliary}, distance=distance)

    def _to_image(self, logits: Tensor, padded: Tensor, image: Tensor, size: Sequence[int]) -> Tensor:
        """Bring logits to the padded image's size, cut the padding off, and bring them to the ``size`` asked for."""
        height, width = image.shape[-2:]
        return resize(resize(logits, padded.shape[-2:])[..., :height, :width], size)


def _decoder(
    architecture: Architecture, encoder: str, maps: list[int], strides: list[int], classes: int, width: int | None
) -> nn.Module:
    kind = DECODERS[architecture]
    if width is not None and (width < 1 or width % kind.multiple):
        raise RecipeError(
            f"network.decoder_channels {width} for {architecture}",
            f"a multiple of {kind.multiple}" if kind.multiple > 1 else "at least 1",
        )
    if not set(kind.strides) <= set(strides):
        raise RecipeError(
            f"{architecture} on {encoder} with strides {strides}",
            f"an encoder with strides {list(kind.strides)}",
            "use architecture unet, upernet or fcn",
        )
    decoder: nn.Module = load(kind.build)(maps, strides, classes, width or kind.width)
    return decoder


def _dilated(encoder: str, architecture: str) -> str:
    """Ask an encoder that would shrink further for the stride its architecture reads."""
    stride = DECODERS[architecture].output_stride
    base, options = parse_name(encoder)
    if stride is None or "output_stride" in options:
        return encoder
    dilated = format_name(base, options | {"output_stride": stride})
    with torch.device("meta"):
        if max(build_encoder(encoder).strides) <= 16:
            return encoder
        try:
            build_encoder(dilated)
        except GeodistillError as error:
            raise RecipeError(
                f"{architecture} on {encoder}, which cannot be dilated to stride {stride}",
                "an encoder such as resnet50",
                "or use architecture unet, upernet, segformer or fpn",
            ) from error
    return dilated
