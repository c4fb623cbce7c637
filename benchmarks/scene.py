"""Wall time and memory of `predict` against the bare forward on the same windows already in memory.

It makes its own scenes. Every part compares what it compares by turns in one run:

* ``--part ratio`` (the default): bare forward and `predict` at each of ``--sizes``, each in a process of its own. Ends
  with status 1 where a median ratio passes ``--most``. The command line lets its process keep the memory that networks
  free (`geodistill.memory`); the bare forward is timed in a plain process and in one that keeps it too.
  ``--backend openvino`` compares that backend with its own forward.
* ``--part around``: an 8192 x 8192 scene under a network of about 5 ms a window (``--model fast``), beside which
  everything around the network shows: bare forward, reading and writing alone, and `predict`, each in a process of its
  own, with seconds and the rise of its memory above what it held when it began.
* ``--part heights``: peak memory of rasters of one ``--width`` and several ``--heights``, each in a process of its own.
* ``--part backends``: `predict` with the backend and precision that ``auto`` takes against torch, what the choice
  costs, and the ratio of `predict` to the bare forward of that backend; torch is timed in a plain process, as any tool
  would run it, and all are processes of their own. Which precision keeps the classes is a matter
  of a trained model (``--model DIR``) on a scene of its kind (``--image``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor

from geodistill.backends.backend import open_backend
from geodistill.inference.checkpoint import PartFiles
from geodistill.inference.geotiff import MapInfo, write_map
from geodistill.inference.layers import Layer
from geodistill.inference.network import as_network, cache_bytes, load_on
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.prepare import prepare
from geodistill.inference.sliding import SceneRows
from geodistill.inference.strips import read_strips
from geodistill.inference.windows import Area, Part, WindowPlan
from geodistill.memory import keep_freed_memory
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from made_scene import make_segmenter, write_scene

Forward = Callable[[Tensor], Tensor]

BARE, KEPT, AROUND = "bare forward", "bare forward, memory kept", "reading, writing"
PREDICT, PLAIN, CHOOSE = "predict", "predict, memory not kept", "choosing"
"""What is timed in a process of its own."""


def bare_forward(forward: Forward, path: Path, plan: WindowPlan, batch: int) -> float:
    """Return the seconds of the network alone on all windows; a row of windows is in memory at a time."""
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


def read_and_write(path: Path, out: Path, plan: WindowPlan) -> float:
    """Return the seconds of reading a scene and writing a map of its size, as `predict` does, without any network."""
    start = time.perf_counter()
    layer, part = Layer("classes", 1, "uint8"), Part.whole(plan)
    with (
        tempfile.TemporaryDirectory(dir=out.parent) as folder,
        Raster(path) as raster,
        PartFiles(Path(folder), plan, part, (layer,)) as files,
    ):
        with (
            rasterio.Env(GDAL_CACHEMAX=cache_bytes(raster, plan.width)),
            closing(read_strips(Area.whole(raster), plan, part, 0)) as strips,
        ):
            for strip in strips:
                rows = min(plan.step_down(strip.row), plan.height - plan.tops[strip.row])
                valid = strip.valid[:rows, : plan.width]
                # Six steps of brightness, in regions as a map has them.
                classes = strip.image[:1, :rows, : plan.width] // 43
                files.append(SceneRows(strip.row, plan.tops[strip.row], {"classes": classes}, valid, 0, ()))
        legend = Legend(tuple(f"class {i}" for i in range(6)))
        write_map(out, layer, [files], MapInfo(raster.grid, legend, {}), Path(folder))
    return time.perf_counter() - start


def open_forward(segmenter: Segmenter, options: argparse.Namespace) -> Forward:
    """Return the bare forward of a backend."""
    if options.backend == "torch" and options.precision == "fp32":
        return as_network(segmenter).forward
    how = {"precision": options.precision, "size": options.tile, "batch": options.batch}
    return open_backend(options.backend, segmenter, device="cpu", **how)


def timed(segmenter: Segmenter, scene: Path, out: Path, how: PredictOptions) -> float:
    """Return the seconds of `predict`."""
    start = time.perf_counter()
    predict(segmenter, [scene], out, how)
    return time.perf_counter() - start


def ratio(options: argparse.Namespace, folder: Path) -> bool:
    """Compare the bare forward and `predict` at each size; tell whether every median ratio is small enough."""
    passed = True
    for size in options.sizes or [2048]:
        scene, plan = folder / f"{size}.tif", WindowPlan.of(size, size, options.tile, options.overlap)
        write_scene(scene, size, size)
        ratios = []
        for _ in range(options.repeats):
            bare, kept, whole = (in_process(options, way, scene)["seconds"] for way in (BARE, KEPT, PREDICT))
            ratios.append((whole / bare, whole / kept))
            print(
                f"{size:>6}: bare {bare:.2f} s, with memory kept {kept:.2f} s, predict {whole:.2f} s, "
                f"ratios {ratios[-1][0]:.3f} and {ratios[-1][1]:.3f}",
                flush=True,
            )
        middle = [statistics.median(ratio) for ratio in zip(*ratios, strict=True)]
        passed &= middle[0] <= options.most
        print(
            f"{size:>6}: {options.model} at {options.tile}, {options.backend} {options.precision}, "
            f"{len(plan.tops) * len(plan.lefts)} windows, {torch.get_num_threads()} threads: "
            f"{middle[0]:.3f}, with memory kept in both {middle[1]:.3f}",
            flush=True,
        )
    return passed


def in_process(options: argparse.Namespace, what: str, scene: Path) -> dict[str, Any]:
    """Do one thing in a process of its own; give its seconds, rise and peak of its memory in MiB, the choice."""
    command = [sys.executable, __file__, "--child", what, "--scene", str(scene), "--model", options.model]
    for name in ("tile", "classes", "batch", "overlap", "backend", "precision"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def child(options: argparse.Namespace) -> None:
    """Do what `in_process` asks for; all but the plain ways as in a process of the command line."""
    if options.child not in (BARE, PLAIN):
        keep_freed_memory()
    segmenter = load_on(make_segmenter(options.model, options.tile, options.classes), "cpu")
    with Raster(options.scene) as raster:
        plan = WindowPlan.of(raster.grid.height, raster.grid.width, options.tile, options.overlap)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        if options.backend != "auto":
            forward = open_forward(segmenter, options)
            forward(torch.zeros(options.batch, 3, options.tile, options.tile))
        out, before = Path(folder) / "map.tif", status("VmRSS")
        how = PredictOptions(
            overlap=options.overlap,
            batch=options.batch,
            device="cpu",
            backend=options.backend,
            precision=options.precision,
        )
        choice: dict[str, str] = {}

        def choose() -> float:
            start = time.perf_counter()
            with Raster(options.scene) as raster:
                ready = prepare(segmenter, how, Area.whole(raster), plan)
            choice.update(notes="; ".join(ready.notes), name=ready.backend, precision=ready.precision)
            return time.perf_counter() - start

        ways: dict[str, Callable[[], float]] = {
            BARE: lambda: bare_forward(forward, options.scene, plan, options.batch),
            KEPT: lambda: bare_forward(forward, options.scene, plan, options.batch),
            AROUND: lambda: read_and_write(options.scene, out, plan),
            PREDICT: lambda: timed(segmenter, options.scene, out, how),
            PLAIN: lambda: timed(segmenter, options.scene, out, how),
            CHOOSE: choose,
        }
        seconds = ways[options.child]()
    print(json.dumps({"seconds": seconds, "risen": status("VmHWM") - before, "peak": status("VmHWM")} | choice))


def status(key: str) -> float:
    """Return a figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def around(options: argparse.Namespace, folder: Path) -> bool:
    """Print the seconds and the memory of the bare forward, of reading and writing, and of `predict`."""
    size = (options.sizes or [8192])[0]
    write_scene(folder / "scene.tif", size, size)
    ways = (BARE, AROUND, PREDICT)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way in ways:
            runs[way].append(in_process(options, way, folder / "scene.tif"))
    count = len(WindowPlan.of(size, size, options.tile, options.overlap).tops) ** 2
    print(f"{size} x {size}, {count} windows, {torch.get_num_threads()} threads")
    for way, measured in runs.items():
        seconds = statistics.median(one["seconds"] for one in measured)
        each = f", {1000 * seconds / count:.1f} ms a window" if way == BARE else ""
        risen = max(one["risen"] for one in measured)
        print(f"{way:<18}{seconds:>7.2f} s   +{risen:.0f} MiB above its start{each}", flush=True)
    return True


def heights(options: argparse.Namespace, folder: Path) -> bool:
    """Print the peak memory of rasters of one width and several heights, whose files hold nothing."""
    first = None
    for height in options.heights:
        scene = folder / f"{height}.tif"
        profile = {"driver": "GTiff", "height": height, "width": options.width, "count": 3, "dtype": "uint8"}
        with rasterio.open(scene, "w", **profile, tiled=True, sparse_ok=True):
            pass
        measured = in_process(options, PREDICT, scene)
        first = first or measured
        share = measured["peak"] / first["peak"], measured["risen"] / first["risen"]
        print(
            f"{height:>7} x {options.width}: peak {measured['peak']:.0f} MiB ({share[0]:.2f} of the first), "
            f"+{measured['risen']:.0f} MiB above its start ({share[1]:.2f}), {measured['seconds']:.0f} s",
            flush=True,
        )
    return True


def backends(options: argparse.Namespace, folder: Path) -> bool:
    """Compare `predict` with the backend that ``auto`` takes with torch, each in a process of its own."""
    size, scene = (options.sizes or [4096])[0], options.image or folder / "scene.tif"
    if options.image is None:
        write_scene(scene, size, size)
    with Raster(scene) as raster:
        height, width = raster.grid.height, raster.grid.width

    def took(way: str, backend: str, precision: str) -> dict[str, Any]:
        how = argparse.Namespace(**vars(options) | {"backend": backend, "precision": precision})
        return in_process(how, way, scene)

    exported, kept = (took(CHOOSE, "auto", options.precision) for _ in range(2))
    first, choosing = exported["seconds"], kept["seconds"]
    notes = kept["notes"] or "torch, for so few windows"
    print(f"choosing takes {choosing:.1f} s a call, {first:.1f} s a model's first: {notes}", flush=True)
    rows = []
    for _ in range(options.repeats):
        ways = (PLAIN, "torch", "fp32"), (PREDICT, "auto", options.precision), (BARE, kept["name"], kept["precision"])
        slow, whole, bare = (took(*way)["seconds"] for way in ways)
        rows.append((slow / whole, slow / (whole - choosing + first), slow / (whole - choosing)))
        rows[-1] += ((whole - choosing) / bare,)
        print(f"torch in a plain process {slow:.2f} s, auto {whole:.2f} s, bare forward {bare:.2f} s", flush=True)
    gain, at_first, without, share = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"{height} x {width}, {options.model}: {gain:.2f}x, a model's first call {at_first:.2f}x, without choosing "
        f"{without:.2f}x; without choosing {share:.3f} of the bare forward"
    )
    return True


PARTS = {"ratio": ratio, "around": around, "heights": heights, "backends": backends}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="ratio")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides of the scenes, by default 2048, 8192 or 4096")
    parser.add_argument("--tile", type=int, default=512, help="side of a window in pixels")
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--model", help="an encoder, by default mit_b0; fast, the default of around and heights; a DIR")
    parser.add_argument("--image", type=Path, help="raster in place of the made scene, for backends")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", help="by default fp32, and auto for backends")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=float, default=1.05, help="the ratio that is refused")
    parser.add_argument("--heights", type=int, nargs="+", default=[2048, 8192, 16384, 50_000])
    parser.add_argument("--width", type=int, default=2048, help="columns of the rasters of several heights")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or ("fast" if options.part in ("around", "heights") else "mit_b0")
    options.precision = options.precision or ("auto" if options.part == "backends" else "fp32")
    if options.child:
        child(options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GEODISTILL_CACHE"] = folder  # no graph of an earlier run
        return 0 if PARTS[options.part](options, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
