"""YOLO text: class number and coordinates as shares of the image's width and height.

Five fields are a horizontal box (centre, size), nine the four corners of an oriented one, and any other odd number
from seven the outline of the object itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from geodistill.errors import DataError
from geodistill.label.boxes.found import Found, Options, Read
from geodistill.label.boxes.pictures import Picture, Pictures
from geodistill.label.boxes.rasterise import mask_of
from geodistill.label.boxes.text import lines_of, numbers, points, read_files
from geodistill.label.records import kind_of_corners, rectangle

_FORM = "class cx cy w h, or class x1 y1 x2 y2 x3 y3 x4 y4, as shares of width and height"
_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read a folder of text files, each named as its image.

    Class names come from ``data.yaml``, ``dataset.yaml``, ``classes.txt`` or ``obj.names`` in the folder or one of
    the two above it; where there is none, the categories asked for are the names in their order, and without them
    the numbers themselves.
    """
    names = _names(place)
    if names is None and options.categories is not None:
        names = dict(enumerate(options.categories))

    def objects(file: Path, picture: Picture | None) -> list[Found]:
        size = None if picture is None else picture.size
        return [_object(source, fields, names, size) for source, fields in lines_of(file)]

    found = read_files(
        place, pictures, ".txt", objects, skip=lambda file: file.name in _NAME_FILES, progress=options.progress
    )
    found.categories = None if names is None else tuple(dict.fromkeys(names[number] for number in sorted(names)))
    return found


def _object(source: str, fields: list[str], names: dict[int, str] | None, size: tuple[int, int] | None) -> Found:
    count = len(fields)
    if count != 5 and (count < 7 or count % 2 == 0):
        raise DataError(f"{source}: {count} fields in {' '.join(fields)[:120]!r}", _FORM)
    try:
        number = int(fields[0])
    except ValueError as error:
        raise DataError(f"{source}: class {fields[0]!r}", "a whole number") from error
    values = np.array(numbers(fields[1:], source, _FORM))
    finite = np.abs(values[np.isfinite(values)])
    if len(finite) and np.median(finite) > 2:  # a box may lie outside its image, but most of its numbers do not
        raise DataError(f"{source}: {values.tolist()} are pixels", _FORM, "divide by width and height")
    # An image that cannot be opened has no size; its boxes are counted and not used.
    width, height = size or (1, 1)
    if count == 5:
        (x, y), (half_width, half_height) = values[:2], np.maximum(values[2:], 0) / 2
        polygon = rectangle(x - half_width, y - half_height, x + half_width, y + half_height)
    else:
        polygon = points(values.tolist())
    polygon = polygon * (width, height)
    name = str(number) if names is None else names.get(number, str(number))
    if count in (5, 9):
        return Found(polygon, name, source, "hbox" if count == 5 else kind_of_corners(polygon))
    return Found(polygon, name, source, "polygon", segmentation=mask_of([polygon], [], width, height))


def _names(place: Path) -> dict[int, str] | None:
    """Find the list of class names nearest to the annotations."""
    folder = place.resolve() if place.is_dir() else place.resolve().parent
    for where in (folder, *list(folder.parents)[:2]):
        for name in _NAME_FILES:
            if (where / name).is_file():
                return _read_names(where / name)
    return None


def _read_names(file: Path) -> dict[int, str]:
    if file.suffix not in (".yaml", ".yml"):
        return {number: " ".join(fields) for number, (_, fields) in enumerate(lines_of(file))}
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({' '.join(str(error).split())})", "YAML with 'names'") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise DataError(f"{file} has no class names", "'names' as a list, or a mapping from number to name")
    return {number: str(name) for number, name in names.items()}
