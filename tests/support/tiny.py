"""Networks small enough to compute by hand, Segmenters of them, and scenes of any height in a few KB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import Tensor, nn

from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import NETWORKS, Segmenter
from geodistill.spec import Legend, Spec


class BandNetwork(nn.Module):
    """The class of a pixel is its brightest band: a 1 x 1 convolution that looks at no neighbour."""

    def __init__(self, channels: int, classes: int, *, gain: float = 0.05, auxiliary: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, classes, 1)
        with torch.no_grad():
            self.convolution.weight.copy_(gain * torch.eye(classes, channels)[..., None, None])
            self.convolution.bias.zero_()
        self.windows = 0

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        self.windows += image.shape[0]
        return SegmentationOutput(self.convolution(image))


class ContextNetwork(nn.Module):
    """Random 5 x 5 convolutions and the window's mean: results near a window's edge differ from its middle's."""

    def __init__(self, channels: int, classes: int, *, auxiliary: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 8, 5, padding=2)
        self.second = nn.Conv2d(8, classes, 5, padding=2)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        hidden = torch.relu(self.first(image))
        return SegmentationOutput(4 * self.second(hidden - hidden.mean((2, 3), keepdim=True)))


def tiny_spec(channels: int = 3, classes: int = 3, std: float = 1.0) -> Spec:
    """Classes ``c0``, ``c1`` ... and bands ``b0``, ``b1`` ..., with mean 0."""
    return Spec(
        Legend(tuple(f"c{i}" for i in range(classes))),
        tuple(f"b{i}" for i in range(channels)),
        std=(std,) * channels,
    )


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Let Segmenters hold the networks of this module, as ``band`` and ``context``, and the encoder ``two_levels``."""
    # Not at the top: workers that are started anew need the networks alone, and timm takes as long as torch.
    from geodistill.nn.bodies import OWN_FAMILIES, OWN_OPTIONS

    own = {"band": "tiny:BandNetwork", "context": "tiny:ContextNetwork"}
    encoder = patch.dict(OWN_FAMILIES, two_levels="two_levels:TwoLevels"), patch.dict(OWN_OPTIONS, two_levels=())
    with patch.dict(NETWORKS, own), encoder[0], encoder[1]:
        yield


def tiny_segmenter(name: str = "band", channels: int = 3, classes: int = 3, tile: int = 16) -> Segmenter:
    """Return a Segmenter of ``band`` or ``context``; call it inside `tiny_networks`."""
    spec = tiny_spec(channels, classes, std=1.0 if name == "band" else 60.0)
    return Segmenter(name, {}, spec, tile, {"scores": {}}).eval()


def brightest(pixels: np.ndarray) -> np.ndarray:
    """What the band network gives for ``(C, H, W)``: ``(H, W)``."""
    return pixels.argmax(0).astype(np.uint8)


def sparse_raster(path: Path, height: int, width: int) -> Path:
    """Write a three-band raster whose blocks are not stored: a file of a few KB for a scene of any height."""
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": height, "width": width}
    place = {"crs": "EPSG:32636", "transform": from_origin(500_000, 4_000_000, 0.5, 0.5)}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    with rasterio.open(path, "w", **profile, **place, **layout):
        pass
    return path
