"""Seconds and memory of a map's objects, against the way people write by hand: rasterio.features and shapely.

A made-up map of houses, some of which touch at a wall that the network doubts, is turned into polygons

* ``by hand``: the whole map read, `rasterio.features.shapes`, `shapely.geometry.shape`, a GeoDataFrame, its areas, the
  mean confidence of each polygon under a rasterised number, `to_file`;
* ``objects``: `write_objects`, which also separates what touches and closes holes;
* ``right angles``: the same, with squared outlines.

Each runs in a process of its own. Printed are polygons, seconds, processor seconds, the rise of the peak of memory, and
the last two per 10^5 polygons; memory of ``objects`` goes by the width of the map, and that of ``by hand`` by its area.

Run ``python benchmarks/objects.py --houses 20000``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

WAYS = ("by hand", "objects", "right angles")
PLACE = from_origin(500_000, 4_000_000, 0.5, 0.5)
CELL = 48
"""Pixels of the square that a house stands in."""

LEGEND = {"names": ["ground", "house"], "colours": [[200, 200, 180], [180, 40, 40]]}


def write_village(folder: Path, houses: int) -> None:
    """Write ``map.tif`` and ``map_confidence.tif`` of about so many houses, 400 a row of them."""
    rng = np.random.default_rng(0)
    across = min(400, max(int(houses**0.5), 1))
    rows = -(-houses // across)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": "EPSG:32636", "transform": PLACE}
    profile |= {"height": rows * CELL, "width": across * CELL, "tiled": True, "compress": "deflate"}
    with (
        rasterio.open(folder / "map.tif", "w", nodata=255, **profile) as map_file,
        rasterio.open(folder / "map_confidence.tif", "w", nodata=255, **profile) as sure_file,
    ):
        map_file.update_tags(LEGEND=json.dumps(LEGEND))
        y, x = np.mgrid[:CELL, : across * CELL]
        for row in range(rows):
            angle, half = rng.uniform(0, np.pi, across), rng.uniform(7, 12, (2, across))
            wall = np.where(rng.random(across) < 0.2, 0.0, 99.0)  # across every fifth house
            at = x // CELL
            cos, sin = np.cos(angle)[at], np.sin(angle)[at]
            along = (x % CELL - CELL / 2) * cos + (y - CELL / 2) * sin
            beside = (y - CELL / 2) * cos - (x % CELL - CELL / 2) * sin
            inside = (np.abs(along) < 1.4 * half[0][at]) & (np.abs(beside) < half[1][at])
            doubt = np.exp(-(((along - wall[at]) / 1.5) ** 2))
            window = Window(0, row * CELL, across * CELL, CELL)
            map_file.write(inside.astype(np.uint8), 1, window=window)
            sure_file.write((240 - 120 * doubt).astype(np.uint8), 1, window=window)


def by_hand(folder: Path) -> int:
    """Write polygons of the houses with areas and confidence as a script would; return how many."""
    import geopandas
    import shapely
    from rasterio.features import rasterize, shapes

    with rasterio.open(folder / "map.tif") as file, rasterio.open(folder / "map_confidence.tif") as sure:
        classes, confidence, transform, crs = file.read(1), sure.read(1), file.transform, file.crs
    outlines = [shapely.geometry.shape(s) for s, _ in shapes(classes, classes == 1, transform=transform)]
    frame = geopandas.GeoDataFrame(geometry=outlines, crs=crs)
    numbers = rasterize(zip(outlines, range(1, len(outlines) + 1), strict=True), classes.shape, transform=transform)
    sums = np.bincount(numbers.ravel(), confidence.ravel(), len(outlines) + 1)[1:]
    frame["confidence"] = sums / np.bincount(numbers.ravel(), minlength=len(outlines) + 1)[1:] / 250
    frame["area"], frame["perimeter"] = frame.area, frame.length
    frame.to_file(folder / "by_hand.gpkg")
    return len(frame)


def run_one(way: str, folder: Path) -> None:
    """Run one way in this process and print its figures."""
    from geodistill.inference.objects.write_objects import write_objects

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start, used = status("VmRSS"), time.perf_counter(), time.process_time()
    if way == "by hand":
        count = by_hand(folder)
    else:
        squared = ["house"] if way == "right angles" else []
        confidence = folder / "map_confidence.tif"
        count = write_objects(
            folder / "map.tif", ["house"], squared=squared, min_area=2.0, confidence=confidence
        ).objects
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(json.dumps([seconds, used, status("VmHWM") - before, count]))


def status(key: str) -> float:
    """Return a figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--houses", type=int, default=20_000)
    parser.add_argument("--way", choices=WAYS, help="run this one in this process")
    parser.add_argument("--folder", type=Path, help="with --way: where the map is")
    options = parser.parse_args()
    if options.way:
        run_one(options.way, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_village(Path(folder), options.houses)
        heads = ("polygons", "seconds", "processor", "MiB", "processor per 10^5", "MiB per 10^5")
        print(f"{'way':<12}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--folder", folder]
            done = subprocess.run(command, capture_output=True, check=True, text=True)
            seconds, used, memory, count = json.loads(done.stdout)
            figures = (f"{count}", f"{seconds:.1f}", f"{used:.1f}", f"{memory:.0f}")
            figures += (f"{used * 1e5 / count:.0f}", f"{memory * 1e5 / count:.0f}")
            cells = (f"{figure:>{len(head) + 2}}" for head, figure in zip(heads, figures, strict=True))
            print(f"{way:<12}" + "".join(cells))


if __name__ == "__main__":
    main()
