"""Readers of detection annotations: whatever the format, the same records come out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.formats.images import Pictures
from geodistill.label.formats.raw_boxes import Reader, ReadOptions, ReadResult
from geodistill.label.formats.screen import Classes, screen
from geodistill.label.records import Annotations, ImageBoxes
from geodistill.lazy import choose

FORMATS: Mapping[str, str] = {
    "dota": "geodistill.label.formats.txt:read_dota",
    "voc": "geodistill.label.formats.xml:read_voc",
    "fair1m": "geodistill.label.formats.xml:read_fair1m",
    "hrsc": "geodistill.label.formats.xml:read_hrsc",
    "coco": "geodistill.label.formats.coco:read",
    "yolo": "geodistill.label.formats.txt:read_yolo",
    "geojson": "geodistill.label.formats.geo:read",
}
"""Reader of every format, ``module:attribute`` of a `raw_boxes.Reader`, imported when asked for.

``voc`` reads DIOR too, ``yolo`` also oriented boxes, ``geojson`` any vector file.
"""


def read_boxes(
    format: str,
    boxes: Path | str,
    images: Path | str,
    *,
    categories: Sequence[str] | None = None,
    keep_difficult: bool = True,
    category_field: str | None = None,
    progress: bool = False,
) -> Annotations:
    """Read a detection data set.

    Every image of the folder comes out, those without annotation with no boxes; every object that was read comes out
    as a box or as dropped with its reason. An image that cannot be opened has size 0 and all its objects dropped.

    Args:
        format: One of `FORMATS`.
        boxes: Annotation file, or folder with its subfolders.
        images: Folder of images with its subfolders, or one image.
        categories: Classes wanted, in the order wanted; others are dropped as ``unknown class``. Case, blanks,
            hyphens and underscores do not count. By default all.
        keep_difficult: Use objects marked as difficult (1, or 2 for those cut off).
        category_field: Column of the class for ``geojson``, tag of the class for ``hrsc``.
        progress: Show a progress bar on a terminal.

    Raises:
        UnknownNameError: No format has that name.
        DataError: A place is missing or empty, a file is malformed, no annotation belongs to any image, or no object
            can be used: none can be read, or every image has another size and aspect ratio than its annotations say.
            (Where others can be used, such objects are dropped as ``malformed`` or ``another size``, with a warning.)
    """
    reader: Reader = choose("format of boxes", format, FORMATS)
    names = None if categories is None else tuple(categories)
    classes = Classes(names)
    pictures = Pictures(Path(images))
    with np.errstate(all="ignore"):  # numbers of any size come in; those that overflow are dropped as not finite
        read = reader(Path(boxes), pictures, ReadOptions(names, category_field, progress))
        _look_at_faults(read)
        if read.unmatched and not read.entries:
            raise _nothing_matches_error(read, pictures)
        if names is None and read.categories is not None:
            classes = Classes(read.categories)
        by_key = {entry.picture.key: entry for entry in read.entries}
        screened: list[ImageBoxes] = []
        quiet = not (progress and sys.stderr.isatty())
        for picture in tqdm(pictures.all, "opening images", unit="image", disable=quiet):
            entry = by_key.get(picture.key)
            if entry is not None:
                screened.append(screen(entry, classes, keep_difficult))
            else:
                width, height = picture.size or (0, 0)
                screened.append(ImageBoxes(picture.key, picture.path, width, height, (), (), None))
    present = {box.category for image in screened for box in image.boxes}
    return Annotations(tuple(screened), tuple(read.unmatched), names or read.categories or tuple(sorted(present)))


def _look_at_faults(read: ReadResult) -> None:
    """Refuse a set of which no object can be used; tell where some cannot, which are dropped and counted."""
    good = 0
    faults: dict[str, list[DataError]] = {"malformed": list(read.faults)}
    for entry in read.entries:
        for box in entry.objects:
            if box.fault is None:
                good += 1
            else:
                faults.setdefault(box.reason, []).append(box.fault)
    for reason, errors in faults.items():
        if errors and not good:
            raise errors[0]
        if errors:
            message = f"{len(errors)} boxes are dropped ({reason}): {errors[0]}"
            warnings.warn(message, GeodistillWarning, stacklevel=3)


def tell_unmatched(unmatched: Sequence[str]) -> str:
    """List five annotation entries without an image and count the rest; empty where there are none."""
    more = f" and {len(unmatched) - 5} more" if len(unmatched) > 5 else ""
    return ", ".join(unmatched[:5]) + more


def _nothing_matches_error(read: ReadResult, pictures: Pictures) -> DataError:
    return DataError(
        f"no annotation belongs to an image of {pictures.place}: {tell_unmatched(read.unmatched)}",
        f"images named as the annotations name them, not as {pictures.all[0].path.name}",
        "give the folder that holds the images of these boxes",
    )
