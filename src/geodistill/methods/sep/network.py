"""The SEP network: one encoder and one decoder for all sets, and a head for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.methods.sep.decoders import Decoder, Head, Hidden, Queries, UNetBlocks, UPerBlocks
from geodistill.nn.decoders import MultiLevelNeck
from geodistill.nn.encoders import build_encoder, wants_output_norms
from geodistill.nn.output import SegmentationOutput

Architecture = Literal["unet", "upernet", "mask2former"]


def _mask2former(channels: Sequence[int], width: int | None) -> Decoder:
    from geodistill.methods.sep.mask2former import MaskBlocks  # transformers takes seconds to import

    return MaskBlocks(channels, width)


DECODERS: dict[str, Callable[[Sequence[int], int | None], Decoder]] = {
    "unet": UNetBlocks,
    "upernet": UPerBlocks,
    "mask2former": _mask2former,
}
_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class NetworkConfig:
    """The network.

    Attributes:
        architecture: The segmentor.
        encoder: Any encoder's name with maps at strides 4, 8, 16 and 32, or a plain vision transformer's.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory;
            random where not given.
        decoder_channels: Width of the decoder; SAMRS's where not given.
        pass_per_set: Run each set's part of a batch through the network by itself, as the released code does: a batch
            norm then sees one set at a time in training, and their mixture when the network is used.
    """

    architecture: Architecture = "unet"
    encoder: str = "resnet50"
    encoder_weights: str | None = None
    decoder_channels: int | None = None
    pass_per_set: bool = False


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

    With one head it is an ordinary segmenter. With several, and images that are of no set, it gives every set's
    classes, each set's logits as logarithms of its own softmax: the largest is the class that its set is surest of.

    Args:
        channels: Bands of the image.
        classes: Number of classes, of all sets together.
        architecture: The segmentor.
        encoder: Encoder's name.
        encoder_weights: As `build_encoder` takes them.
        decoder_channels: Width of the decoder.
        sets: Classes of each set by its name; one head without a name where not given.
        pass_per_set: See `NetworkConfig`.
        auxiliary: Accepted for the common form; there are no auxiliary parts.

    Raises:
        RecipeError: The encoder's maps do not do.
        ArtifactError: The sets' classes do not add up.
        UnknownNameError: Unknown architecture or encoder.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        architecture: Architecture = "unet",
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        decoder_channels: int | None = None,
        sets: Mapping[str, int] | None = None,
        pass_per_set: bool = False,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if architecture not in DECODERS:
            raise UnknownNameError("architecture", architecture, DECODERS)
        self.sets = dict(sets or {})
        if self.sets and sum(self.sets.values()) != classes:
            raise ArtifactError(f"sets of {self.sets} classes for a network of {classes}", "classes that add up")
        self.pass_per_set = pass_per_set
        self.encoder = build_encoder(encoder, channels, encoder_weights, output_norms=wants_output_norms(encoder))
        maps, strides = self.encoder.channels[-4:], self.encoder.strides[-4:]
        self.neck: MultiLevelNeck | None = None
        if self.encoder.isotropic and len(maps) == 4:
            self.neck = MultiLevelNeck(maps, maps[-1])
        elif strides != _STRIDES:
            raise RecipeError(
                f"{architecture} on {self.encoder.name} with strides {list(strides)}",
                f"an encoder with strides {list(_STRIDES)}, or a plain vision transformer of four blocks or more",
            )
        self.decoder = DECODERS[architecture](maps, decoder_channels)
        self.heads = nn.ModuleList(self.decoder.make_head(count) for count in self.sets.values() or [classes])

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
        held, counts = [0], [len(image)]
        if sets is not None:
            held, counts = (values.tolist() for values in torch.unique_consecutive(sets, return_counts=True))
        if len(set(held)) < len(held):
            raise RecipeError("a batch whose sets take turns", "the images of a set together")
        if self.pass_per_set:
            parts = [self._hidden(part) for part in torch.split(image, counts)]
        else:
            parts = list(zip(*(torch.split(tensor, counts) for tensor in self._hidden(image)), strict=True))
        output = SepOutput(image)
        names = list(self.sets) or [""]
        for position, part in zip(held, parts, strict=True):
            head = self.heads[position]
            assert isinstance(head, Head)
            output.by_set[names[position]] = self._logits(head, part, size)
            queries = head.queries(part)
            if queries is not None:
                output.queries[names[position]] = queries
        output.logits = next(iter(output.by_set.values()))
        return output

    def _hidden(self, image: Tensor) -> Hidden:
        height, width = image.shape[-2:]
        # Blocks double sizes step by step, so every map must halve evenly; zero is the mean.
        padded = F.pad(image, (0, -width % 32, 0, -height % 32))
        maps = self.encoder(padded)[-4:]
        hidden: Hidden = self.decoder(maps if self.neck is None else self.neck(maps), padded.shape[-2:])
        return hidden

    def _logits(self, head: nn.Module, hidden: Hidden, size: Sequence[int]) -> Tensor:
        height, width = size
        logits: Tensor = head(hidden, (height + -height % 32, width + -width % 32))
        return logits[..., :height, :width]
