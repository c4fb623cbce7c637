"""What `label build` left in a folder, read back: the account of every box, and the masks that are most in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.errors import DataError
from geodistill.evaluation.figures import to_rgb
from geodistill.evaluation.shown_images import class_bytes, mark_bytes, photo_bytes
from geodistill.label.labelling import read_account
from geodistill.label.ledger import INSTANCES
from geodistill.label.masks import Runs, crop_runs
from geodistill.raster import Raster, Window
from geodistill.reading import ANNOTATION_BYTES, read_object
from geodistill.report.evaluated import guarded
from geodistill.spec import IGNORE_INDEX, Colour, Legend

DOUBTFUL = 24
"""Masks in doubt that are shown at most."""

BOXED: Colour = (255, 208, 0)
"""Colour of annotated boxes."""

_AROUND, _LEAST = 0.6, 24


@dataclass(frozen=True)
class Doubt:
    """A mask in doubt.

    Attributes:
        source: Its image, below the folder of images.
        category: Its class.
        score: The segmenter's own, 0..1.
        fill: Pixels of the mask for each of the annotated box.
        layers: Image, mask and box, encoded; empty where the image is not at hand.
    """

    source: str
    category: str
    score: float
    fill: float
    layers: tuple[bytes, ...]


@dataclass(frozen=True)
class LabelSet:
    """A set of labels made from boxes.

    Attributes:
        folder: Where it lies.
        account: What became of every image and box, as ``label.json`` has it.
        legend: The classes of the masks.
        scores: Masks by score of the segmenter, in tenths.
        doubtful: Those of lowest score, then those that fill least of their box.
    """

    folder: Path
    account: Mapping[str, Any]
    legend: Legend
    scores: tuple[int, ...]
    doubtful: tuple[Doubt, ...]


def read_labels(folder: Path) -> LabelSet:
    """Read a folder of labels.

    Raises:
        DataError: It holds none, or was altered.
    """
    account = read_account(folder)
    file = folder / INSTANCES
    data = read_object(file, ANNOTATION_BYTES) if file.is_file() else {"annotations": [], "images": []}
    return guarded(file, lambda: _label_set(folder, account, data))


def _label_set(folder: Path, account: Mapping[str, Any], data: Mapping[str, Any]) -> LabelSet:
    legend = Legend.from_dict(account["legend"])
    instances = data["annotations"]
    images = {image["id"]: image for image in data["images"]}
    scores = np.array([float(each["score"]) for each in instances], np.float64).clip(0, 1)
    fills = np.array([_fill(each) for each in instances], np.float64)
    bins = np.bincount((scores * 10).astype(np.int64).clip(0, 9), minlength=10)
    root = Path(account["settings"]["images"])
    order = np.lexsort((fills, scores))[:DOUBTFUL]
    doubtful = []
    for k in order:
        instance = instances[int(k)]
        image = images[instance["image_id"]]
        layers = _layers(folder, root, image, instance, legend)
        name = legend.names[int(instance["mask_value"])]
        doubtful.append(Doubt(str(image["source"]), name, float(scores[k]), float(fills[k]), layers))
    return LabelSet(folder, account, legend, tuple(bins.tolist()), tuple(doubtful))


def _fill(instance: Mapping[str, Any]) -> float:
    _, _, width, height = map(float, instance["annotated_bbox"])
    return float(instance["area"]) / max(width * height, 1.0)


def _layers(
    folder: Path, root: Path, image: Mapping[str, Any], instance: Mapping[str, Any], legend: Legend
) -> tuple[bytes, ...]:
    """Cut a mask with what is around it; nothing where its image is gone or lies outside the folders of the set."""
    name, source = str(image["file_name"]), str(image["source"])
    whole = name == source
    base, path = (root, root / source) if whole else (folder, folder / name)
    if not path.resolve().is_relative_to(base.resolve()) and path.resolve() != base.resolve():
        raise DataError(f"the image {source}", "a path below the set's folders")
    if base.is_file():
        path = base
    top, left = (int(image["source_row"]), int(image["source_col"])) if whole else (0, 0)
    frame = Window(0, 0, int(image["height"]), int(image["width"]))
    x, y, width, height = map(float, instance["annotated_bbox"])
    margin = max(_AROUND * max(width, height), _LEAST)
    first_row, first_col = int(max(y - margin, 0)), int(max(x - margin, 0))
    last_row, last_col = int(min(y + height + margin, frame.height)), int(min(x + width + margin, frame.width))
    view = Window(first_row, first_col, last_row - first_row, last_col - first_col)
    if min(view.height, view.width) < 1 or not path.is_file():
        return ()
    with Raster(path) as raster:
        pixels, _ = raster.read(Window(view.row + top, view.col + left, view.height, view.width))
    crop = crop_runs(Runs.from_coco(instance["segmentation"]), view).crop()
    mask = np.full((view.height, view.width), IGNORE_INDEX, np.uint8)
    mask[crop.place][crop.pixels] = int(instance["mask_value"])
    edge = np.zeros(mask.shape, bool)
    rows = np.clip([y - view.row, y + height - view.row], 0, view.height - 1).astype(int)
    cols = np.clip([x - view.col, x + width - view.col], 0, view.width - 1).astype(int)
    edge[rows[0] : rows[1] + 1, cols] = True
    edge[rows, cols[0] : cols[1] + 1] = True
    photo = photo_bytes(to_rgb(pixels))
    return photo, class_bytes(mask, legend), mark_bytes(edge, BOXED)
