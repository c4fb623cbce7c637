"""Does SEP pay on real drone tiles: ImageNet -> few labels, against ImageNet -> SEP -> the same few labels?

Boxes of buildings in western Kampala and in Zanzibar become masks (GrabCut, a background where no box is); one U-Net on
a MobileNetV2 with ImageNet weights learns both sets at once, a head for each. Then it learns 5 % of the western tiles'
windows of 128 pixels with their true masks, at the same rate and length in both arms; the eastern tiles are scored, of
which nothing has been seen.

Run ``python benchmarks/sep_tiles.py --out DIR``; it needs ``data/hot_kampala``, ``data/hot_zanzibar`` and
``weights/timm_mobilenetv2_100`` in ``$GEODISTILL_SHARED`` and about ten minutes on one core. DIR keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import geodistill as gd

EAST = 1238454
"""Column of zoom 21's tiles at which eastern Kampala begins."""

ENCODER = "mobilenetv2_100(pad_type=same)"
"""With the padding that its weights were trained with, which ``init`` asks for by name."""

SIZES = {"data.crop": 128, "data.batch_size": 8, "data.workers": 0, "network.encoder": ENCODER}
QUIET = {"network.decoder_channels": 64, "trainer.accelerator": "cpu", "trainer.pictures": 0}
RATE = {"optimizer.lr": 1e-3, "optimizer.lr_batch": None}


def copy_tiles(data: Path, folder: Path, in_part: Callable[[int], bool]) -> Path:
    """Copy the tiles of zoom 21 in wanted columns, with the masks that they have; write and return their boxes."""
    annotations = json.loads((data / "boxes" / "coco_boxes_polygons.json").read_text(encoding="utf-8"))
    images = []
    for image in annotations["images"]:
        _, x, _, zoom = Path(image["file_name"]).stem.split("-")
        if zoom == "21" and in_part(int(x)):
            images.append(image)
            for part in ("images", "masks"):
                (folder / part).mkdir(parents=True, exist_ok=True)
                shutil.copy(data / part / image["file_name"], folder / part)
    kept = {image["id"] for image in images}
    boxes = [box for box in annotations["annotations"] if box["image_id"] in kept]
    (folder / "boxes.json").write_text(json.dumps({**annotations, "images": images, "annotations": boxes}))
    return folder / "boxes.json"


def pretrain(shared: Path, out: Path, steps: int) -> Path:
    """Label the tiles of both places through their boxes, learn them, and return the Segmenter."""
    manifests = []
    for place, in_part in (("kampala", lambda x: x < EAST), ("zanzibar", lambda x: True)):
        if not (out / "labels" / place).is_dir():
            boxes = copy_tiles(shared / "data" / f"hot_{place}", out / place, in_part)
            labels = gd.label_boxes(
                out / place / "images", boxes, out / "labels" / place, "coco",
                background="ground", empty="drop", fractions=(1.0, 0.0, 0.0), progress=False,
            )  # fmt: skip
            print(f"{place}: {len(labels.manifest.rows('train'))} images labelled through their boxes", flush=True)
        manifests.append(str(out / "labels" / place / "manifest.parquet"))
    keys = {"data.manifests": manifests, "network.encoder_weights": weights(shared), "trainer.max_steps": steps}
    if not (out / "sep" / "segmenter").is_dir():
        gd.fit("sep", out / "sep", settings=SIZES | QUIET | RATE | keys)
    return out / "sep" / "segmenter"


def few_labels(shared: Path, out: Path, arm: str, seed: int, steps: int, init: Path | None) -> float:
    """Learn few western windows with true masks; return the mIoU of the eastern tiles in per cent."""
    folder = out / "few"
    if not (out / "few.parquet").is_file():
        copy_tiles(shared / "data" / "hot_kampala", folder, lambda x: True)
        columns = {path.stem.split("-")[1] for path in (folder / "images").iterdir()}
        split = {
            "kind": "group", "group_regex": r"OAM-(\d+)-", "groups": {"test": [x for x in columns if int(x) >= EAST]},
        }  # fmt: skip
        legend = {"classes": {"background": 0, "building": 255}}
        gd.scan(
            folder / "images", folder / "masks", out=out / "few.parquet", legend=legend, split=split, progress=False
        )
    run = out / f"{arm}-{seed}"
    keys = {
        "data.fraction": 0.05, "data.seed": seed, "trainer.seed": seed, "trainer.max_steps": steps,
        "schedule.hold_steps": 1, "network.encoder_weights": None if init else weights(shared),
    }  # fmt: skip
    if not (run / "segmenter").is_dir():
        start = {} if init is None else {"init": str(init)}
        gd.fit("sep-finetune", run, data=out / "few.parquet", settings=SIZES | QUIET | RATE | keys | start)
    return 100 * float(gd.evaluate(run, out / "few.parquet", split="test").miou)


def weights(shared: Path) -> str:
    """Return the folder of the ImageNet weights."""
    return str(shared / "weights" / "timm_mobilenetv2_100")


def main() -> None:
    """Run both arms on every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs=2, default=[400, 120], help="of SEP, and of each run on few labels")
    args = parser.parse_args()
    shared = Path(os.environ.get("GEODISTILL_SHARED", "../shared"))
    if not (shared / "data" / "hot_zanzibar").is_dir():
        sys.exit(f"no data/hot_zanzibar in {shared}: name its folder in GEODISTILL_SHARED")
    for seed in args.seeds:
        for arm in ("imagenet", "sep"):
            started = time.monotonic()
            init = pretrain(shared, args.out, args.steps[0]) if arm == "sep" else None
            miou = few_labels(shared, args.out, arm, seed, args.steps[1], init)
            print(f"{arm:8} seed {seed}  mIoU {miou:.1f}  {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
