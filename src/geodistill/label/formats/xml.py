"""XML of one file per image: Pascal VOC (with DIOR and CVAT), FAIR1M and HRSC2016."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException

from geodistill.errors import DataError
from geodistill.label.formats.images import Frames, Picture, Pictures
from geodistill.label.formats.raw_boxes import (
    FILE_BYTES,
    RawBox,
    ReadOptions,
    ReadResult,
    attempt,
    difficulty,
    numbers,
    points,
    radians_of,
    read_files,
)
from geodistill.label.formats.true_masks import ColourMask
from geodistill.label.records import Bounds, kind_of_corners, rectangle, rotated
from geodistill.reading import read_bytes
from geodistill.spec import Colour, parse_colour


def parse_xml(file: Path) -> Element:
    """Return the root element.

    Raises:
        DataError: The file cannot be read, is malformed, declares entities (which could blow it up or fetch other
            files), or is of CVAT's own kind.
    """
    data = read_bytes(file, FILE_BYTES)
    try:
        root: Any = defusedxml.ElementTree.fromstring(data)
    except ParseError as error:
        raise DataError(f"{file}:{error.position[0]} is malformed ({error})", "XML") from error
    except DefusedXmlException as error:
        raise DataError(f"{file} declares entities, which is refused", "plain XML", "remove its DOCTYPE") from error
    except (ValueError, LookupError) as error:  # an encoding that the parser does not know
        raise DataError(f"{file} is malformed ({error})", "XML in UTF-8", "convert the file") from error
    if root.tag == "annotations":
        raise DataError(
            f"{file} is CVAT's own format (its root is <annotations>)",
            "one xml file per image",
            "export from CVAT as 'COCO 1.0' or 'PASCAL VOC 1.1'",
        )
    return root  # type: ignore[no-any-return]


def text_of(element: Element, tag: str) -> str | None:
    """Return the text below ``tag`` without blanks at its ends; ``None`` where missing or empty."""
    return (element.findtext(tag) or "").strip() or None


def require_text(element: Element, tag: str, source: str) -> str:
    """Return the text below ``tag``.

    Raises:
        DataError: It is missing or empty.
    """
    text = text_of(element, tag)
    if text is None:
        raise DataError(f"{source} has no {tag}", f"<{tag}> with a text")
    return text


def _scaled(
    objects: Iterable[RawBox], frames: Frames, picture: Picture, width: object, height: object, source: Path
) -> list[RawBox]:
    """Return the objects of an image in its own pixels, or to be dropped where it has another size.

    Args:
        objects: As annotated.
        frames: Compares sizes, and remembers which images were annotated at another one.
        picture: The image.
        width: Of the image, as annotations give it, in pixels.
        height: Of the image, as annotations give it, in pixels.
        source: The annotation file.
    """
    try:
        scale = frames.scale(picture, width, height, source)
    except DataError as error:
        return [replace(box, fault=error, reason="another size") for box in objects]
    return [box.scaled(scale) for box in objects]


_VOC_EDGES = ("xmin", "ymin", "xmax", "ymax")
_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)
_ANGLED = ("cx", "cy", "w", "h", "angle")
_STYLES = (_VOC_EDGES, _CORNERS, _ANGLED)


def read_voc(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of xml files, each named as its image or naming it in ``<filename>``."""
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        root = parse_xml(file)
        if root.tag.lower() != "annotation":
            raise DataError(f"{file} has the root <{root.tag}>", "<annotation>", "choose the format that the file has")
        size = text_of(root, "size/width"), text_of(root, "size/height")
        return _scaled(_voc_objects(root, file), frames, picture, *size, file)

    result = read_files(place, pictures, ".xml", objects, image_name=_voc_image_name, progress=options.progress)
    frames.tell()
    return result


def _voc_image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "filename")


def _voc_objects(root: Element, file: Path) -> Iterator[RawBox]:
    for n, element in enumerate(root.iter("object"), 1):
        source = f"{file}:object {n}"
        yield attempt(partial(_voc_object, element, source), source, text_of(element, "name"))


def _voc_object(element: Element, source: str) -> RawBox:
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
    elif len(values) == len(_VOC_EDGES) and turn:
        left, top, right, bottom = values
        corners = rotated((left + right) / 2, (top + bottom) / 2, abs(right - left), abs(bottom - top), turn)
    elif len(values) == len(_VOC_EDGES):
        corners = rectangle(*values)
    else:
        corners = rotated(*values)
    return RawBox(
        polygon=corners,
        category=require_text(element, "name", source),
        source=source,
        kind="hbox" if len(values) == len(_VOC_EDGES) and not turn else kind_of_corners(corners),
        difficult=difficulty(text_of(element, "difficult"), source),
        horizontal=horizontal,
    )


def _values(box: Element, source: str) -> list[float]:
    for tags in _STYLES:
        if box.find(tags[0]) is not None:
            return numbers([text_of(box, tag) for tag in tags], source, f"numbers {', '.join(tags)}")
    raise DataError(f"{source}: <{box.tag}> has no known corner", " or ".join(", ".join(tags) for tags in _STYLES))


def _bounds(box: Element, source: str) -> Bounds:
    left, top, right, bottom = numbers(
        [text_of(box, tag) for tag in _VOC_EDGES], source, f"numbers {', '.join(_VOC_EDGES)}"
    )
    return left, top, right, bottom


def _turn(element: Element, source: str) -> float:
    """Return the angle of a box that was turned in CVAT, in radians clockwise about its centre; mostly 0."""
    for attribute in element.iterfind("attributes/attribute"):
        if text_of(attribute, "name") == "rotation":
            return radians_of(text_of(attribute, "value"), source)
    return 0.0


def read_fair1m(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of xml files, each named as its image or naming it in ``<source><filename>``."""
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        root = parse_xml(file)
        if root.find("objects") is None:
            raise DataError(f"{file} has no <objects>", "FAIR1M's xml", "choose the format that the file has")
        size = text_of(root, "size/width"), text_of(root, "size/height")
        return _scaled(_fair1m_objects(root, file), frames, picture, *size, file)

    result = read_files(place, pictures, ".xml", objects, image_name=_fair1m_image_name, progress=options.progress)
    frames.tell()
    return result


def _fair1m_image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "source/filename")


def _fair1m_objects(root: Element, file: Path) -> Iterator[RawBox]:
    for n, element in enumerate(root.iterfind("objects/object"), 1):
        source = f"{file}:object {n}"
        yield attempt(partial(_fair1m_object, element, source), source, _fair1m_name(element))


def _fair1m_name(element: Element) -> str | None:
    name = text_of(element, "possibleresult/name")
    return None if name is None else "-".join(name.split())


def _fair1m_object(element: Element, source: str) -> RawBox:
    texts = [(point.text or "").strip() for point in element.iterfind("points/point")]
    pairs = [text.split(",") for text in texts]
    if len(pairs) not in (4, 5) or any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{source}: points {'; '.join(texts)[:120]!r}", "four or five points 'x,y'")
    corners = points(numbers([value for pair in pairs for value in pair], source, "points 'x,y'"))
    if len(corners) == 5 and not np.array_equal(corners[0], corners[4], equal_nan=True):
        raise DataError(f"{source}: the fifth point is not the first", "four corners and the first one again")
    return RawBox(
        polygon=corners[:4],
        category="-".join(require_text(element, "possibleresult/name", source).split()),
        source=source,
        kind=kind_of_corners(corners[:4]),
        difficult=difficulty(text_of(element, "difficult"), source),
    )


CATEGORY = "ship"
_ORIENTED = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")
_HRSC_EDGES = ("box_xmin", "box_ymin", "box_xmax", "box_ymax")


def read_hrsc(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder ``Annotations`` of xml files; true masks come from a folder ``LandMask`` beside it, if there.

    Every object is a ``ship``, unless ``category_field`` names the tag of its class, such as ``Class_ID``.
    """
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        root = parse_xml(file)
        if root.tag != "HRSC_Image":
            raise DataError(f"{file} has the root <{root.tag}>", "<HRSC_Image>", "choose the format that the file has")
        size = text_of(root, "Img_SizeWidth"), text_of(root, "Img_SizeHeight")
        return _scaled(_hrsc_objects(root, file, picture, options.category_field), frames, picture, *size, file)

    result = read_files(place, pictures, ".xml", objects, image_name=_hrsc_image_name, progress=options.progress)
    frames.tell()
    return result


def _hrsc_image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "Img_FileName")


def _hrsc_objects(root: Element, file: Path, picture: Picture, category_field: str | None) -> Iterator[RawBox]:
    mask_file = file.parent.parent / "LandMask" / f"{file.stem}.png"
    masks = None
    if mask_file.is_file() and picture.size is not None:
        masks = ColourMask.load(mask_file, *picture.size)
    for n, element in enumerate(root.iter("HRSC_Object"), 1):
        source = f"{file}:object {n}"
        category = text_of(element, category_field) if category_field else CATEGORY
        yield attempt(partial(_hrsc_object, element, source, masks, category_field), source, category)


def _hrsc_object(element: Element, source: str, masks: ColourMask | None, category_field: str | None) -> RawBox:
    values = numbers([text_of(element, tag) for tag in _ORIENTED], source, f"numbers {', '.join(_ORIENTED)}")
    left, top, right, bottom = numbers(
        [text_of(element, tag) for tag in _HRSC_EDGES], source, f"numbers {', '.join(_HRSC_EDGES)}"
    )
    colour = _hrsc_colour(text_of(element, "seg_color"), source)
    return RawBox(
        polygon=rotated(*values),
        category=require_text(element, category_field, source) if category_field else CATEGORY,
        source=source,
        kind="rbox",
        difficult=difficulty(text_of(element, "difficult"), source),
        segmentation=None if masks is None or colour is None else masks.segmentation(colour),
        horizontal=(left, top, right, bottom),
    )


def _hrsc_colour(text: str | None, source: str) -> Colour | None:
    """Read ``r,g,b``; many objects have none."""
    if text is None:
        return None
    values = re.split(r"[,\s]+", text)
    if not all(value.isascii() and value.isdigit() for value in values):
        raise DataError(f"{source}: seg_color {text!r}", "r,g,b")
    try:
        return parse_colour([int(value) for value in values])
    except (DataError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise DataError(f"{source}: seg_color {text!r}", "r,g,b in 0..255") from error
