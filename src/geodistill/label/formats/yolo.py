"""YOLO's text: one file per image, one object per line, a box, an oriented box or an outline as shares of its size."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.label.annotated_masks import mask_of
from geodistill.label.boxes import kind_of_corners, rectangle
from geodistill.label.formats.per_image import lines_of, numbers, read_files
from geodistill.label.formats.raw_boxes import Picture, Pictures, RawBox, ReadOptions, ReadResult, attempt, points
from geodistill.label.formats.yolo_set import NAME_FILES, RowForms, find_class_list, forms_of

_YOLO_FORM = "class cx cy w h, or class x1 y1 x2 y2 x3 y3 x4 y4, as shares of width and height"
_DECIMAL_COMMA = re.compile(r"-?\d*,\d+")
Lines = list[tuple[str, list[str]]]
"""Source and fields of each line of a file."""


def read_yolo(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of text files, each named as its image.

    Class names come from ``data.yaml``, ``dataset.yaml``, ``classes.txt`` or ``obj.names`` in the folder or one of
    the two above it; where there is none, the categories asked for are the names in their order, and without them
    the numbers themselves.
    """
    listed = find_class_list(place) if place.exists() else None
    names = None if listed is None else listed.names
    if names is None and options.categories is not None:
        names = dict(enumerate(options.categories))
    # What a row is, the set tells as a whole: all lines are read first, and made objects of afterwards.
    waiting: list[tuple[list[RawBox], Lines, Picture]] = []

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        boxes: list[RawBox] = []
        waiting.append((boxes, [(source, _separated(fields)) for source, fields in lines_of(file)], picture))
        return boxes

    result = read_files(
        place, pictures, ".txt", objects, skip=lambda file: file.name in NAME_FILES, progress=options.progress
    )
    result.lists += [] if listed is None else [listed.file]
    fields_of_all = (fields for _, lines, _ in waiting for _, fields in lines)
    forms = forms_of(fields_of_all, None if listed is None else listed.keypoints)
    result.reading = "outlines of four vertices" if forms.outlined else ""
    for boxes, lines, picture in waiting:
        for source, fields in lines:
            make = partial(_yolo_object, source, fields, names, picture.size, forms)
            boxes.append(attempt(make, source, _yolo_name(fields, names)))
    result.categories = None if names is None else tuple(dict.fromkeys(names[number] for number in sorted(names)))
    return result


def _separated(fields: list[str]) -> list[str]:
    """Return the fields of a line that may be separated by commas too."""
    line = " ".join(fields)
    if "," not in line or (len(fields) >= 5 and any(map(_DECIMAL_COMMA.fullmatch, fields))):
        return fields
    return re.split(r"[,\s]+", line.strip(", "))


def _yolo_object(
    source: str,
    fields: list[str],
    names: dict[int, str] | None,
    size: tuple[int, int] | None,
    forms: RowForms,
) -> RawBox:
    name = _yolo_name(fields, names)
    if name is None:
        raise DataError(f"{source}: class {fields[0][:80]!r}", "a whole number")
    values = _yolo_values(source, fields, forms)
    finite = np.abs(values[np.isfinite(values)])
    if len(finite) and np.median(finite) > 2:  # a box may lie outside its image, but most of its numbers do not
        raise DataError(f"{source}: {str(values.tolist())[:120]} are pixels", _YOLO_FORM, "divide by width and height")
    # An image that cannot be opened has no size; its boxes are counted and not used.
    width, height = size or (1, 1)
    if len(values) == 4:
        (x, y), (half_width, half_height) = values[:2], np.maximum(values[2:], 0) / 2
        polygon = rectangle(x - half_width, y - half_height, x + half_width, y + half_height) * (width, height)
        return RawBox(polygon, name, source, "hbox")
    polygon = points(values.tolist()) * (width, height)
    if len(values) == 8 and not forms.outlined:
        return RawBox(polygon, name, source, kind_of_corners(polygon))
    return RawBox(polygon, name, source, "polygon", segmentation=mask_of([polygon], [], width, height))


def _yolo_values(source: str, fields: list[str], forms: RowForms) -> NDArray[np.float64]:
    """Return the numbers of a row's box or outline: without class, key points, confidence and number of a track."""
    count = len(fields)
    if count in forms.boxed:
        return np.array(numbers(fields[1:], source, _YOLO_FORM)[:4])
    # An outline that lost a number has an even number of fields too.
    scored = count in (6, 10) or (count >= 8 and count % 2 == 0 and forms.scored)
    if not scored and count != 5 and (count < 7 or count % 2 == 0):
        raise DataError(f"{source}: {count} fields in {' '.join(fields)[:120]!r}", _YOLO_FORM)
    values = numbers(fields[1:], source, _YOLO_FORM)
    if scored and not 0 <= values[-1] <= 1:
        raise DataError(f"{source}: the last of {count} fields is {fields[-1][:80]}", "a confidence from 0 to 1")
    return np.array(values[:-1] if scored else values)


def _yolo_name(fields: list[str], names: dict[int, str] | None) -> str | None:
    """Return the class of a row, whose number may be written as 0 or 0.0; ``None`` where it is no whole number."""
    try:
        number = float(fields[0])
    except ValueError:
        return None
    if not number.is_integer() or abs(number) > 1e9:
        return None
    key = int(number)
    return str(key) if names is None else names.get(key, str(key))
