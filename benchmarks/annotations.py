"""Reading annotations: seconds per object as their number grows, against ``json.load`` of the same file.

Run ``python benchmarks/annotations.py``; it ends with status 1 where reading grows faster than its input, or takes more
than `MOST_OF_JSON` times as long as ``json.load`` alone. ``--counts 5000 20000`` is a quick look.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from geodistill.label.formats.detection import read_boxes

MOST_OF_JSON, MOST_GROWTH = 25.0, 1.5
SIDE, IMAGES = 1024, 200


def write_set(folder: Path, count: int, outlines: bool) -> None:
    """Write ``images/`` and, of the same ``count`` boxes over them, ``coco.json`` and the folder ``yolo``."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "yolo").mkdir()
    for at in range(IMAGES):
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / "images" / f"{at:04d}.png")
    lefts, sides = rng.uniform(0, SIDE - 60, (count, 2)).round(2), rng.uniform(8, 50, (count, 2)).round(2)
    annotations, lines = [], [[] for _ in range(IMAGES)]
    for n, ((x, y), (w, h)) in enumerate(zip(lefts.tolist(), sides.tolist(), strict=True)):
        item = {"id": n, "image_id": n % IMAGES, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0}
        if outlines:
            item["segmentation"] = [[x, y, x + w, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h]]
        annotations.append(item)
        lines[n % IMAGES].append(f"0 {(x + w / 2) / SIDE:.6f} {(y + h / 2) / SIDE:.6f} {w / SIDE:.6f} {h / SIDE:.6f}")
    images = [{"id": at, "file_name": f"{at:04d}.png", "width": SIDE, "height": SIDE} for at in range(IMAGES)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "house"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    for at, rows in enumerate(lines):
        (folder / "yolo" / f"{at:04d}.txt").write_text("\n".join(rows))


def seconds_of(work: Callable[[], object], repeats: int = 2) -> float:
    """Return the shortest processor time of some runs."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def measure(count: int, outlines: bool) -> tuple[float, float, float]:
    """Return the seconds of ``json.load``, of our reader over the same file, and of our reader over YOLO's text."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder, count, outlines)
        annotations = read_boxes("coco", folder / "coco.json", folder / "images")
        if sum(len(image.boxes) + len(image.dropped) for image in annotations.images) != count:
            raise SystemExit("boxes got lost")
        plain = seconds_of(lambda: json.loads((folder / "coco.json").read_text()))
        ours = seconds_of(lambda: read_boxes("coco", folder / "coco.json", folder / "images"))
        yolo = seconds_of(lambda: read_boxes("yolo", folder / "yolo", folder / "images"))
    return plain, ours, yolo


def main() -> int:
    """Print a table, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[20_000, 200_000], help="annotations, ascending")
    counts = parser.parse_args().counts
    failed = False
    print("boxes    outlines  json.load  coco      ratio  us a box  yolo      us a box")
    for outlines in (False, True):
        each = []
        for count in counts:
            plain, ours, yolo = measure(count, outlines)
            each.append(ours / count)
            print(
                f"{count:<8} {outlines!s:<8}  {plain:7.3f} s  {ours:6.2f} s  {ours / plain:5.1f}"
                f"  {1e6 * ours / count:8.1f}  {yolo:6.2f} s  {1e6 * yolo / count:8.1f}"
            )
        failed |= ours > MOST_OF_JSON * plain  # of the most: of few, opening the images takes the time
        failed |= each[-1] > MOST_GROWTH * each[0]
    print("missed" if failed else "met", f"(at most {MOST_OF_JSON:g} times json.load, growth per box {MOST_GROWTH:g})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
