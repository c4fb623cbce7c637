"""The supervised network: any encoder under one of the common decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from torch import Tensor, nn

from geodistill.errors import GeodistillError, RecipeError, check_name
from geodistill.lazy import load
from geodistill.nn.decoders import (
    FCNHead,
    UNetDecoder,
    UPerHead,
    aux_level,
    checked_scale,
    pyramid_of,
    rescale,
    resize,
)
from geodistill.nn.encoders import build_encoder, format_name, parse_name, wants_output_norms
from geodistill.nn.output import SegmentationOutput, pad_to_multiple

Architecture = Literal["unet", "upernet", "deeplabv3plus", "pspnet", "fcn", "segformer", "fpn", "manet"]

OUTPUT_STRIDES = {"deeplabv3plus": 16, "pspnet": 8, "fcn": 8}
"""Architectures that read the deepest map at a finer stride, from an encoder dilated to it."""


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


WIDTHS = {"upernet": 512, "pspnet": 512, "fcn": 512, "fpn": 128, "manet": 32}
"""Width of each decoder in its publication, where it is not 256."""

GROUPS = 32
"""Groups of FPN's group norms, which its channels must be a multiple of."""


class SupervisedNetwork(nn.Module):
    """An encoder and a decoder, and in training an auxiliary FCN head where it is asked for.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        architecture: The decoder. ``unet``, ``deeplabv3plus``, ``pspnet``, ``segformer`` and ``fpn`` are those of
            segmentation-models-pytorch; ``upernet`` and ``fcn`` follow mmseg and take any encoder.
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
        check_name("architecture", architecture, get_args(Architecture))
        self.scale, self.classes, self.distance = checked_scale(scale), classes, distance
        norms = wants_output_norms(encoder) and not frozen_encoder
        self.encoder = build_encoder(_dilated(encoder, architecture), channels, encoder_weights, output_norms=norms)
        self.frozen_encoder = frozen_encoder
        if frozen_encoder:
            self.encoder.requires_grad_(False)
        maps, strides = list(self.encoder.channels), list(self.encoder.strides)
        self.neck = None
        if architecture in ("unet", "upernet", "segformer"):
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


class HeadDecoder(nn.Module):
    """A head that reads some of the maps: UPerNet's the last four, mmseg's FCN head the deepest."""

    def __init__(self, head: nn.Module, levels: int | slice) -> None:
        super().__init__()
        self.head, self._levels = head, levels

    def forward(self, maps: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """Maps -> logits at the first used level's size."""
        logits: Tensor = self.head(maps[self._levels])
        return logits


class SmpDecoder(nn.Module):
    """A decoder of segmentation-models-pytorch with a 1x1 classifier.

    Args:
        decoder: Takes the image, the map at stride 2 (empty where there is none), 4, 8 ...
        out_channels: Channels it returns.
        classes: Number of classes.
        strides: Stride of each encoder level.
    """

    def __init__(self, decoder: nn.Module, out_channels: int, classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        initialize_decoder(decoder)
        self.decoder = decoder
        self.classifier = nn.Conv2d(out_channels, classes, 1)
        self.half_missing = strides[0] >= 4

    def forward(self, maps: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """Maps -> logits, mostly at stride 4."""
        height, width = size
        batch = maps[0].shape[0]
        empty = [maps[0].new_empty((batch, 0, height, width))]
        if self.half_missing:
            empty.append(maps[0].new_empty((batch, 0, height // 2, width // 2)))
        logits: Tensor = self.classifier(self.decoder([*empty, *maps]))
        return logits


class _GroupNorm(nn.GroupNorm):
    """Normalises a group of one value too, which becomes its bias; `torch.nn` refuses it in a batch of one alone."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        if input.shape[1:].numel() > self.num_groups:
            return super().forward(input)
        return self.bias[:, None, None].expand_as(input).clone()


def _decoder(
    architecture: Architecture, encoder: str, maps: list[int], strides: list[int], classes: int, width: int | None
) -> nn.Module:
    if width is not None and (width < 1 or (architecture == "fpn" and width % GROUPS)):
        raise RecipeError(
            f"network.decoder_channels {width} for {architecture}",
            f"a multiple of {GROUPS}" if architecture == "fpn" else "at least 1",
        )
    width = width or WIDTHS.get(architecture, 256)
    if architecture == "unet":
        return UNetDecoder(maps, strides, classes, width)
    if architecture == "upernet":
        return HeadDecoder(UPerHead(maps[-4:], classes, width), slice(-4, None))
    if architecture == "fcn":
        return HeadDecoder(FCNHead(maps[-1], classes, width, convs=2), -1)
    if architecture == "pspnet":
        return SmpDecoder(PSPDecoder([maps[-1]], out_channels=width), width, classes, strides)
    needed = (4, 8, 16) if architecture == "deeplabv3plus" else (4, 8, 16, 32)
    if not set(needed) <= set(strides):
        raise RecipeError(
            f"{architecture} on {encoder} with strides {strides}",
            f"an encoder with strides {list(needed)}",
            "use architecture unet, upernet or fcn",
        )
    levels = [0, *([0] if strides[0] >= 4 else []), *maps]
    if architecture == "manet":
        decoder_class = load("geodistill.methods.supervised.multi_attention:MultiAttentionDecoder")
        return decoder_class(maps, classes, width)  # type: ignore[no-any-return]
    if architecture == "segformer":
        return SmpDecoder(SegformerDecoder(levels, 5, width), width, classes, strides)
    if architecture == "fpn":
        decoder = FPNDecoder(levels, 5, 2 * width, width)
        for module in decoder.modules():
            if isinstance(module, nn.GroupNorm):
                module.__class__ = _GroupNorm
        return SmpDecoder(decoder, width, classes, strides)
    pyramid = DeepLabV3PlusDecoder(levels, 5, width, (12, 24, 36), 16, aspp_separable=True, aspp_dropout=0.5)
    return SmpDecoder(pyramid, width, classes, strides)


def _dilated(encoder: str, architecture: str) -> str:
    """Ask an encoder that would shrink further for the stride its architecture reads."""
    base, options = parse_name(encoder)
    if architecture not in OUTPUT_STRIDES or "output_stride" in options:
        return encoder
    dilated = format_name(base, options | {"output_stride": OUTPUT_STRIDES[architecture]})
    with torch.device("meta"):
        if max(build_encoder(encoder).strides) <= 16:
            return encoder
        try:
            build_encoder(dilated)
        except GeodistillError as error:
            raise RecipeError(
                f"{architecture} on {encoder}, which cannot be dilated to stride {OUTPUT_STRIDES[architecture]}",
                "an encoder such as resnet50",
                "or use architecture unet, upernet, segformer or fpn",
            ) from error
    return dilated
