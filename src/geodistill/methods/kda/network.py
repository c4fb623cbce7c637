"""KDA's student: any encoder, and the DCF decoder or one of those that Table IV compares it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from geodistill.errors import UnknownNameError
from geodistill.methods.kda.decoder import DcfDecoder, Project, Upsample
from geodistill.nn.decoders import MultiLevelNeck, UNetDecoder, UPerHead, resize
from geodistill.nn.encoders import build_encoder, wants_output_norms
from geodistill.nn.heads import HamHead, SegFormerHead
from geodistill.nn.output import SegmentationOutput

Decoder = Literal["dcf", "unet", "segformer", "segnext", "upernet"]

DECODER_WIDTHS: dict[str, int] = {"dcf": 128, "unet": 256, "segformer": 256, "segnext": 256, "upernet": 512}
"""Width of each decoder where the recipe gives none: DCF's and SegFormer's are those of the paper's Table IV."""

LEVELS = 4
"""Maps that a decoder reads: an encoder's last four."""


@dataclass(frozen=True)
class NetworkConfig:
    """The student.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, such as the ``encoder`` that
            phase 1 leaves, or a Segmenter directory; random where not given.
        decoder: ``dcf``, or one of the decoders of the paper's Table IV.
        decoder_channels: Width of the decoder; `DECODER_WIDTHS` where not given.
        project: How DCF brings the maps to one width, see `DcfDecoder`.
        upsample: How DCF enlarges them.
    """

    encoder: str = "pvt_kda"
    encoder_weights: str | None = None
    decoder: Decoder = "dcf"
    decoder_channels: int | None = None
    project: Project = "conv1x1_gelu"
    upsample: Upsample = "dysample"


class KdaNetwork(nn.Module):
    """An encoder and a decoder on its last four maps. Its training form is also its inference form.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        encoder: Encoder's name.
        encoder_weights: As `build_encoder` takes them.
        decoder: See `NetworkConfig`, as for the arguments below.
        decoder_channels: Width of the decoder.
        project: How DCF brings the maps to one width.
        upsample: How DCF enlarges them.
        auxiliary: Accepted for the common form; there are no auxiliary parts.

    Raises:
        RecipeError: The decoder cannot read this encoder's maps.
        UnknownNameError: No such decoder.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        encoder: str = "pvt_kda",
        encoder_weights: str | None = None,
        decoder: Decoder = "dcf",
        decoder_channels: int | None = None,
        project: Project = "conv1x1_gelu",
        upsample: Upsample = "dysample",
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if decoder not in get_args(Decoder):
            raise UnknownNameError("network.decoder", decoder, get_args(Decoder))
        norms = wants_output_norms(encoder)
        self.encoder = build_encoder(encoder, channels, encoder_weights, output_norms=norms)
        maps, strides = self.encoder.channels[-LEVELS:], self.encoder.strides[-LEVELS:]
        self.neck: MultiLevelNeck | None = None
        if self.encoder.isotropic:
            scales = [2.0 ** (len(maps) - 2 - level) for level in range(len(maps))]
            self.neck = MultiLevelNeck(maps, maps[-1], scales)
            strides = tuple(4 << level for level in range(len(maps)))
        width = decoder_channels or DECODER_WIDTHS[decoder]
        self.decoder: nn.Module
        if decoder == "dcf":
            self.decoder = DcfDecoder(maps, strides, classes, width, project, upsample)
        elif decoder == "unet":
            self.decoder = UNetDecoder(maps, strides, classes, width)
        else:
            kind = {"segformer": SegFormerHead, "segnext": HamHead, "upernet": UPerHead}[decoder]
            self.decoder = kind(maps, classes, width)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        size = image.shape[-2:]
        maps: Sequence[Tensor] = self.encoder(image)[-LEVELS:]
        if self.neck is not None:
            maps = self._pyramid(maps, size)
        if isinstance(self.decoder, DcfDecoder | UNetDecoder):
            return SegmentationOutput(self.decoder(maps, size))
        return SegmentationOutput(resize(self.decoder(maps), size))

    def _pyramid(self, maps: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        """Turn maps of one size into the sizes that strides of 4, 8, 16 and 32 would have."""
        assert self.neck is not None
        pyramid = self.neck(maps)
        return [resize(level, [-(-side // (4 << depth)) for side in size]) for depth, level in enumerate(pyramid)]
