"""Crops per second: random windows from a large tiled GeoTIFF against reading the whole image for each crop.

Run ``python benchmarks/loader.py``; it makes its own file and ends with status 1 where the ratio is below 10.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from geodistill.data.dataset import RandomCrops
from geodistill.data.manifest import Manifest, Row
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

EXPECTED_RATIO = 10


def write_scene(folder: Path, size: int, channels: int) -> Manifest:
    """Write a ``size`` x ``size`` image and mask, tiled and compressed, and give their manifest."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "height": size,
        "width": size,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "crs": "EPSG:32636",
        "transform": from_origin(500_000, 40_000, 0.3, 0.3),
    }
    paths = folder / "image.tif", folder / "mask.tif"
    with (
        rasterio.open(paths[0], "w", count=channels, **profile) as image,
        rasterio.open(paths[1], "w", count=1, **profile) as mask,
    ):
        for top in range(0, size, 256):
            rows = min(256, size - top)
            window = Window(top, 0, rows, size).to_rasterio()
            image.write(rng.integers(0, 255, (channels, rows, size), dtype=np.uint8), window=window)
            coarse = rng.integers(0, 6, (1, -(-rows // 32), -(-size // 32)), dtype=np.uint8)
            mask.write(coarse.repeat(32, 1).repeat(32, 2)[:, :rows, :size], window=window)
    row = Row(*paths, "train", Window(0, 0, size, size))
    return Manifest((row,), tuple(f"band{i + 1}" for i in range(channels)), Legend(tuple("abcdef")))


def per_second(action: Callable[[int], object], seconds: float) -> float:
    """Repeat an action for about ``seconds`` and give its rate."""
    action(0)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += 1
        action(done)
    return done / (time.perf_counter() - start)


def main() -> int:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=6000, help="side of the scene in pixels")
    parser.add_argument("--crop", type=int, default=256, help="side of a crop in pixels")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each of the two measurements")
    options = parser.parse_args()
    # As the loader's workers have it: the decoded scene must not simply lie in GDAL's cache.
    os.environ["GDAL_CACHEMAX"] = "64"
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_scene(Path(folder), options.size, options.channels)
        crops = RandomCrops(manifest, "train", options.crop)
        rng = np.random.default_rng(1)

        def whole(_: int) -> object:
            row = manifest.entries[0]
            top, left = rng.integers(0, options.size - options.crop, 2)
            window = Window(int(top), int(left), options.crop, options.crop)
            with Raster(row.image) as image, Raster(row.mask or "") as mask:
                return image.read()[0][(..., *window.slices)], mask.read_labels()[0][(..., *window.slices)]

        windowed = per_second(crops.__getitem__, options.seconds)
        slow = per_second(whole, options.seconds)
    ratio = windowed / slow
    print(f"windowed {windowed:.1f} crops/s, whole image {slow:.2f} crops/s, ratio {ratio:.1f}")
    return 0 if ratio >= EXPECTED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
