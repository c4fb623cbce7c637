"""COCO json: boxes, with true masks as polygons or run lengths; crowds are counted and not used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.label.boxes.found import Entry, Found, Options, Read
from geodistill.label.boxes.pictures import Picture, Pictures, files_of
from geodistill.label.boxes.rasterise import checked_runs, coco_polygons
from geodistill.label.boxes.text import points
from geodistill.label.geometry import bounds_of
from geodistill.label.records import rectangle

_BBOX = "bbox [x, y, width, height] in pixels"


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read one json file, or every json file of a folder; categories are in the order of their ids."""
    if not place.exists():
        raise DataError(f"no boxes at {place}", "a COCO json file, or a folder of them")
    files = sorted(files_of(place, (".json",)))
    if not files:
        raise DataError(f"no annotation in {place}", ".json files")
    found = Read()
    taken: dict[str, Path] = {}
    names: list[str] = []
    for file in files:
        content = load_json(file)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(k), list) for k in ("images", "annotations")
        ):
            raise DataError(f"{file} is no COCO file", "a mapping with the lists 'images' and 'annotations'")
        categories = _categories(content.get("categories", []), file)
        names += categories.values()
        for entry in _entries(content, categories, file, pictures, found.unmatched):
            if entry.picture.key in taken:
                other = taken[entry.picture.key]
                raise DataError(f"{other} and {file} both list {entry.picture.path.name}", "each image once")
            taken[entry.picture.key] = file
            found.entries.append(entry)
    found.categories = tuple(dict.fromkeys(names))
    return found


def load_json(file: Path) -> Any:
    """Read a json file.

    Raises:
        DataError: It is malformed; the message has the line.
    """
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno} is malformed ({error.msg})", "JSON") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text", "JSON in UTF-8") from error
    except RecursionError as error:
        raise DataError(f"{file} is nested too deep", "a COCO file") from error


def _categories(items: Any, file: Path) -> dict[Any, str]:
    if not isinstance(items, list) or not all(isinstance(c, dict) and "id" in c and "name" in c for c in items):
        raise DataError(f"{file}: categories", "a list of categories with 'id' and 'name'")
    numbered = all(isinstance(c["id"], int) for c in items)
    return {c["id"]: str(c["name"]) for c in (sorted(items, key=lambda c: int(c["id"])) if numbered else items)}


def _entries(
    content: Mapping[str, Any], categories: Mapping[Any, str], file: Path, pictures: Pictures, unmatched: list[str]
) -> list[Entry]:
    objects: dict[Any, list[Found]] = {}
    images: dict[Any, Picture] = {}
    for n, item in enumerate(content["images"], 1):
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str) or "id" not in item:
            raise DataError(f"{file}:image {n}", "an image with 'id' and 'file_name'")
        if item["id"] in objects:
            raise DataError(f"{file}:image {n} has the id {item['id']} of another", "each id once")
        objects[item["id"]] = []
        picture = pictures.find(item["file_name"], file)
        if picture is None:
            unmatched.append(f"{file}:{item['file_name']}")
        else:
            images[item["id"]] = picture
    for n, item in enumerate(content["annotations"], 1):
        source = f"{file}:object {n}"
        if not isinstance(item, dict) or "image_id" not in item or "category_id" not in item:
            raise DataError(source, "an annotation with 'image_id' and 'category_id'")
        if item["image_id"] not in objects:
            unmatched.append(f"{source} (of image {item['image_id']!r})")
        elif item["image_id"] in images:
            objects[item["image_id"]].append(_object(item, source, categories, images[item["image_id"]]))
    return [Entry(picture, file, objects[at]) for at, picture in images.items()]


def _object(item: Mapping[str, Any], source: str, categories: Mapping[Any, str], picture: Picture) -> Found:
    polygons = _polygons(item.get("segmentation"), source)
    segmentation = None
    if picture.size is not None:
        if polygons:
            segmentation = coco_polygons(polygons, *picture.size)
        elif isinstance(item.get("segmentation"), dict):
            segmentation = checked_runs(item["segmentation"], *picture.size, source)
    return Found(
        polygon=rectangle(*_bounds(item, polygons, source)),
        category=categories.get(item["category_id"], str(item["category_id"])),
        source=source,
        kind="hbox",
        segmentation=segmentation,
        crowd=bool(item.get("iscrowd", 0)),
    )


def _polygons(segmentation: Any, source: str) -> list[NDArray[np.float64]]:
    if segmentation is None or isinstance(segmentation, dict):
        return []
    parts: list[Any] = segmentation if isinstance(segmentation, list) else [segmentation]
    for part in parts:
        if not isinstance(part, list) or len(part) % 2 or not all(isinstance(value, int | float) for value in part):
            raise DataError(f"{source}: segmentation {str(part)[:80]}", "lists of x1, y1, x2, y2 ..., or run lengths")
    # A line or a point has no pixels; some tools write them beside the real parts.
    return [points([_number(value, source) for value in part]) for part in parts if len(part) >= 6]


def _bounds(item: Mapping[str, Any], polygons: list[NDArray[np.float64]], source: str) -> tuple[float, ...]:
    bbox = item.get("bbox")
    if not bbox and polygons:
        bounds = bounds_of([np.concatenate(polygons)])[0]
        return tuple(bounds.tolist())
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        raise DataError(f"{source}: bbox {str(bbox)[:80]}", _BBOX)
    x, y, width, height = (_number(value, source) for value in bbox)
    return x, y, x + max(width, 0), y + max(height, 0)


def _number(value: float, source: str) -> float:
    try:
        return float(value)
    except OverflowError as error:  # JSON has whole numbers of any length
        raise DataError(f"{source}: {str(value)[:20]}... is no coordinate", "pixels") from error
