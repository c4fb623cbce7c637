"""A small labelled data set, for a Segmenter that is right wherever a band is brightest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from factories import make_raster
from geodistill.data.manifest import Manifest, Row
from geodistill.raster import Window
from geodistill.spec import IGNORE_INDEX
from tiny import brightest, tiny_spec

SIZES = ((40, 50), (30, 20), (17, 64))


def fields(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """``(3, height, width)`` of patches, in each of which one band is brightest; the first rows have no data."""
    rng = np.random.default_rng(seed)
    band = rng.integers(0, 3, (-(-height // 8), -(-width // 8))).repeat(8, 0).repeat(8, 1)[:height, :width]
    pixels = rng.integers(1, 100, (3, height, width)) + 100 * (np.arange(3)[:, None, None] == band)
    pixels[:, :2] = 0
    return pixels.astype(np.uint8)


def make_scored_set(folder: Path) -> Manifest:
    """Three test images; in the masks of the second and third some labels are wrong, and some are ignored."""
    rows = []
    for i, (height, width) in enumerate(SIZES):
        pixels = fields(height, width, i)
        truth = brightest(pixels)
        truth[5:8, 4:9] = IGNORE_INDEX
        truth[10 : 10 + 3 * i, :15] = (truth[10 : 10 + 3 * i, :15] + 1) % 3
        image = make_raster(folder / "data" / f"image <{i}>.tif", pixels=pixels, nodata=0)
        mask = make_raster(folder / "data" / f"mask_{i}.tif", pixels=truth[None])
        rows.append(Row(image, mask, "test", Window(0, 0, height, width)))
    legend = tiny_spec().legend
    return replace(Manifest(tuple(rows), ("b0", "b1", "b2"), legend), path=folder / "manifest.parquet")
