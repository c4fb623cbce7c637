"""What benchmarks of whole scenes measure on: a made scene with detail at every scale, untrained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import Tensor, nn

from geodistill.nn.output import SegmentationOutput
from geodistill.raster import Window
from geodistill.segmenter import NETWORKS, Segmenter
from geodistill.spec import Legend, Spec


class FastNetwork(nn.Module):
    """Three convolutions at an eighth of the size: nearly all the time is what surrounds the network."""

    def __init__(self, channels: int, classes: int, *, auxiliary: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 24, 8, stride=8)
        self.body = nn.Conv2d(24, 48, 3, padding=1)
        self.head = nn.Conv2d(48, classes, 1)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        hidden = torch.relu(self.body(torch.relu(self.stem(image))))
        return SegmentationOutput(nn.functional.interpolate(self.head(hidden), scale_factor=8.0, mode="bilinear"))


def write_scene(path: Path, height: int, width: int) -> None:
    """Write an RGB scene with detail at every scale, tiled and compressed, a strip at a time."""
    rng = np.random.default_rng(0)
    coarse = [rng.normal(0, 30, (cells, cells, 3)).astype(np.float32) for cells in (8, 32, 128, 512)]
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "compress": "deflate"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "predictor": 2, "interleave": "pixel", "zlevel": 1}
    place = {"crs": "EPSG:32636", "transform": from_origin(500_000, 40_000, 0.3, 0.3)}
    with rasterio.open(path, "w", **profile, **layout, **place) as file:
        for top in range(0, height, 512):
            rows = min(512, height - top)
            pixels = rng.normal(120, 4, (rows, width, 3)).astype(np.float32)
            for grid in coarse:
                cells = len(grid)
                first = int(top / 4096 * cells) % cells
                part = np.roll(grid, -first, 0)[: max(cells * 512 // 4096, 2)]
                pixels += cv2.resize(part, (width, rows), interpolation=cv2.INTER_CUBIC)
            where = Window(top, 0, rows, width).to_rasterio()
            file.write(pixels.clip(1, 255).astype(np.uint8).transpose(2, 0, 1), window=where)


def untrained(name: str, arguments: dict[str, Any], tile: int, classes: int) -> Segmenter:
    """Return a Segmenter with fresh weights, as fast as a trained one."""
    torch.manual_seed(0)
    legend = Legend(tuple(f"class {i}" for i in range(classes)))
    spec = Spec(legend, ("red", "green", "blue"), (120.0,) * 3, (40.0,) * 3)
    return Segmenter(name, arguments, spec, tile, {})


def make_segmenter(model: str, tile: int, classes: int) -> Segmenter:
    """Return the Segmenter in a directory, ``fast``, or an untrained network on a named encoder."""
    if Path(model).is_dir():
        segmenter = Segmenter.load(model)
        segmenter.tile = tile
        return segmenter
    if model == "fast":
        NETWORKS["fast"] = f"{__name__}:FastNetwork"
        return untrained("fast", {}, tile, classes)
    architecture = "segformer" if model.startswith("mit") else "unet"
    return untrained("supervised", {"architecture": architecture, "encoder": model}, tile, classes)
