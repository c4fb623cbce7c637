"""Wall time of `predict` against the bare forward on the same windows already in memory, alternating in one run.

Run ``python benchmarks/scene.py``; it makes its own scene and ends with status 1 where the median ratio passes 1.25.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from geodistill.methods.supervised import SupervisedNetwork
from geodistill.raster import Raster
from geodistill.scene.predict import load_on, predict
from geodistill.scene.windows import Area, window_starts
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec

MOST = 1.25


def write_scene(path: Path, size: int) -> None:
    """Write a ``size`` x ``size`` RGB scene with detail at every scale, tiled and compressed."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((size, size, 3), np.float32)
    for cells in (8, 32, 128, 512):
        coarse = rng.normal(0, 30, (cells, cells, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    pixels += rng.normal(120, 4, pixels.shape).astype(np.float32)
    profile = {"driver": "GTiff", "height": size, "width": size, "count": 3, "dtype": "uint8", "compress": "deflate"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "predictor": 2, "interleave": "pixel"}
    place = {"crs": "EPSG:32636", "transform": from_origin(500_000, 40_000, 0.3, 0.3)}
    with rasterio.open(path, "w", **profile, **layout, **place) as file:
        file.write(pixels.clip(1, 255).astype(np.uint8).transpose(2, 0, 1))


def make_segmenter(encoder: str, tile: int, classes: int) -> Segmenter:
    """Give an untrained U-Net: its maps are as fast as a trained one's."""
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "encoder": encoder}
    legend = Legend(tuple(f"class {i}" for i in range(classes)))
    spec = Spec(legend, ("red", "green", "blue"), (120.0,) * 3, (40.0,) * 3)
    network = SupervisedNetwork(3, classes, architecture="unet", encoder=encoder)
    return Segmenter.from_network("supervised", arguments, spec, network.state_dict(), tile, {})


def windows_of(path: Path, tile: int, overlap: float) -> torch.Tensor:
    """Read every window of the scene: ``(N, 3, tile, tile)`` uint8, as float32 it would not fit for large scenes."""
    with Raster(path) as raster:
        grid = raster.grid
        image, _ = Area.whole(raster).read_rows(0, max(grid.height, tile), max(grid.width, tile))
    pixels = image.astype(np.uint8)
    tops, lefts = window_starts(grid.height, tile, overlap), window_starts(grid.width, tile, overlap)
    return torch.from_numpy(np.stack([pixels[:, t : t + tile, i : i + tile] for t in tops for i in lefts]))


@torch.inference_mode()
def bare_forward(segmenter: Segmenter, windows: torch.Tensor, batch_size: int) -> float:
    """Give the seconds of the network alone on all windows."""
    seconds = 0.0
    for first in range(0, len(windows), batch_size):
        batch = windows[first : first + batch_size].float().contiguous(memory_format=torch.channels_last)
        start = time.perf_counter()
        segmenter(batch)
        seconds += time.perf_counter() - start
    return seconds


def main() -> int:
    """Measure and print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="side of the scene in pixels")
    parser.add_argument("--tile", type=int, default=512, help="side of a window in pixels")
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        scene, out = Path(folder) / "scene.tif", Path(folder) / "map.tif"
        write_scene(scene, options.size)
        segmenter = load_on(make_segmenter(options.encoder, options.tile, options.classes), "cpu")
        windows = windows_of(scene, options.tile, options.overlap)
        bare_forward(segmenter, windows[: options.batch_size], options.batch_size)
        for _ in range(options.repeats):
            bare = bare_forward(segmenter, windows, options.batch_size)
            start = time.perf_counter()
            predict(segmenter, [scene], out, overlap=options.overlap, batch_size=options.batch_size, device="cpu")
            whole = time.perf_counter() - start
            ratios.append(whole / bare)
            print(f"bare forward {bare:.2f} s, predict {whole:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    print(
        f"{options.encoder} at {options.tile}, {len(windows)} windows, {torch.get_num_threads()} threads: {ratio:.3f}"
    )
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
