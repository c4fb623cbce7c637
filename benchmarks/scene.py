"""Wall time and memory of `predict` against the bare forward on the same windows already in memory.

Run ``python benchmarks/scene.py``. It makes its own scene and alternates the two in one run; a second backend, such
as ``--backend openvino``, is compared with its own forward. ``--model fast`` is a network of some milliseconds a
window, beside which everything around the network shows. ``--heights`` measures the peak memory of rasters of one
width, each in a process of its own. Ends with status 1 where the median ratio passes ``--most``.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import Tensor, nn

from geodistill.backends.run import open_backend
from geodistill.methods.supervised import SupervisedNetwork
from geodistill.nn.output import SegmentationOutput
from geodistill.raster import Raster, Window
from geodistill.scene.network import as_network, load_on
from geodistill.scene.options import Options
from geodistill.scene.predict import predict
from geodistill.scene.stream import Settings
from geodistill.scene.windows import Area, Plan
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


def make_segmenter(model: str, tile: int, classes: int) -> Segmenter:
    """Give an untrained network: its maps are as fast as a trained one's."""
    torch.manual_seed(0)
    legend = Legend(tuple(f"class {i}" for i in range(classes)))
    spec = Spec(legend, ("red", "green", "blue"), (120.0,) * 3, (40.0,) * 3)
    if model == "fast":
        NETWORKS["fast"] = FastNetwork
        return Segmenter("fast", {}, spec, tile, {})
    architecture = "segformer" if model.startswith("mit") else "unet"
    arguments = {"architecture": architecture, "encoder": model}
    network = SupervisedNetwork(3, classes, architecture=architecture, encoder=model)
    return Segmenter.from_network("supervised", arguments, spec, network.state_dict(), tile, {})


def bare_forward(forward: Callable[[Tensor], Tensor], path: Path, plan: Plan, batch: int) -> float:
    """Give the seconds of the network alone on all windows; a row of windows is in memory at a time."""
    seconds = 0.0
    with Raster(path) as raster, torch.inference_mode():
        area = Area.whole(raster)
        for top in plan.tops:
            rows, _ = area.read(Window(top, 0, plan.size, plan.lefts[-1] + plan.size))
            windows = [torch.from_numpy(rows[:, :, left : left + plan.size].astype(np.float32)) for left in plan.lefts]
            batches = [torch.stack(windows[i : i + batch]) for i in range(0, len(windows), batch)]
            start = time.perf_counter()
            for images in batches:
                forward(images)
            seconds += time.perf_counter() - start
    return seconds


def measure(options: argparse.Namespace, folder: Path) -> float:
    """Alternate the bare forward and `predict`; give the median ratio."""
    scene, out = folder / "scene.tif", folder / "map.tif"
    write_scene(scene, options.size, options.width or options.size)
    segmenter = load_on(make_segmenter(options.model, options.tile, options.classes), "cpu")
    precision = options.precision
    forward: Callable[[Tensor], Tensor] = as_network(segmenter).forward
    if options.backend != "torch" or precision != "fp32":
        forward = open_backend(
            options.backend, segmenter, device="cpu", precision=precision, size=options.tile, batch=options.batch
        )
    plan = Plan.of(options.size, options.width or options.size, options.tile, options.overlap)
    few = Plan.of(options.tile, options.tile * 4, options.tile, options.overlap)
    bare_forward(forward, scene, few, options.batch)
    settings = Settings(overlap=options.overlap)
    how = Options(settings, batch=options.batch, device="cpu", backend=options.backend, precision=precision)
    ratios = []
    for _ in range(options.repeats):
        bare = bare_forward(forward, scene, plan, options.batch)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        predict(segmenter, [scene], out, how)
        whole = time.perf_counter() - start
        risen = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        ratios.append(whole / bare)
        print(f"bare {bare:.2f} s, predict {whole:.2f} s, ratio {ratios[-1]:.3f}, peak +{risen:.0f} MiB", flush=True)
    count = len(plan.tops) * len(plan.lefts)
    print(
        f"{options.model} at {options.tile}, {options.backend} {precision}, {count} windows, "
        f"{torch.get_num_threads()} threads: {statistics.median(ratios):.3f}"
    )
    return statistics.median(ratios)


def peaks(options: argparse.Namespace, folder: Path) -> None:
    """Print the peak memory of rasters of one width and several heights."""
    for height in options.heights:
        scene = folder / f"{height}.tif"
        profile = {"driver": "GTiff", "height": height, "width": options.width or 2048, "count": 3, "dtype": "uint8"}
        with rasterio.open(scene, "w", **profile, tiled=True, sparse_ok=True):
            pass
        command = [sys.executable, __file__, "--peak-of", str(scene), "--model", options.model]
        command += ["--tile", str(options.tile), "--classes", str(options.classes), "--batch", str(options.batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"{height:>7} rows: peak {done.stdout.split()[-1]} MiB", flush=True)


def peak_of(options: argparse.Namespace) -> None:
    """Map one raster and print the peak memory of this process."""
    segmenter = make_segmenter(options.model, options.tile, options.classes)
    with tempfile.TemporaryDirectory() as folder:
        how = Options(batch=options.batch, device="cpu", backend="torch")
        predict(segmenter, [options.peak_of], Path(folder) / "map.tif", how)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="rows of the scene")
    parser.add_argument("--width", type=int, help="columns of the scene, by default as many as rows")
    parser.add_argument("--tile", type=int, default=512, help="side of a window in pixels")
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--model", default="mit_b0", help="an encoder, or fast")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=float, default=1.25, help="the ratio that is refused")
    parser.add_argument("--heights", type=int, nargs="+", help="measure peak memory of these heights instead")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        peak_of(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if options.heights:
            peaks(options, Path(folder))
            return 0
        return 0 if measure(options, Path(folder)) <= options.most else 1


if __name__ == "__main__":
    sys.exit(main())
