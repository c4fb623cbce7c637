"""XML of one file per image: Pascal VOC (with DIOR and CVAT), FAIR1M and HRSC2016."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException

from geodistill.errors import DataError
from geodistill.label.boxes import Bounds, kind_of_corners, rectangle, rotated
from geodistill.label.formats.per_image import FILE_BYTES, difficulty, numbers, read_files
from geodistill.label.formats.raw_boxes import (
    Frames,
    Picture,
    Pictures,
    RawBox,
    ReadOptions,
    ReadResult,
    attempt,
    points,
    radians_of,
    side,
)
from geodistill.label.formats.true_masks import ColourMask
from geodistill.legend_entries import Colour, parse_colour
from geodistill.reading import read_bytes


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


@dataclass(frozen=True)
class _XmlFormat:
    """What sets one format apart.

    Attributes:
        image_name: Tag of the image's name.
        size: Tags of the image's width and height.
        check: Refuses a root that is of another format.
        objects: Yields the objects below the root of a file about an image.
    """

    image_name: str
    size: tuple[str, str]
    check: Callable[[Element, Path], None]
    objects: Callable[[Element, Path, Picture], Iterator[RawBox]]


def _read(form: _XmlFormat, place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of xml files, each named as its image or naming it; boxes come out in the image's own pixels.

    Those of an image that has another size and aspect ratio than its file says have that as their fault.
    """
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        root = parse_xml(file)
        form.check(root, file)
        width, height = (text_of(root, tag) for tag in form.size)
        boxes = form.objects(root, file, picture)
        try:
            scale = frames.scale(picture, width, height, file)
        except DataError as error:
            return [replace(box, fault=error, reason="another size") for box in boxes]
        return [box.scaled(scale) for box in boxes]

    def image_name(file: Path) -> str | None:
        return text_of(parse_xml(file), form.image_name)

    result = read_files(place, pictures, ".xml", objects, image_name=image_name, progress=options.progress)
    frames.tell()
    return result


def _objects(
    elements: Iterable[Element],
    file: Path,
    make: Callable[[Element, str], RawBox],
    category: Callable[[Element], str | None],
) -> Iterator[RawBox]:
    """Yield the object of each element; one that cannot be read is dropped as malformed, under its class."""
    for n, element in enumerate(elements, 1):
        source = f"{file}:object {n}"
        yield attempt(partial(make, element, source), source, category(element))


_VOC_EDGES = ("xmin", "ymin", "xmax", "ymax")
_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)
_ANGLED = ("cx", "cy", "w", "h", "angle")
_STYLES = (_VOC_EDGES, _CORNERS, _ANGLED)


def read_voc(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of xml files, each named as its image or naming it in ``<filename>``."""

    def check(root: Element, file: Path) -> None:
        if root.tag.lower() != "annotation":
            raise DataError(f"{file} has the root <{root.tag}>", "<annotation>", "choose the format that the file has")

    def objects(root: Element, file: Path, _: Picture) -> Iterator[RawBox]:
        return _objects(root.iter("object"), file, _voc_object, lambda element: text_of(element, "name"))

    form = _XmlFormat("filename", ("size/width", "size/height"), check, objects)
    return _read(form, place, pictures, options)


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
            horizontal = _bounds(box, _VOC_EDGES, source)
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
            return _numbers(box, tags, source)
    raise DataError(f"{source}: <{box.tag}> has no known corner", " or ".join(", ".join(tags) for tags in _STYLES))


def _numbers(element: Element, tags: Sequence[str], source: str) -> list[float]:
    return numbers([text_of(element, tag) for tag in tags], source, f"numbers {', '.join(tags)}")


def _bounds(element: Element, tags: Sequence[str], source: str) -> Bounds:
    left, top, right, bottom = _numbers(element, tags, source)
    return left, top, right, bottom


def _turn(element: Element, source: str) -> float:
    """Return the angle of a box that was turned in CVAT, in radians clockwise about its centre; mostly 0."""
    for attribute in element.iterfind("attributes/attribute"):
        if text_of(attribute, "name") == "rotation":
            return radians_of(text_of(attribute, "value"), source)
    return 0.0


def read_fair1m(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of xml files, each named as its image or naming it in ``<source><filename>``."""

    def check(root: Element, file: Path) -> None:
        if root.find("objects") is None:
            raise DataError(f"{file} has no <objects>", "FAIR1M's xml", "choose the format that the file has")

    def objects(root: Element, file: Path, _: Picture) -> Iterator[RawBox]:
        return _objects(root.iterfind("objects/object"), file, _fair1m_object, _fair1m_name)

    form = _XmlFormat("source/filename", ("size/width", "size/height"), check, objects)
    return _read(form, place, pictures, options)


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
_HRSC_SIZE = ("Img_SizeWidth", "Img_SizeHeight")
_HRSC_EDGES = ("box_xmin", "box_ymin", "box_xmax", "box_ymax")


def read_hrsc(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder ``Annotations`` of xml files; true masks come from ``LandMask`` beside it, if there.

    Or from ``FullDataSet/LandMask`` beside the folder that it is in. Where a colour has no pixel, the mask is empty.

    Every object is a ``ship``, unless ``category_field`` names the tag of its class, such as ``Class_ID``.
    """
    tag = options.category_field

    def check(root: Element, file: Path) -> None:
        if root.tag != "HRSC_Image":
            raise DataError(f"{file} has the root <{root.tag}>", "<HRSC_Image>", "choose the format that the file has")

    def objects(root: Element, file: Path, picture: Picture) -> Iterator[RawBox]:
        split = file.parent.parent
        places = (split / "LandMask", split.parent / "FullDataSet" / "LandMask")
        mask_file = next((path for path in (p / f"{file.stem}.png" for p in places) if path.is_file()), None)
        masks = None
        if mask_file is not None and picture.size is not None:
            annotated = tuple(side(text_of(root, name)) for name in _HRSC_SIZE)
            masks = ColourMask.load(mask_file, *picture.size, drawn=annotated)
        make = partial(_hrsc_object, masks=masks, tag=tag)
        return _objects(
            root.iter("HRSC_Object"), file, make, lambda element: text_of(element, tag) if tag else CATEGORY
        )

    form = _XmlFormat("Img_FileName", _HRSC_SIZE, check, objects)
    return _read(form, place, pictures, options)


def _hrsc_object(element: Element, source: str, masks: ColourMask | None, tag: str | None) -> RawBox:
    values = _numbers(element, _ORIENTED, source)
    horizontal = _bounds(element, _HRSC_EDGES, source)
    colour = _hrsc_colour(text_of(element, "seg_color"), source)
    return RawBox(
        polygon=rotated(*values),
        category=require_text(element, tag, source) if tag else CATEGORY,
        source=source,
        kind="rbox",
        difficult=difficulty(text_of(element, "difficult"), source),
        segmentation=None if masks is None or colour is None else masks.runs(colour).to_coco(),
        horizontal=horizontal,
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
