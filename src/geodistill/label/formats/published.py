"""SAMRS as its authors packed it: ``ins/NAME.pkl`` beside ``gray/NAME.png``, read and written."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.data.catalog.declarations import FAST, SIOR, SOTA
from geodistill.errors import DataError
from geodistill.label.annotated_masks import checked_runs
from geodistill.label.formats.plain_pickle import read_plain_pickle
from geodistill.label.masks import Runs
from geodistill.reading import well_formed

INSTANCE_FOLDER = "ins"
MOST_SIDE = 1 << 16


@dataclass(frozen=True, eq=False)
class PublishedObject:
    """An object of an ``ins/*.pkl``: its class, its value in ``gray``, its pixels."""

    category: str
    value: int
    runs: Runs


def find_instances(folder: Path) -> list[Path]:
    """Return the ``ins/*.pkl`` of a published set, in the folder or in one of its folders, sorted."""
    places = sorted((folder / INSTANCE_FOLDER, *folder.glob(f"*/{INSTANCE_FOLDER}")))
    return [file for place in places for file in sorted(place.rglob("*.pkl"))]


def classes_of(names: Mapping[int, str]) -> dict[int, str]:
    """Return the classes of a set by their values: those of the first published set that has all of these, or these."""
    for classes in (SOTA, SIOR, FAST):
        known = dict(enumerate(classes))
        if all(known.get(value, "").lower() == name.lower() for value, name in names.items()):
            return known
    return dict(sorted(names.items()))


def read_objects(file: Path) -> Iterator[PublishedObject]:
    """Yield the objects of one image; the pickle is not executed.

    Raises:
        DataError: The file is no pickle of plain values, or an object has another form.
    """
    entries = read_plain_pickle(file)
    if not isinstance(entries, list):
        raise DataError(f"{file} holds no list", "a list of objects with mask, category and label")
    for number, entry in enumerate(entries, 1):
        source = f"{file}:object {number}"
        with well_formed(source, "mask, category and label"):
            mask, category, value = entry["mask"], entry["category"], int(entry["label"])
            height, width = (int(side) for side in mask["size"])
            if not isinstance(category, str) or not 0 <= value < 255 or not 0 < max(height, width) < MOST_SIDE:
                raise ValueError(f"{str(category)[:40]!r}, value {value}, {width} x {height}")
            runs = Runs.from_coco(checked_runs(mask, width, height, source))
        yield PublishedObject(category, value, runs)


def write_pickles(
    folder: Path, annotations: Iterable[Mapping[str, Any]], names: Mapping[int, str], classes: Sequence[str]
) -> None:
    """Write ``ins/NAME.pkl`` of annotations of ``label build``, a list of the objects of each image that has any.

    Each object has ``mask`` (run lengths), ``bbox`` (xyxy, float32), ``rbox`` (four corners, float32), ``category``,
    ``label`` (value in ``gray``) and ``size`` in pixels, as the authors' code reads them. Annotations stand image by
    image; those of images without a name are left out.
    """
    (folder / INSTANCE_FOLDER).mkdir()
    for number, entries in groupby(annotations, key=lambda entry: entry["image_id"]):
        if number in names:
            objects = [_written(entry, classes) for entry in entries]
            (folder / INSTANCE_FOLDER / f"{names[number]}.pkl").write_bytes(pickle.dumps(objects, protocol=4))


def _written(entry: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    left, top, width, height = entry["annotated_bbox"]
    return {
        "mask": entry["segmentation"],
        "bbox": np.array((left, top, left + width, top + height), np.float32),
        "rbox": np.array(entry["rbox"], np.float32).reshape(4, 2),
        "category": classes[entry["mask_value"]],
        "label": entry["mask_value"],
        "size": entry["area"],
    }
