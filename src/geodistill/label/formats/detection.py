"""A detection data set of any format: read, and screened for what can be used and why not the rest."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.engine import progress_bar
from geodistill.errors import DataError, GeodistillWarning, RecipeError
from geodistill.label.boxes import (
    FAR,
    SMALLEST,
    Annotations,
    Box,
    Dropped,
    ImageBoxes,
    Reason,
    bounds_of,
    hulls,
    regions,
)
from geodistill.label.formats.raw_boxes import (
    ImageAnnotations,
    Pictures,
    RawBox,
    Reader,
    ReadOptions,
    ReadResult,
)
from geodistill.label.formats.vector_files import SUFFIXES
from geodistill.lazy import choose

FORMATS: Mapping[str, str] = {
    "dota": "geodistill.label.formats.dota:read_dota",
    "voc": "geodistill.label.formats.xml:read_voc",
    "fair1m": "geodistill.label.formats.xml:read_fair1m",
    "hrsc": "geodistill.label.formats.xml:read_hrsc",
    "coco": "geodistill.label.formats.coco:read",
    "yolo": "geodistill.label.formats.yolo:read_yolo",
    "geojson": "geodistill.label.formats.geo:read",
}
"""Reader of every format, ``module:attribute`` of a `raw_boxes.Reader`, imported when asked for.

``voc`` reads DIOR too, ``yolo`` also oriented boxes, ``geojson`` any vector file.
"""

FIELDS = ("geojson", "hrsc")
"""Formats in which a person may say where an object's class stands."""


_BOX_FILES = (*SUFFIXES, ".xml", ".txt")


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
        category_field: Column of the class for ``geojson``, tag of the class for ``hrsc``; for no other format.
        progress: Show a progress bar on a terminal.

    Raises:
        UnknownNameError: No format has that name.
        RecipeError: A field of the class is named for a format that has none to choose.
        DataError: A place is missing or empty, a file is malformed, no annotation belongs to any image, or no object
            can be used: none can be read, or every image has another size and aspect ratio than its annotations say.
            (Where others can be used, such objects are dropped as ``malformed`` or ``another size``, with a warning.)
    """
    reader: Reader = choose("format of boxes", format, FORMATS)
    if category_field is not None and format not in FIELDS:
        raise RecipeError(
            f"--category-field {category_field} of format {format}", f"format {' or '.join(FIELDS)}", "leave it out"
        )
    if Path(images).is_file() and Path(images).suffix.lower() in _BOX_FILES:
        mend = "the images come first, their boxes after them"
        raise DataError(f"{images} as images", "a folder of images or an image file", mend)
    names = None if categories is None else tuple(categories)
    classes = Classes(names)
    pictures = Pictures(Path(images))
    with np.errstate(all="ignore"):  # numbers of any size come in; those that overflow are dropped as not finite
        read = reader(Path(boxes), pictures, ReadOptions(names, category_field, progress))
        _look_at_faults(read)
        if read.unmatched and not read.entries:
            raise _nothing_matches_error(read, pictures)
        if names is None and read.categories is not None:
            classes = Classes(read.categories, exact=True)
        by_key = {entry.picture.key: entry for entry in read.entries}
        screened: list[ImageBoxes] = []
        for picture in progress_bar(pictures.all, "opening images", progress, unit="image"):
            entry = by_key.get(picture.key)
            if entry is not None:
                screened.append(screen(entry, classes, keep_difficult))
            else:
                width, height = picture.size or (0, 0)
                screened.append(ImageBoxes(picture.key, picture.path, width, height, (), ()))
    present = {box.category for image in screened for box in image.boxes}
    listed = names or read.categories or tuple(sorted(present))
    files, lists = tuple(read.files), tuple(read.lists)
    return Annotations(tuple(screened), tuple(read.unmatched), listed, files, lists, read.reading)


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


class Classes:
    """Which class names are wanted, however a set writes them: case, blanks, hyphens and underscores do not count.

    Args:
        names: The names wanted, or ``None`` for all as they are.
        exact: Whether all of it counts after all, as in a set's own list: there ``Car`` and ``car`` are two.

    Raises:
        DataError: Two names differ in these only.
    """

    def __init__(self, names: Sequence[str] | None, *, exact: bool = False) -> None:
        self._fold = str if exact else fold
        self._names: Mapping[str, str] | None = None
        if names is not None:
            self._names = {self._fold(name): name for name in names}
            if len(self._names) != len(names):
                repeated = [name for name, count in Counter(map(self._fold, names)).items() if count > 1]
                raise DataError(f"categories {', '.join(names)}", "distinct names", f"{repeated[0]!r} is there twice")

    def name(self, category: str) -> str | None:
        """Return the name as it was asked for, or ``None`` where it was not."""
        return category if self._names is None else self._names.get(self._fold(category))


def uncrossed(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the four corners ``(4, 2)`` of a box so that its sides do not cross: some sets write them in other orders.

    Corners that go round, either way, stay as they are, the first of them first.
    """
    points = corners.tolist()
    x, y = sum(point[0] for point in points) / len(points), sum(point[1] for point in points) / len(points)
    around = [(point[0] - x, point[1] - y) for point in points]
    turns = [a[0] * b[1] - a[1] * b[0] for a, b in zip(around, [*around[1:], around[0]], strict=True)]
    if min(turns) >= 0 or max(turns) <= 0:
        return corners
    order = sorted(range(len(points)), key=lambda at: math.atan2(around[at][1], around[at][0]))
    first = order.index(0)
    return corners[order[first:] + order[:first]]


def screen(entry: ImageAnnotations, classes: Classes, keep_difficult: bool) -> ImageBoxes:
    """Screen every object of an image; the first reason that fits counts."""
    picture, objects = entry.picture, entry.objects
    names = [classes.name(box.category) for box in objects]
    width, height = picture.size or (0, 0)
    if picture.size is None:
        reasons: list[Reason | None] = ["unreadable image"] * len(objects)
    else:
        reasons = _reasons(objects, names, width, height, keep_difficult)
    boxes, dropped = [], []
    for index, (box, name, reason) in enumerate(zip(objects, names, reasons, strict=True)):
        if reason is None and name is not None:
            boxes.append(
                Box(
                    polygon=box.polygon if box.kind == "polygon" else uncrossed(box.polygon),
                    category=name,
                    difficult=box.difficult,
                    source=box.source,
                    kind=box.kind,
                    index=index,
                    segmentation=box.segmentation,
                    horizontal=box.horizontal,
                    holes=box.holes,
                )
            )
        else:
            dropped.append(Dropped(reason or "unknown class", name or box.category, box.source))
    return ImageBoxes(picture.key, picture.path, width, height, tuple(boxes), tuple(dropped), entry.gsd)


def _reasons(
    objects: Sequence[RawBox], names: Sequence[str | None], width: int, height: int, keep_difficult: bool
) -> list[Reason | None]:
    reasons: list[Reason | None] = [None if box.fault is None else box.reason for box in objects]

    def drop(places: Iterable[int], reason: Reason) -> None:
        for place in places:
            reasons[place] = reasons[place] or reason

    bounds = bounds_of([box.polygon for box in objects])
    finite = (np.abs(bounds) <= FAR).all(axis=1)  # not so where one is NaN
    drop(np.flatnonzero(~finite).tolist(), "not finite")
    places = np.flatnonzero(finite)
    polygons = [objects[place].polygon for place in places.tolist()]
    if polygons:
        drop(places[shapely.area(hulls(polygons)) < SMALLEST].tolist(), "zero area")
    inside = (bounds[:, :2] >= 0).all(axis=1) & (bounds[:, 2:] <= (width, height)).all(axis=1)
    doubtful = [place for place in np.flatnonzero(finite & ~inside).tolist() if reasons[place] is None]
    if doubtful:
        shapes = regions(
            [objects[place].polygon for place in doubtful], [objects[place].kind != "polygon" for place in doubtful]
        )
        shared = shapely.area(shapely.clip_by_rect(shapes, 0, 0, width, height))
        drop([place for place, area in zip(doubtful, shared, strict=True) if area < SMALLEST], "outside the image")
    drop([place for place, name in enumerate(names) if name is None], "unknown class")
    drop([place for place, box in enumerate(objects) if box.crowd], "crowd")
    if not keep_difficult:
        drop([place for place, box in enumerate(objects) if box.difficult], "difficult")
    known: set[tuple[str | None, bytes]] = set()
    for place, box in enumerate(objects):
        if reasons[place] is None:
            vertices = np.round(box.polygon, 3) + 0.0  # -0.0 becomes 0.0
            key = (names[place], vertices[np.lexsort(vertices.T)].tobytes())
            if key in known:
                reasons[place] = "duplicate"
            known.add(key)
    return reasons


def fold(name: str) -> str:
    """Return a class name without what does not count: case, blanks at its ends, and what joins its words."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")
