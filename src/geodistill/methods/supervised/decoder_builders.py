"""Supervised decoders: UPerNet's and mmseg's FCN head, and those of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Sequence

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from torch import Tensor, nn

from geodistill.nn.decoders import FCNHead, UPerHead


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


def build_upernet(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return UPerNet's head on the last four maps."""
    return HeadDecoder(UPerHead(channels[-4:], classes, width), slice(-4, None))


def build_fcn(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return mmseg's FCN head."""
    return HeadDecoder(FCNHead(channels[-1], classes, width, convs=2), -1)


def build_pspnet(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return PSPNet's pooling of the deepest map."""
    return SmpDecoder(PSPDecoder([channels[-1]], out_channels=width), width, classes, strides)


def build_segformer(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return SegFormer's decoder."""
    return SmpDecoder(SegformerDecoder(_smp_levels(channels, strides), 5, width), width, classes, strides)


def build_fpn(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return FPN's decoder; its pyramid has twice the width."""
    decoder = FPNDecoder(_smp_levels(channels, strides), 5, 2 * width, width)
    for module in decoder.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = _GroupNorm
    return SmpDecoder(decoder, width, classes, strides)


def build_deeplabv3plus(channels: Sequence[int], strides: Sequence[int], classes: int, width: int) -> nn.Module:
    """Return the decoder of DeepLabv3+, for a deepest map at stride 16."""
    levels = _smp_levels(channels, strides)
    decoder = DeepLabV3PlusDecoder(levels, 5, width, (12, 24, 36), 16, aspp_separable=True, aspp_dropout=0.5)
    return SmpDecoder(decoder, width, classes, strides)


def _smp_levels(channels: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Return the channels of the image, none, of the map at stride 2, of which there may be none, and of the others."""
    return [0, *([0] if strides[0] >= 4 else []), *channels]
