"""Opening large manifests: time and memory by the number of rows, against reading the same table with pyarrow alone.

Run ``python benchmarks/manifest.py``; it makes its own files. It prints processor seconds and peak memory, and ends
with status 1 where a row of a large manifest costs more than twice one of a small one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from geodistill.data.manifest import Manifest, Row
from geodistill.data.statistics import Statistics
from geodistill.raster import Window
from geodistill.spec import Legend

SIZES = (20_000, 200_000, 1_000_000)

MEASURE = """
import sys, time, resource
import pyarrow.parquet as pq
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest
path, what = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
steps = {"pyarrow": lambda: pq.read_table(path).to_pydict(), "load": lambda: Manifest.load(path),
        "fit": lambda: DataModule(DataConfig(manifest=path))}[what]()
seconds = time.process_time() - start
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def write(path: Path, rows: int) -> None:
    """Write a manifest of ``rows`` tiles of 512 pixels; the files themselves are not there."""
    counts = {"train": rows - rows // 10, "val": rows // 10}
    entries = tuple(
        Row(
            path.parent / f"images/tile_{i:07d}.tif",
            path.parent / f"masks/tile_{i:07d}.tif",
            "val" if i % 10 == 0 else "train",
            Window(0, 0, 512, 512),
            f"block{i // 100}",
            30.0,
            1.0,
            0.5,
            "2020-01-02",
        )
        for i in range(rows)
    )
    pixels = {split: count * 512**2 for split, count in counts.items()}
    classes: dict[str, tuple[int, ...]] = {split: (count // 2, count - count // 2) for split, count in pixels.items()}
    one, two = (100.0,) * 3, (30.0,) * 3
    ignored = dict.fromkeys(pixels, 0)
    measured = Statistics(("train",), one, two, one, one, counts, pixels, pixels, classes, ignored)
    Manifest(entries, ("red", "green", "blue"), Legend(("ground", "roof")), False, measured).save(path)


def measure(path: Path, what: str) -> tuple[float, float]:
    """Return processor seconds and MB that one way of reading costs a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path), what], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows of each manifest")
    options = parser.parse_args()
    each: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.sizes:
            path = Path(folder) / "manifest.parquet"
            write(path, rows)
            plain, loaded, ready = (measure(path, what) for what in ("pyarrow", "load", "fit"))
            each.append(loaded[0] / rows)
            print(
                f"{rows:>9,} rows: pyarrow {plain[0]:.2f} s, {plain[1]:.0f} MB; "
                f"manifest {loaded[0]:.2f} s, {loaded[1]:.0f} MB, ratio {loaded[0] / plain[0]:.1f}; "
                f"data of fit {ready[0]:.2f} s, {ready[1]:.0f} MB"
            )
    growth = max(each) / each[0]
    print(f"a row costs at most {growth:.2f} times what it costs in the smallest")
    return 0 if growth <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
