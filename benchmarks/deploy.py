"""Images per second of one model by every way to run it, alternating in one run, as ratios to torch eager.

Run ``python benchmarks/deploy.py`` for an untrained SegFormer on MiT-B0, or name a Segmenter with ``--model``. The
share of pixels whose class differs from torch's means something for a trained model, on an ``--image`` of its kind.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from geodistill.backends.backend import available, open_backend, open_graph, precisions
from geodistill.backends.graph import example, to_onnx
from geodistill.exports.int8 import quantise_graph
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from made_scene import untrained

Run = Callable[[Tensor], Tensor]


def read_images(path: Path | None, segmenter: Segmenter, count: int, size: int) -> Tensor:
    """Return ``(B, C, S, S)``: windows spread over a raster, or noise."""
    if path is None:
        return example(segmenter.spec, (count, size, size))
    with Raster(path) as raster:
        rows, cols = raster.grid.height - size, raster.grid.width - size
        places = [(rows * (2 * i + 1) // (2 * count), cols * (2 * i + 1) // (2 * count)) for i in range(count)]
        windows = [torch.from_numpy(raster.read(Window(row, col, size, size))[0]).float() for row, col in places]
    return torch.stack(windows)


def open_all(segmenter: Segmenter, images: Tensor, folder: Path, compiled: bool) -> dict[str, Run]:
    """Open every way to run the model that is installed, torch eager first."""
    batch, size = len(images), images.shape[-1]
    runs: dict[str, Run] = {"torch eager": open_backend("torch", segmenter, device="cpu", size=size, batch=batch)}
    if compiled:
        runs["torch compiled"] = open_backend("torch", segmenter, device="cpu", size=size, batch=batch, compile=True)
    graph, integers = folder / "model.onnx", folder / "int8.onnx"
    to_onnx(segmenter, graph, size=size, batch=1)
    quantise_graph(graph, integers, (image.numpy() for image in images))
    for name in available()[1:]:
        for precision in reversed(precisions(name, "cpu")):
            runs[f"{name} {precision}"] = open_graph(name, graph, "cpu", precision, batch)
        runs[f"{name} int8"] = open_graph(name, integers, "cpu", "fp32", batch)
    return runs


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="Segmenter directory; by default an untrained network")
    parser.add_argument("--architecture", default="segformer")
    parser.add_argument("--encoder", default="mit_b0")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image", type=Path, help="raster to take the images from")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave torch compiled out, which takes minutes")
    options = parser.parse_args()
    network = {"architecture": options.architecture, "encoder": options.encoder}
    if options.model:
        segmenter = Segmenter.load(options.model)
    else:
        segmenter = untrained("supervised", network, options.size, options.classes)
    segmenter = segmenter.to(memory_format=torch.channels_last)
    images = read_images(options.image, segmenter, options.batch, options.size)
    with tempfile.TemporaryDirectory() as folder:
        runs = open_all(segmenter, images, Path(folder), not options.no_compile)
        classes = {name: run(images).argmax(1) for name, run in runs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run(images)
                seconds[name].append(time.perf_counter() - start)
    print(f"{options.size} x {options.size}, {options.batch} at once, {torch.get_num_threads()} threads")
    print(f"{'':<16}images/s   ratio  other class")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["torch eager"], times, strict=True))
        changed = float((classes[name] != classes["torch eager"]).float().mean())
        print(f"{name:<16}{options.batch / statistics.median(times):>8.2f}{ratio:>8.2f}{100 * changed:>12.3f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
