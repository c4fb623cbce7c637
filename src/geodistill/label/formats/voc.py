"""Pascal VOC xml, with DIOR's horizontal and oriented boxes in both of their tag styles.

CVAT writes a turned box as an upright one with an attribute ``rotation``, degrees clockwise about its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from geodistill.errors import DataError
from geodistill.label.formats.base import Found, Options, Read, attempt
from geodistill.label.formats.frame import Frames
from geodistill.label.formats.images import Picture, Pictures
from geodistill.label.formats.text import (
    difficulty,
    numbers,
    parse_xml,
    points,
    radians_of,
    read_files,
    require_text,
    text_of,
)
from geodistill.label.records import Bounds, kind_of_corners, rectangle, rotated

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)
_ANGLED = ("cx", "cy", "w", "h", "angle")
_STYLES = (_EDGES, _CORNERS, _ANGLED)


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read a folder of xml files, each named as its image or naming it in ``<filename>``."""
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[Found]:
        root = parse_xml(file)
        if root.tag.lower() != "annotation":
            raise DataError(f"{file} has the root <{root.tag}>", "<annotation>", "choose the format that the file has")
        size = text_of(root, "size/width"), text_of(root, "size/height")
        return frames.fit(_objects(root, file), picture, *size, file)

    found = read_files(place, pictures, ".xml", objects, image_name=_image_name, progress=options.progress)
    frames.tell()
    return found


def _image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "filename")


def _objects(root: Element, file: Path) -> Iterator[Found]:
    for n, element in enumerate(root.iter("object"), 1):
        source = f"{file}:object {n}"
        yield attempt(partial(_object, element, source), source, text_of(element, "name"))


def _object(element: Element, source: str) -> Found:
    values, horizontal = None, None
    # DIOR writes xmin..ymax below either tag; where both stand, robndbox is the oriented box.
    for tag in ("robndbox", "bndbox"):
        box = element.find(tag)
        if box is None:
            continue
        if values is None:
            values = _values(box, source)
        else:
            horizontal = _bounds(box, source)
    if values is None:
        raise DataError(f"{source} has no box", "<bndbox> or <robndbox>")
    turn = _turn(element, source)
    if len(values) == len(_CORNERS):
        corners = points(values)
    elif len(values) == len(_EDGES) and turn:
        left, top, right, bottom = values
        corners = rotated((left + right) / 2, (top + bottom) / 2, abs(right - left), abs(bottom - top), turn)
    elif len(values) == len(_EDGES):
        corners = rectangle(*values)
    else:
        corners = rotated(*values)
    return Found(
        polygon=corners,
        category=require_text(element, "name", source),
        source=source,
        kind="hbox" if len(values) == len(_EDGES) and not turn else kind_of_corners(corners),
        difficult=difficulty(text_of(element, "difficult"), source),
        horizontal=horizontal,
    )


def _values(box: Element, source: str) -> list[float]:
    for tags in _STYLES:
        if box.find(tags[0]) is not None:
            return numbers([text_of(box, tag) for tag in tags], source, f"numbers {', '.join(tags)}")
    raise DataError(f"{source}: <{box.tag}> has no known corner", " or ".join(", ".join(tags) for tags in _STYLES))


def _bounds(box: Element, source: str) -> Bounds:
    left, top, right, bottom = numbers([text_of(box, tag) for tag in _EDGES], source, f"numbers {', '.join(_EDGES)}")
    return left, top, right, bottom


def _turn(element: Element, source: str) -> float:
    """Return the angle of a box that was turned in CVAT, in radians clockwise about its centre; mostly 0."""
    for attribute in element.iterfind("attributes/attribute"):
        if text_of(attribute, "name") == "rotation":
            return radians_of(text_of(attribute, "value"), source)
    return 0.0
