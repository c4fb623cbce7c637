"""The SEP network: one encoder and one decoder for all sets, and a head for each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError, check_choices
from geodistill.lazy import load
from geodistill.nn.decoders import MultiLevelNeck, UPerFusion, resize
from geodistill.nn.encoders import build_encoder, wants_output_norms
from geodistill.nn.output import SegmentationOutput, ceil_div, pad_to_multiple

Architecture = Literal["unet", "upernet", "mask2former"]
Pyramid = Literal["last", "blocks"]

SHARED_DECODERS: dict[str, str] = {
    "unet": "geodistill.methods.sep.network:UNetBlocks",
    "upernet": "geodistill.methods.sep.network:UPerBlocks",
    "mask2former": "geodistill.methods.sep.mask2former:MaskBlocks",
}
"""The shared decoder of each architecture."""

_STRIDES = (4, 8, 16, 32)


Hidden = tuple[Tensor, ...]
"""What a decoder returns: tensors whose first dimension is the batch, so that each set's part can be taken out."""


@dataclass
class Queries:
    """What a set's head makes of Mask2Former's queries, layer by layer.

    Attributes:
        classes: ``(B, Q, K + 1)`` logits; the last is "no object".
        masks: ``(B, Q, h, w)`` logits.
    """

    classes: list[Tensor]
    masks: list[Tensor]


class SepHead(nn.Module):
    """What a set has of its own."""

    @abstractmethod
    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """What the decoder returns of an image of ``size`` -> ``(B, K, H, W)`` logits."""

    def queries(self, hidden: Hidden) -> Queries | None:
        """Return what losses on queries are taken of; ``None`` where pixels are classified."""
        return None


class SepDecoder(nn.Module):
    """The shared part behind the encoder."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Hidden:
        """Maps ``(B, Ci, Hi, Wi)`` at strides 4, 8, 16 and 32 of an image of ``size`` -> what the heads read."""

    @abstractmethod
    def make_head(self, classes: int, config: SepNetworkConfig) -> SepHead:
        """Make the head of a set."""


class UNetBlocks(SepDecoder):
    """U-Net's decoder as in SAMRS, section 4.1.1: four blocks from stride 32 to stride 2, the last without a skip.

    Args:
        channels: Channels of the maps at strides 4, 8, 16 and 32.
        width: Channels of the first block; each of the others has half as many, at least 16. 512 in SAMRS.
    """

    def __init__(self, channels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        widths = [max((width or 512) >> i, 16) for i in range(4)]
        self.blocks = UnetDecoder([0, *channels], widths, n_blocks=4)
        initialize_decoder(self.blocks)
        self.width = widths[-1]

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Hidden:
        """Maps -> one ``(B, width, ceil(H / 2), ceil(W / 2))``."""
        half = maps[0].new_empty((maps[0].shape[0], 0, *((side + 1) // 2 for side in size)))
        return (self.blocks([half, *maps]),)

    def make_head(self, classes: int, config: SepNetworkConfig) -> SepHead:
        """Make a `UNetHead`."""
        return UNetHead(self.width, classes, config.head_kernel)


class UNetHead(SepHead):
    """Bilinear enlargement and a convolution; no ReLU as in section 4.1.1, which would cut logits off.

    SAMRS prints a 1x1 convolution before the enlargement, with which it commutes, and released a 3x3 one behind it.
    """

    def __init__(self, width: int, classes: int, kernel: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(width, classes, kernel, padding=kernel // 2)

    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """``(B, width, h, w)`` -> ``(B, K, H, W)`` logits."""
        logits: Tensor = self.classifier(resize(hidden[0], size))
        return logits


class LastMapPyramid(nn.Module):
    """The pyramid of a plain vision transformer's last map, as released with SAMRS: x4, x2, as it is, and halved.

    Args:
        channels: Of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.four = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, 2),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, 2),
        )
        self.two = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of one size, of which the last is ``(B, C, h, w)`` -> four maps of h and w times 4, 2, 1 and 1/2."""
        last = self.norm(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return [self.four(last), self.two(last), last, F.max_pool2d(last, 2, ceil_mode=True)]


class UPerBlocks(SepDecoder):
    """UPerNet up to its fused map.

    Args:
        channels: Channels of the maps at strides 4, 8, 16 and 32.
        width: Channels inside; those of the second map where not given, as in SAMRS.
    """

    def __init__(self, channels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        self.width = width or channels[1]
        self.fusion = UPerFusion(channels, self.width)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Hidden:
        """Maps -> one ``(B, width, H / 4, W / 4)``."""
        return (self.fusion.fused(maps),)

    def make_head(self, classes: int, config: SepNetworkConfig) -> SepHead:
        """Make a `UPerClassifier`."""
        return UPerClassifier(self.width, classes)


class UPerClassifier(SepHead):
    """Dropout of channels, a 1x1 convolution and bilinear enlargement.

    SAMRS enlarges first; the two linear maps commute, and this order costs a sixteenth.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """``(B, width, h, w)`` -> ``(B, K, H, W)`` logits."""
        return resize(self.classifier(self.dropout(hidden[0])), size)


@dataclass(frozen=True)
class SepNetworkConfig:
    """The network.

    Attributes:
        architecture: The segmentor.
        encoder: Any encoder's name with maps at strides 4, 8, 16 and 32, or a plain vision transformer's.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory;
            random where not given.
        decoder_channels: Width of the decoder; SAMRS's where not given.
        head_kernel: Side of the convolution that is U-Net's head: 3 as released, 1 as printed.
        pyramid: Maps of a plain vision transformer at the decoder's strides: from its ``last`` block, as released, or
            from four ``blocks``.
        pass_per_set: Run each set's part of a batch through the network by itself, as the released code does: a batch
            norm then sees one set at a time in training, and their mixture when the network is used.
    """

    architecture: Architecture = "unet"
    encoder: str = "resnet50"
    encoder_weights: str | None = None
    decoder_channels: int | None = None
    head_kernel: Literal[1, 3] = 3
    pyramid: Pyramid = "last"
    pass_per_set: bool = False

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass
class SepOutput(SegmentationOutput):
    """The result for a batch of one or several sets.

    Attributes:
        logits: ``(B, K, H, W)`` of the first set that the batch holds, for its samples.
        by_set: The same for every set that the batch holds, by name; the one head of a network without sets has the
            empty name.
        queries: What losses on queries are taken of, by the same names; empty where pixels are classified.
    """

    by_set: dict[str, Tensor] = field(default_factory=dict)
    queries: dict[str, Queries] = field(default_factory=dict)


class SepNetwork(nn.Module):
    """An encoder and a decoder shared by all sets, with a head for each. Its training form is its inference form.

    With one head it is an ordinary segmenter. With several, and images that are of no set, it returns every set's
    classes, each set's logits as logarithms of its own softmax: the largest is the class that its set is surest of.

    Args:
        channels: Bands of the image.
        classes: Number of classes, of all sets together.
        sets: Classes of each set by its name; one head without a name where not given.
        auxiliary: Accepted for the common form; there are no auxiliary parts.
        choices: Fields of `SepNetworkConfig`; the pyramid is of ``blocks`` in Segmenters that do not say.

    Raises:
        RecipeError: The encoder's maps are at other strides.
        ArtifactError: The sets' classes do not add up.
        UnknownNameError: No such encoder or choice.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        sets: Mapping[str, int] | None = None,
        auxiliary: bool = True,
        **choices: Any,
    ) -> None:
        super().__init__()
        config = SepNetworkConfig(**{"pyramid": "blocks"} | choices)
        self.sets = dict(sets or {})
        if self.sets and sum(self.sets.values()) != classes:
            raise ArtifactError(f"sets of {self.sets} classes for a network of {classes}", "classes that add up")
        self.pass_per_set = config.pass_per_set
        norms = wants_output_norms(config.encoder)
        self.encoder = build_encoder(config.encoder, channels, config.encoder_weights, output_norms=norms)
        maps, strides = self.encoder.channels[-4:], self.encoder.strides[-4:]
        self.neck: MultiLevelNeck | LastMapPyramid | None = None
        if self.encoder.isotropic and len(maps) == 4:
            self.neck = LastMapPyramid(maps[-1]) if config.pyramid == "last" else MultiLevelNeck(maps, maps[-1])
        elif strides != _STRIDES:
            raise RecipeError(
                f"{config.architecture} on {self.encoder.name} with strides {list(strides)}",
                f"an encoder with strides {list(_STRIDES)}, or a plain vision transformer of four blocks or more",
            )
        self.decoder = load(SHARED_DECODERS[config.architecture])(maps, config.decoder_channels)
        counts = self.sets.values() or [classes]
        self.heads = nn.ModuleList(self.decoder.make_head(count, config) for count in counts)

    def forward(self, image: Tensor, sets: Tensor | None = None) -> SegmentationOutput:
        """Segment.

        Args:
            image: ``(B, C, H, W)``, normalised.
            sets: ``(B,)`` int64: position of each image's set; images of one set stand together.

        Returns:
            Logits ``(B, K, H, W)``; a `SepOutput` but where a network of several sets is given none.
        """
        size = image.shape[-2:]
        if sets is None and self.sets:
            hidden = self._hidden(image)
            every = [self._logits(head, hidden, size).log_softmax(1) for head in self.heads]
            return SegmentationOutput(torch.cat(every, 1))
        positions, counts = [0], [len(image)]
        if sets is not None:
            positions, counts = (values.tolist() for values in torch.unique_consecutive(sets, return_counts=True))
        if len(set(positions)) < len(positions):
            raise RecipeError("a batch whose sets take turns", "the images of a set together")
        if self.pass_per_set:
            parts = [self._hidden(part) for part in torch.split(image, counts)]
        else:
            parts = list(zip(*(torch.split(tensor, counts) for tensor in self._hidden(image)), strict=True))
        output = SepOutput(image)
        names = list(self.sets) or [""]
        for position, part in zip(positions, parts, strict=True):
            head = self.heads[position]
            assert isinstance(head, SepHead)
            output.by_set[names[position]] = self._logits(head, part, size)
            queries = head.queries(part)
            if queries is not None:
                output.queries[names[position]] = queries
        output.logits = next(iter(output.by_set.values()))
        return output

    def _hidden(self, image: Tensor) -> Hidden:
        # Blocks double sizes step by step, so every map must halve evenly; zero is the mean.
        padded = pad_to_multiple(image, 32)
        maps = self.encoder(padded)[-4:]
        hidden: Hidden = self.decoder(maps if self.neck is None else self.neck(maps), padded.shape[-2:])
        return hidden

    def _logits(self, head: nn.Module, hidden: Hidden, size: Sequence[int]) -> Tensor:
        height, width = size
        logits: Tensor = head(hidden, [ceil_div(side, 32) * 32 for side in size])
        return logits[..., :height, :width]
