"""COCO json: boxes, with true masks as polygons or run lengths; crowds are counted and not used.

Boxes that were turned in the tool come as rotated boxes: CVAT and Datumaro write the upright box and
``attributes.rotation``, degrees clockwise about its centre; a ``rotation`` beside the box is Label Studio's, degrees
clockwise about its top left corner.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, GeodistillWarning
from geodistill.files import files_below
from geodistill.label.annotated_masks import checked_runs, coco_polygons, resampled
from geodistill.label.boxes import Kind, bounds_of, kind_of_corners, rectangle, rotated
from geodistill.label.formats.raw_boxes import (
    SAME,
    Frames,
    ImageAnnotations,
    Picture,
    Pictures,
    RawBox,
    ReadOptions,
    ReadResult,
    Scale,
    attempt,
    lost,
    points,
    radians_of,
    side,
)
from geodistill.label.masks import Runs
from geodistill.reading import ANNOTATION_BYTES, read_json

_BBOX = "bbox [x, y, width, height] in pixels"
_OTHERS = {
    "shapes": "LabelMe's",
    "items": "Datumaro's",
    "_via_img_metadata": "the VGG Image Annotator's",
    "features": "a GeoJSON",
}
"""Keys that tell json of other tools."""


@dataclass(frozen=True)
class _Listed:
    """An image of the file, with the size that the file gives it, and what is wrong with that."""

    picture: Picture
    scale: Scale
    width: int
    height: int
    misfit: DataError | None = None


def read(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read one json file, or every json file of a folder; categories are in the order of their ids.

    Where there are no categories, their ids are the names.
    """
    if not place.exists():
        raise DataError(f"no boxes at {place}", "a COCO json file, or a folder of them")
    files = files_below(place, (".json",))
    if not files:
        raise DataError(f"no annotation in {place}", ".json files")
    result = ReadResult()
    taken: dict[str, Path] = {}
    names: list[str] = []
    parents: set[str] = set()
    frames = Frames()
    for file in files:
        content = _content(file)
        categories = _categories(content.get("categories"), file)
        names += categories.values()
        parents |= {str(item.get("supercategory")) for item in content.get("categories") or []}
        for entry in _entries(content, categories, file, pictures, frames, result):
            if entry.picture.key in taken:
                other = taken[entry.picture.key]
                raise DataError(f"{other} and {file} both list {entry.picture.path.name}", "each image once")
            taken[entry.picture.key] = file
            result.entries.append(entry)
    for file in files:
        (result.files if file in taken.values() else result.lists).append(file)
    frames.tell()
    result.categories = tuple(dict.fromkeys(names)) or None
    if options.categories is None:
        _tell_idle_parents(result, parents)
    return result


def _tell_idle_parents(result: ReadResult, parents: set[str]) -> None:
    """Tell of super-categories that are listed as classes and have no box, as Roboflow writes them."""
    used = {one.category for entry in result.entries for one in entry.objects}
    if idle := [name for name in result.categories or () if name in parents and name not in used]:
        warnings.warn(
            f"no box is of the super-category {', '.join(idle)}, which is a class all the same;"
            " to leave it out, name the classes wanted",
            GeodistillWarning,
            stacklevel=3,
        )


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file, ANNOTATION_BYTES)
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations")):
        return content
    kind = "Label Studio's own json" if isinstance(content, list) and _has(content, "result", "annotations") else ""
    if isinstance(content, dict):
        kind = next((f"{whose} json" for key, whose in _OTHERS.items() if key in content), "")
    raise DataError(
        f"{file} is no COCO file" + (f" but {kind}" if kind else ""),
        "a mapping with the lists 'images' and 'annotations'",
        "export it as COCO" if kind else "",
    )


def _has(items: list[Any], *keys: str) -> bool:
    return bool(items) and isinstance(items[0], dict) and any(key in items[0] for key in keys)


def id_text(value: object) -> str | None:
    """Return an id as text, since tools write 7, 7.0 and "7" for one id; ``None`` where it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else None


def is_crowd(item: Mapping[str, Any]) -> bool:
    """Whether an annotation stands for a group that nobody counted."""
    return item.get("iscrowd") in (1, "1")


def _categories(items: Any, file: Path) -> dict[str, str]:
    expected = "a list of categories, each with an 'id' of its own and a 'name'"
    if items is None:
        return {}
    if not isinstance(items, list):
        raise DataError(f"{file}: categories", expected)
    names: dict[str, str] = {}
    for n, item in enumerate(items, 1):
        key = id_text(item.get("id")) if isinstance(item, dict) else None
        if key is None or not isinstance(item.get("name"), str | int | float):
            raise DataError(f"{file}: category {n}", expected)
        name = str(item["name"])
        if names.setdefault(key, name) != name:
            raise DataError(f"{file}: categories {names[key]!r} and {name!r} have the id {key}", expected)
    # Text may have more digits than Python makes a number of.
    numbered = all(key.isascii() and key.removeprefix("-").isdigit() and len(key) < 20 for key in names)
    return {key: names[key] for key in sorted(names, key=int)} if numbered else names


def _entries(
    content: Mapping[str, Any],
    categories: Mapping[str, str],
    file: Path,
    pictures: Pictures,
    frames: Frames,
    result: ReadResult,
) -> list[ImageAnnotations]:
    listed = _listed(content["images"], file, pictures, frames, result)
    objects: dict[str, list[RawBox]] = {key: [] for key, image in listed.items() if image is not None}
    strangers = 0
    for n, item in enumerate(content["annotations"], 1):
        source = f"{file}:object {n}"
        at = id_text(item.get("image_id")) if isinstance(item, dict) else None
        if at is None:
            result.faults.append(DataError(source, "an annotation with 'image_id' and 'category_id'"))
            result.unmatched.append(f"{source} (no image_id)")
        elif at not in listed:
            strangers += 1
            result.unmatched.append(f"{source} (of image {item['image_id']!r})")
        elif (image := listed[at]) is not None:
            category = id_text(item.get("category_id"))
            name = None if category is None else categories.get(category, category)
            if image.misfit is not None:
                objects[at].append(lost(image.misfit, source, name, "another size"))
            else:
                objects[at].append(attempt(partial(_object, item, source, name, image), source, name))
    if strangers and strangers == len(content["annotations"]):
        ids = ", ".join(repr(item.get("id")) for item in content["images"][:3] if isinstance(item, dict))
        raise DataError(
            f"no annotation of {file} has the id of an image: the first is of image"
            f" {content['annotations'][0]['image_id']!r}",
            f"ids as those of the images, such as {ids or '(there is no image)'}",
        )
    return [ImageAnnotations(image.picture, objects[at]) for at, image in listed.items() if image is not None]


def _listed(
    items: list[Any], file: Path, pictures: Pictures, frames: Frames, result: ReadResult
) -> dict[str, _Listed | None]:
    """Return the images of a file by their ids, ``None`` where there is no such image."""
    listed: dict[str, _Listed | None] = {}
    for n, item in enumerate(items, 1):
        key = id_text(item.get("id")) if isinstance(item, dict) else None
        if key is None or not isinstance(item.get("file_name"), str):
            result.faults.append(DataError(f"{file}:image {n}", "an image with 'id' and 'file_name'"))
            result.unmatched.append(f"{file}:image {n} (no 'id' or no 'file_name')")
            continue
        if key in listed:
            raise DataError(f"{file}:image {n} has the id {key} of another", "each id once")
        picture = pictures.find(item["file_name"], file)
        listed[key] = None
        if picture is None:
            result.unmatched.append(f"{file}:{item['file_name']}")
            continue
        listed[key] = _sized(picture, item, frames, file)
    return listed


def _sized(picture: Picture, item: Mapping[str, Any], frames: Frames, file: Path) -> _Listed:
    width, height = item.get("width"), item.get("height")
    size = picture.size or (0, 0)
    try:
        scale = frames.scale(picture, width, height, file)
    except DataError as error:
        return _Listed(picture, SAME, *size, misfit=error)
    if scale != SAME:
        size = (round(side(width) or 0), round(side(height) or 0))
    return _Listed(picture, scale, *size)


def _object(item: Mapping[str, Any], source: str, category: str | None, image: _Listed) -> RawBox:
    if category is None:
        raise DataError(f"{source}: category_id {str(item.get('category_id'))[:80]}", "the id of a category")
    outline = item.get("segmentation")
    polygons = [polygon * image.scale for polygon in _polygons(outline, source)]
    segmentation = None
    if image.picture.size is not None and isinstance(outline, dict):
        segmentation = checked_runs(outline, image.width, image.height, source)
        if image.scale != SAME:
            segmentation = resampled(segmentation, *image.picture.size)
    box, kind = _box(item, polygons, segmentation, image.scale, source)
    if image.picture.size is not None and polygons:
        if kind == "rbox" and _is_box_itself(item, polygons, image.scale):
            polygons = [box]
        segmentation = coco_polygons(polygons, *image.picture.size)
    return RawBox(box, category, source, kind, segmentation=segmentation, crowd=is_crowd(item))


def _polygons(segmentation: Any, source: str) -> list[NDArray[np.float64]]:
    if segmentation is None or isinstance(segmentation, dict):
        return []
    parts: list[Any] = segmentation if isinstance(segmentation, list) else [segmentation]
    for part in parts:
        if not isinstance(part, list) or len(part) % 2 or not all(isinstance(value, int | float) for value in part):
            raise DataError(f"{source}: segmentation {str(part)[:80]}", "lists of x1, y1, x2, y2 ..., or run lengths")
    # A line or a point has no pixels; some tools write them beside the real parts.
    return [points([_number(value, source) for value in part]) for part in parts if len(part) >= 6]


def _box(
    item: Mapping[str, Any],
    polygons: list[NDArray[np.float64]],
    segmentation: Mapping[str, Any] | None,
    scale: Scale,
    source: str,
) -> tuple[NDArray[np.float64], Kind]:
    """Return the box, in pixels of the file: as written with an area, else around the mask, else of no area."""
    bbox = item.get("bbox") or [0, 0, 0, 0]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        raise DataError(f"{source}: bbox {str(bbox)[:80]}", _BBOX)
    x, y, width, height = (_number(value, source) for value in bbox)
    if width <= 0 or height <= 0:
        if polygons:
            return rectangle(*bounds_of([np.concatenate(polygons)])[0].tolist()), "hbox"
        runs = None if segmentation is None else Runs.from_coco(segmentation)
        top, left, bottom, right = runs.bounds if runs is not None and runs.area else (0, 0, 0, 0)
        return rectangle(left, top, right, bottom), "hbox"
    corners = rectangle(x, y, x + width, y + height)
    attributes = item.get("attributes")
    turn = radians_of(attributes.get("rotation") if isinstance(attributes, dict) else None, source)
    if turn:
        corners = rotated(x + width / 2, y + height / 2, width, height, turn)
    elif turn := radians_of(item.get("rotation"), source):
        corners = _about_corner(x, y, width, height, turn)
    return corners * scale, "hbox" if not turn else kind_of_corners(corners)


def _about_corner(x: float, y: float, width: float, height: float, angle: float) -> NDArray[np.float64]:
    """Return the corners of a box that was turned about its top left one."""
    cosine, sine = math.cos(angle), math.sin(angle)
    centre_x = x + (width * cosine - height * sine) / 2
    centre_y = y + (width * sine + height * cosine) / 2
    return rotated(centre_x, centre_y, width, height, angle)


def _is_box_itself(item: Mapping[str, Any], polygons: list[NDArray[np.float64]], scale: Scale) -> bool:
    """Whether the outline is no more than the upright box, which some tools write beside it."""
    if len(polygons) != 1 or len(polygons[0]) not in (4, 5) or kind_of_corners(polygons[0]) != "hbox":
        return False
    x, y, width, height = item["bbox"]
    upright = np.array((x, y, x + width, y + height)) * (*scale, *scale)
    return bool(np.allclose(bounds_of(polygons)[0], upright, atol=1))


def _number(value: float, source: str) -> float:
    try:
        return float(value)
    except OverflowError as error:  # JSON has whole numbers of any length
        raise DataError(f"{source}: {str(value)[:20]}... is no coordinate", "pixels") from error
