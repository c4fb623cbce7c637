"""Does a review show bad masks first? Masks of boxes with true outlines, ordered by each part of their doubt.

Run ``python benchmarks/review_order.py``; it needs the folder ``data/hot_kampala`` below ``GEODISTILL_SHARED``, and
minutes. Prints, for each order, the chance that a bad mask (IoU below 0.7) stands before a good one (AUC), and the
share of the bad ones in the first fifth.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs
from geodistill.label.postprocess import default_rules
from geodistill.review.decision_store import own_json
from geodistill.review.review_labels import ReviewOptions, open_review

BAD = 0.7
PARTS = ("score", "fit", "jitter", "doubt")


def main() -> None:
    """Label, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", default="*-20.png", help="which images")
    parser.add_argument("--jitter", type=int, default=4)
    args = parser.parse_args()
    data = Path(os.environ["GEODISTILL_SHARED"]) / "data" / "hot_kampala"
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        for image in sorted((data / "images").glob(args.tiles)):
            shutil.copy(image, place / "images")
        rules = default_rules("grabcut")
        boxes = data / "boxes" / "coco_boxes_polygons.json"
        settings = LabelSettings(place / "images", boxes, "coco", background="ground", rules=rules)
        build(settings, place / "labels")
        doubts, ious = measure(settings, place / "labels", args.jitter)
    bad = ious < BAD
    print(f"{len(ious)} masks, mean IoU {ious.mean():.3f}, {bad.sum()} below {BAD}")
    for column, part in zip(doubts.T, PARTS, strict=True):
        first = np.argsort(-column, kind="stable")[: len(column) // 5]
        print(f"{part:<8} AUC {auc(column, bad):.3f}, bad ones in the first fifth {bad[first].sum() / bad.sum():.0%}")


def measure(settings: LabelSettings, labels: Path, jitter: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return parts of doubt ``(N, 4)`` and IoU with the true outline ``(N,)`` of every object."""
    images = read_boxes("coco", settings.boxes, settings.images).images
    truth = {(image.key, box.index): box.segmentation for image in images for box in image.boxes}
    doubts, ious = [], []
    with open_review(labels, ReviewOptions(jitter=jitter)) as (session, _):
        for row in map(session.store.object, range(1, len(truth) + 1)):
            mask = Runs.from_coco(own_json(row["original"])["segmentation"])
            true = Runs.from_coco(truth[row["key"], row["box"]] or {})
            common = mask.overlap(true)
            ious.append(common / (mask.area + true.area - common))
            doubts.append([row[part] for part in PARTS])
    return np.array(doubts), np.array(ious)


def auc(values: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Return the chance that one of ``bad`` has a larger value than one of the others."""
    count = int(bad.sum())
    ranks: float = rankdata(values)[bad].sum() - count * (count + 1) / 2
    return ranks / (count * (len(bad) - count))


if __name__ == "__main__":
    main()
