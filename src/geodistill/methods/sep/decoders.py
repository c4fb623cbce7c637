"""The segmentors' decoders: an encoder's maps in, what every head reads out; and the heads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from geodistill.nn.decoders import UPerFusion, resize

Hidden = tuple[Tensor, ...]
"""What a decoder gives: tensors whose first dimension is the batch, so that each set's part can be taken out."""


@dataclass
class Queries:
    """What a set's head makes of Mask2Former's queries, layer by layer.

    Attributes:
        classes: ``(B, Q, K + 1)`` logits; the last is "no object".
        masks: ``(B, Q, h, w)`` logits.
    """

    classes: list[Tensor]
    masks: list[Tensor]


class Head(nn.Module):
    """What a set has of its own."""

    @abstractmethod
    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """What the decoder gives of an image of ``size`` -> ``(B, K, H, W)`` logits."""

    def queries(self, hidden: Hidden) -> Queries | None:
        """Give what losses on queries are taken of; ``None`` where pixels are classified."""
        return None


class Decoder(nn.Module):
    """The shared part behind the encoder."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Hidden:
        """Maps ``(B, Ci, Hi, Wi)`` at strides 4, 8, 16 and 32 of an image of ``size`` -> what the heads read."""

    @abstractmethod
    def make_head(self, classes: int) -> Head:
        """Make the head of a set."""


class UNetBlocks(Decoder):
    """U-Net's decoder as SAMRS has it: four blocks from stride 32 to stride 2, the last without a skip connection.

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

    def make_head(self, classes: int) -> Head:
        """Make a 3x3 convolution on the map brought to the image's size; no ReLU, which would cut logits off."""
        return UNetHead(self.width, classes)


class UNetHead(Head):
    """Bilinear enlargement and a 3x3 convolution."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """``(B, width, h, w)`` -> ``(B, K, H, W)`` logits."""
        logits: Tensor = self.classifier(resize(hidden[0], size))
        return logits


class UPerBlocks(Decoder):
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

    def make_head(self, classes: int) -> Head:
        """Make a 1x1 convolution behind dropout."""
        return UPerClassifier(self.width, classes)


class UPerClassifier(Head):
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
