"""What a start costs: processor time of imports and of a small map, beside that of torch with its model libraries.

Run ``python benchmarks/startup.py``. It prints seconds of processor time (user and system, of the process and its
children; medians over ``--runs``, all commands taking turns so that they meet the same machine) and the ratio to the
yardstick, ``import torch, timm, segmentation_models_pytorch``. It ends with status 1 where a goal is missed:

* ``import geodistill.segmenter`` at most 1.15 of the yardstick;
* ``geodistill predict`` of a scene of 512 x 512 pixels at most 1.4 of it;
* ``geodistill --help`` at most one second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

MOST_SECONDS_OF_HELP = 1.0
YARDSTICK = "import torch, timm, smp"
GOALS = {"import geodistill.segmenter": 1.15, "geodistill predict": 1.4}
"""The most that each may take, in parts of the yardstick."""


def write_inputs(folder: Path) -> None:
    """Write a small Segmenter as ``fit`` leaves it and a scene of 512 x 512 pixels."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    from geodistill.segmenter import Segmenter
    from geodistill.spec import Legend, Spec

    spec = Spec(Legend(("ground", "building")), ("red", "green", "blue"), mean=(100.0,) * 3, std=(50.0,) * 3)
    arguments = {"architecture": "unet", "encoder": "mobilenetv2_050", "decoder_channels": 32}
    Segmenter("supervised", arguments, spec, 256, {}).save(folder / "segmenter")
    pixels = np.random.default_rng(0).integers(1, 255, (3, 512, 512), np.uint8)
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_500_000, 0.5, 0.5)}
    size = {"driver": "GTiff", "count": 3, "height": 512, "width": 512, "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", **size, **place) as file:
        file.write(pixels)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is timed, by name."""
    program = [sys.executable, "-m", "geodistill"]
    model = ["--model", str(folder / "segmenter"), "--input", str(folder / "scene.tif")]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "geodistill --help": [*program, "--help"],
        "geodistill fit --help": [*program, "fit", "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
        YARDSTICK: [sys.executable, "-c", "import torch, timm, segmentation_models_pytorch"],
        "import geodistill.segmenter": [sys.executable, "-c", "import geodistill.segmenter"],
        "geodistill predict": [*program, "predict", *model, "--out", str(folder / "map.tif"), "--backend", "torch"],
    }


def processor_seconds(command: Sequence[str]) -> float:
    """Run a command once, its output thrown away, and return the processor time that it took."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure(runs: int) -> dict[str, float]:
    """Return each command's median over ``runs``, after one run that warms files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        timed = commands(folder)
        for command in timed.values():
            processor_seconds(command)
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(runs):
            for name, command in timed.items():
                (folder / "map.tif").unlink(missing_ok=True)
                seconds[name].append(processor_seconds(command))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    medians = measure(args.runs)
    ratios = {name: seconds / medians[YARDSTICK] for name, seconds in medians.items()}
    if args.json:
        print(json.dumps({"seconds": medians, "ratios": ratios, "goals": GOALS}, indent=1))
    else:
        for name, seconds in medians.items():
            goal = f"   goal {GOALS[name]:.2f}" if name in GOALS else ""
            print(f"{name:<30}{seconds:8.2f} s{ratios[name]:8.2f} x{goal}")
    missed = [name for name, most in GOALS.items() if ratios[name] > most]
    return int(bool(missed) or medians["geodistill --help"] > MOST_SECONDS_OF_HELP)


if __name__ == "__main__":
    sys.exit(main())
