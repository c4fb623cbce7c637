"""HRSC2016 xml: ships as oriented boxes with their angle in radians, and true masks in ``LandMask``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from geodistill.errors import DataError
from geodistill.label.formats.base import Found, Options, Read, attempt
from geodistill.label.formats.frame import Frames
from geodistill.label.formats.images import Picture, Pictures
from geodistill.label.formats.text import difficulty, numbers, parse_xml, read_files, require_text, text_of
from geodistill.label.formats.true_masks import ColourMask
from geodistill.label.records import rotated
from geodistill.spec import Colour, parse_colour

CATEGORY = "ship"
_ORIENTED = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")
_EDGES = ("box_xmin", "box_ymin", "box_xmax", "box_ymax")


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read a folder ``Annotations`` of xml files; true masks come from a folder ``LandMask`` beside it, if there.

    Every object is a ``ship``, unless ``category_field`` names the tag of its class, such as ``Class_ID``.
    """
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[Found]:
        root = parse_xml(file)
        if root.tag != "HRSC_Image":
            raise DataError(f"{file} has the root <{root.tag}>", "<HRSC_Image>", "choose the format that the file has")
        size = text_of(root, "Img_SizeWidth"), text_of(root, "Img_SizeHeight")
        return frames.fit(_objects(root, file, picture, options.category_field), picture, *size, file)

    found = read_files(place, pictures, ".xml", objects, image_name=_image_name, progress=options.progress)
    frames.tell()
    return found


def _image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "Img_FileName")


def _objects(root: Element, file: Path, picture: Picture, category_field: str | None) -> Iterator[Found]:
    mask_file = file.parent.parent / "LandMask" / f"{file.stem}.png"
    masks = None
    if mask_file.is_file() and picture.size is not None:
        masks = ColourMask.load(mask_file, *picture.size)
    for n, element in enumerate(root.iter("HRSC_Object"), 1):
        source = f"{file}:object {n}"
        category = text_of(element, category_field) if category_field else CATEGORY
        yield attempt(partial(_object, element, source, masks, category_field), source, category)


def _object(element: Element, source: str, masks: ColourMask | None, category_field: str | None) -> Found:
    values = numbers([text_of(element, tag) for tag in _ORIENTED], source, f"numbers {', '.join(_ORIENTED)}")
    left, top, right, bottom = numbers(
        [text_of(element, tag) for tag in _EDGES], source, f"numbers {', '.join(_EDGES)}"
    )
    colour = _colour(text_of(element, "seg_color"), source)
    return Found(
        polygon=rotated(*values),
        category=require_text(element, category_field, source) if category_field else CATEGORY,
        source=source,
        kind="rbox",
        difficult=difficulty(text_of(element, "difficult"), source),
        segmentation=None if masks is None or colour is None else masks.segmentation(colour),
        horizontal=(left, top, right, bottom),
    )


def _colour(text: str | None, source: str) -> Colour | None:
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
