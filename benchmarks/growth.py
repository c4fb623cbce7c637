"""Time and memory of a set ten times as large: a run's first validation, `evaluate`, and ``label build``.

Labels are built of many images, and of one image that has all boxes.

Run ``python benchmarks/growth.py``; it makes its own files, and each measurement is a process of its own. It ends with
status 1 where a tile or a box of the large set costs more than `MOST_GROWTH` times one of the small set, or the large
set takes more than `MOST_MEMORY` MB beyond the small one. ``--share 0.1`` takes a tenth of both sizes, as a quick look.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend

MOST_GROWTH, MOST_MEMORY = 1.3, 100.0
TILES, IMAGES, BOXES_OF_AN_IMAGE, SIDE, OUTLINE = (330, 3_300), (60, 600), 33, 512, 12
BOXES_OF_ONE, SIDE_OF_ONE = (2_000, 20_000), 1500

VALIDATION = """
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
values = {"data.manifest": sys.argv[1], "data.crop": 64, "data.workers": 0, "trainer.max_steps": 1,
          "trainer.val_every_steps": 1, "trainer.accelerator": "cpu", "trainer.pictures": 0,
          "network.encoder": "mobilenetv3_small_050"}
work = lambda: fit(load_recipe({"method": "supervised"}, values), sys.argv[2])
"""

EVALUATE = """
from pathlib import Path
from geodistill.evaluation.evaluate import EvaluateOptions, evaluate
folder = Path(sys.argv[2])
options = EvaluateOptions(device="cpu")
work = lambda: evaluate(folder / "segmenter", sys.argv[1], "val", folder.parent / "evaluated", options)
"""

LABEL = """
from pathlib import Path
from geodistill.label.config import LabelSettings
from geodistill.label.build_labels import build
folder, segmenter = Path(sys.argv[1]), sys.argv[2]
settings = LabelSettings(folder / "images", folder / "coco.json", "coco", segmenter=segmenter, background="ground")
work = lambda: build(settings, folder / segmenter)
"""

MEASURE = """
import resource, sys, time, warnings
warnings.simplefilter("ignore")
{task}
start = time.process_time()
work()
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(task: str, *arguments: Path | str) -> tuple[float, float]:
    """Return processor seconds and peak memory in MB of a task in a process of its own."""
    command = [sys.executable, "-c", MEASURE.format(task=task), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, megabytes = map(float, done.stdout.split()[-2:])
    return seconds, megabytes


def write_tiles(folder: Path, count: int) -> Path:
    """Write so many validation tiles, and a tenth as many to train on; return their manifest."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    train = max(count // 10, 8)
    for at in range(count + train):
        name = f"{'train' if at < train else 'val'}_{at:05d}.png"
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "images" / name)
        Image.fromarray(rng.integers(0, 2, (64, 64), np.uint8)).save(folder / "masks" / name)
    plan = SplitPlan("group", group_regex="train|val", groups={"train": ["train"], "val": ["val"]})
    scan(folder / "images", folder / "masks", folder / "m.parquet", legend=Legend(("ground", "roof")), split=plan)
    return folder / "m.parquet"


def write_boxes(folder: Path, count: int, boxes: int = BOXES_OF_AN_IMAGE, side: int = SIDE) -> Path:
    """Write so many images with boxes and outlines over each, and ``coco.json``; return the folder."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, objects = [], []
    for at in range(count):
        pixels = rng.integers(60, 120, (side, side, 3), np.uint8)
        images.append({"id": at, "file_name": f"{at:04d}.png", "width": side, "height": side})
        for x, y in rng.integers(0, side - 48, (boxes, 2)).tolist():
            pixels[y + 6 : y + 34, x + 6 : x + 34] += 100
            turns = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
            ring = np.stack([x + 20 + 16 * np.cos(turns), y + 20 + 16 * np.sin(turns)], 1)
            box = {"bbox": [x, y, 40, 40], "segmentation": [ring.ravel().round(2).tolist()]}
            objects.append({"id": len(objects), "image_id": at, "category_id": 1, "iscrowd": 0} | box)
        Image.fromarray(pixels).save(folder / "images" / f"{at:04d}.png")
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "roof"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def main() -> int:
    """Measure, print, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the sizes")
    parser.add_argument("--segmenter", default="box", help="what makes masks of the boxes; grabcut takes minutes")
    options = parser.parse_args()
    share, segmenter = options.share, options.segmenter
    failed = False
    with tempfile.TemporaryDirectory() as name:
        cases: dict[str, list[tuple[int, float, float]]] = {}
        for sizes in zip(TILES, IMAGES, BOXES_OF_ONE, strict=True):
            folder, (tiles, images, boxes) = Path(name) / str(sizes[0]), (round(size * share) for size in sizes)
            manifest = write_tiles(folder / "tiles", tiles)
            cases.setdefault("validation", []).append((tiles, *measure(VALIDATION, manifest, folder / "run")))
            cases.setdefault("evaluate", []).append((tiles, *measure(EVALUATE, manifest, folder / "run")))
            several, one = write_boxes(folder / "boxes", images), write_boxes(folder / "one", 1, boxes, SIDE_OF_ONE)
            for what, place, count in (("", several, images * BOXES_OF_AN_IMAGE), (", one image", one, boxes)):
                case = (count, *measure(LABEL, place, segmenter))
                cases.setdefault(f"label build, {segmenter}{what}", []).append(case)
    for what, ((few, short, small), (many, long, large)) in cases.items():
        growth = long / many / (short / few)
        failed |= growth > MOST_GROWTH or large - small > MOST_MEMORY
        print(f"{what}: {few} in {short:.1f} s, {small:.0f} MB; {many} in {long:.1f} s, {large:.0f} MB", end="; ")
        print(f"{1e3 * long / many:.1f} ms each, growth {growth:.2f}")
    print("missed" if failed else "met", f"(growth per item {MOST_GROWTH:g}, {MOST_MEMORY:g} MB more)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
