"""KDA's student: any encoder, and the DCF decoder (Eq. 1) or one of those that Table IV compares it with.

DCF, dynamic cross-layer fusion, is built on a learnt upsampler that moves its sampling points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError, check_choices
from geodistill.lazy import load
from geodistill.nn.decoders import checked_scale, pyramid_of, rescale, resize
from geodistill.nn.encoders import build_encoder, wants_output_norms
from geodistill.nn.output import SegmentationOutput

Project = Literal["conv1x1_gelu", "conv1x1_bn_gelu", "conv3x3_bn_relu"]
Attention = Literal["per_scale", "pooled"]
Upsample = Literal["dysample", "bilinear"]

SQUEEZE = 16
"""Factor by which the channel attention narrows its hidden layer."""


class DySample(nn.Module):
    """Learned upsampling that moves the sampling points (Liu et al. 2023, the static-scope "lp" form).

    A 1x1 convolution gives each output pixel an offset, a quarter of whose value moves the point of the input map
    that bilinear interpolation reads; the channels share it in ``groups`` groups. It begins as bilinear
    interpolation.

    Args:
        channels: Channels of the map; a multiple of ``groups``.
        scale: Factor of height and width.
        groups: Groups of channels with offsets of their own.
    """

    start: Tensor

    def __init__(self, channels: int, scale: int, groups: int = 4) -> None:
        super().__init__()
        self.scale, self.groups = scale, groups
        self.offset = nn.Conv2d(channels, 2 * groups * scale**2, 1)
        nn.init.normal_(self.offset.weight, std=1e-3)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        # Where bilinear interpolation reads for each of the scale x scale pixels that one input pixel becomes.
        steps = (torch.arange(scale) - (scale - 1) / 2) / scale
        rows, cols = torch.meshgrid(steps, steps, indexing="ij")
        start = torch.stack([cols, rows]).reshape(2, 1, scale**2).repeat(1, groups, 1)
        self.register_buffer("start", start.reshape(1, -1, 1, 1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, scale * H, scale * W)``."""
        batch, channels, height, width = maps.shape
        # Places in float32: half precision could not tell the pixels of a wide map apart.
        moved = 0.25 * self.offset(maps).float() + self.start
        fine = F.pixel_shuffle(moved, self.scale)
        points = fine.view(batch, 2, self.groups, self.scale * height, self.scale * width)
        x = points[:, 0] + self._centres(width, maps).view(1, 1, 1, -1)
        y = points[:, 1] + self._centres(height, maps).view(1, 1, -1, 1)
        places = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1).flatten(0, 1)
        grouped = maps.float().reshape(batch * self.groups, channels // self.groups, height, width)
        sampled = F.grid_sample(grouped, places, mode="bilinear", padding_mode="border", align_corners=False)
        result: Tensor = sampled.view(batch, channels, self.scale * height, self.scale * width)
        return result.to(maps.dtype)

    def _centres(self, count: int, maps: Tensor) -> Tensor:
        """Centres of the input pixels that the output pixels of one side lie in, in input pixels."""
        return (torch.arange(count, device=maps.device, dtype=torch.float32) + 0.5).repeat_interleave(self.scale)


class ChannelAttention(nn.Module):
    """Squeeze and excitation of one scale, up to the sigmoid: global mean, two linear layers without bias.

    Args:
        width: Channels of the map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // SQUEEZE, 1)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.Sigmoid()
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C)`` in 0..1."""
        attention: Tensor = self.layers(maps.mean((2, 3)))
        return attention


class GlobalMean(nn.Module):
    """Global average pooling."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C)``."""
        return maps.mean((2, 3))


class DcfDecoder(nn.Module):
    """Dynamic cross-layer fusion (Eq. 1, Fig. 3b): scales weighted against each other, then added from coarse to fine.

        F' = CBR(F)    A = GSoftmax(GAP(F'))    F* = A . F'

    The figure's CBR are `projections`, GAP stands in `attentions`, UPM are `ups`; the first of these and the classifier
    stand for the UCM, of which the text says no more than that it gives the mask. Nor does the paper say what GSoftmax
    runs over; in the released code the scales compete for each channel.

    Args:
        channels: Channels of each map, finest first.
        strides: Stride of each map; each divides the next.
        classes: Number of classes.
        width: Channels inside; a multiple of 4.
        config: How it projects, enlarges and weighs the maps.

    Raises:
        RecipeError: The strides or the width do not do.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int, config: KdaNetworkConfig
    ) -> None:
        super().__init__()
        if width % 4 or any(coarse % fine for fine, coarse in pairwise(strides)):
            raise RecipeError(
                f"DCF of {width} channels on maps at strides {list(strides)}",
                "a multiple of 4 channels, and strides that divide each other",
            )
        self.projections = nn.ModuleList(_projection(c, width, config.project) for c in channels)
        per_scale = config.attention == "per_scale"
        self.attentions = nn.ModuleList(ChannelAttention(width) if per_scale else GlobalMean() for _ in channels)
        steps = [coarse // fine for fine, coarse in pairwise(strides)]
        self.ups = nn.ModuleList(_upsampler(width, step, config.upsample) for step in (strides[0], *steps))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """``(B, Ci, Hi, Wi)`` a level, finest first -> ``(B, K, *size)`` logits."""
        f_prime = [project(f) for project, f in zip(self.projections, maps, strict=True)]  # Eq. 1: F' = CBR(F)
        attended = [attend(f) for attend, f in zip(self.attentions, f_prime, strict=True)]
        a = torch.stack(attended).softmax(0)[..., None, None]  # Eq. 1: A = GSoftmax(GAP(F')), over the scales
        f_star = [f * a_i for f, a_i in zip(f_prime, a, strict=True)]  # Eq. 1: F* = A . F'
        fused = f_star[-1]
        for up, finer in zip(list(self.ups)[:0:-1], f_star[-2::-1], strict=True):
            fused = _cropped(up(fused), finer.shape[-2:]) + finer
        logits: Tensor = self.classifier(_cropped(self.ups[0](fused), size))
        return logits


def _projection(channels: int, width: int, kind: Project) -> nn.Module:
    if kind == "conv1x1_gelu":
        return nn.Identity() if channels == width else nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU())
    if kind == "conv1x1_bn_gelu":
        return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.GELU())
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


def _upsampler(width: int, scale: int, kind: Upsample) -> nn.Module:
    if scale == 1:
        return nn.Identity()
    return (
        DySample(width, scale)
        if kind == "dysample"
        else nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)
    )


def _cropped(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Leave out what an odd size made too much at the bottom and right."""
    return maps[..., : size[0], : size[1]]


Decoder = Literal["dcf", "unet", "segformer", "segnext", "upernet"]

DECODER_WIDTHS: dict[str, int] = {"dcf": 128, "unet": 64, "segformer": 256, "segnext": 128, "upernet": 128}
"""Width of each decoder where the recipe gives none: that of the paper's Table IV."""

_HEADS = {
    "unet": "geodistill.methods.kda.table4_decoders:KdaUNetHead",
    "segformer": "geodistill.methods.kda.table4_decoders:KdaSegFormerHead",
    "segnext": "geodistill.methods.kda.table4_decoders:KdaSegNeXtHead",
    "upernet": "geodistill.methods.kda.table4_decoders:KdaUperNetHead",
}

LEVELS = 4
"""Maps that a decoder reads: an encoder's last four."""


@dataclass(frozen=True)
class KdaNetworkConfig:
    """The student.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory, such as the ``encoder`` that
            phase 1 leaves, or a Segmenter directory; random where not given.
        decoder: ``dcf``, or one of the decoders of the paper's Table IV, see `geodistill.methods.kda.table4_decoders`.
        decoder_channels: Width of the decoder; `DECODER_WIDTHS` where not given.
        project: What brings the maps to DCF's width: ``conv1x1_gelu``, the released code's form that gives the
            published 0.27 M parameters, in which a map that has them already is taken as it is; its variant
            ``conv1x1_bn_gelu``; or the printed Eq. 1, ``conv3x3_bn_relu``, which cannot give 0.27 M.
        upsample: How DCF enlarges them: `DySample`, or bilinear interpolation; the paper names neither.
        attention: What DCF's GSoftmax is taken of: ``per_scale``, the released code's `ChannelAttention` of each scale,
            or ``pooled``, the means themselves, as Eq. 1 is printed.
        scale: Factor of the image's height and width before the encoder, and back for the logits: 0.4375 shows the
            network a 512 pixel patch at the released code's 224.
    """

    encoder: str = "pvt_kda"
    encoder_weights: str | None = None
    decoder: Decoder = "dcf"
    decoder_channels: int | None = None
    project: Project = "conv1x1_gelu"
    upsample: Upsample = "dysample"
    attention: Attention = "per_scale"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self, "network.")


class KdaNetwork(nn.Module):
    """An encoder and a decoder on its last four maps. Its training form is also its inference form.

    Args:
        channels: Bands of the image.
        classes: Number of classes.
        auxiliary: Accepted for the common form; there are no auxiliary parts.
        choices: Fields of `KdaNetworkConfig`.

    Raises:
        RecipeError: The decoder cannot read this encoder's maps, or the scale is not above 0.
        UnknownNameError: No such encoder or choice.
    """

    def __init__(self, channels: int, classes: int, *, auxiliary: bool = True, **choices: Any) -> None:
        super().__init__()
        config = KdaNetworkConfig(**choices)
        self.scale = checked_scale(config.scale)
        norms = wants_output_norms(config.encoder)
        self.encoder = build_encoder(config.encoder, channels, config.encoder_weights, output_norms=norms)
        maps, strides = list(self.encoder.channels[-LEVELS:]), list(self.encoder.strides[-LEVELS:])
        self.neck = None
        if self.encoder.isotropic:
            self.neck, maps, strides = pyramid_of(maps, strides)
        width = config.decoder_channels or DECODER_WIDTHS[config.decoder]
        self.decoder: nn.Module
        if config.decoder == "dcf":
            self.decoder = DcfDecoder(maps, strides, classes, width, config)
        else:
            self.decoder = load(_HEADS[config.decoder])(maps, classes, width)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        whole = image.shape[-2:]
        image = rescale(image, self.scale)
        size = image.shape[-2:]
        maps: Sequence[Tensor] = self.encoder(image)[-LEVELS:]
        if self.neck is not None:
            maps = self._pyramid(maps, size)
        return SegmentationOutput(resize(self.decoder(maps, size), whole))

    def _pyramid(self, maps: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        """Turn maps of one size into the sizes that strides of 4, 8, 16 and 32 would have."""
        assert self.neck is not None
        pyramid = self.neck(maps)
        return [resize(level, [-(-side // (4 << depth)) for side in size]) for depth, level in enumerate(pyramid)]
