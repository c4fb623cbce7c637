"""FAIR1M xml: five points a box, the first one repeated, and names with spaces, which become hyphens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from geodistill.errors import DataError
from geodistill.label.formats.base import Found, Options, Read, attempt
from geodistill.label.formats.frame import Frames
from geodistill.label.formats.images import Picture, Pictures
from geodistill.label.formats.text import difficulty, numbers, parse_xml, points, read_files, require_text, text_of
from geodistill.label.records import kind_of_corners


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read a folder of xml files, each named as its image or naming it in ``<source><filename>``."""
    frames = Frames()

    def objects(file: Path, picture: Picture) -> list[Found]:
        root = parse_xml(file)
        if root.find("objects") is None:
            raise DataError(f"{file} has no <objects>", "FAIR1M's xml", "choose the format that the file has")
        size = text_of(root, "size/width"), text_of(root, "size/height")
        return frames.fit(_objects(root, file), picture, *size, file)

    found = read_files(place, pictures, ".xml", objects, image_name=_image_name, progress=options.progress)
    frames.tell()
    return found


def _image_name(file: Path) -> str | None:
    return text_of(parse_xml(file), "source/filename")


def _objects(root: Element, file: Path) -> Iterator[Found]:
    for n, element in enumerate(root.iterfind("objects/object"), 1):
        source = f"{file}:object {n}"
        yield attempt(partial(_object, element, source), source, _name(element))


def _name(element: Element) -> str | None:
    name = text_of(element, "possibleresult/name")
    return None if name is None else "-".join(name.split())


def _object(element: Element, source: str) -> Found:
    texts = [(point.text or "").strip() for point in element.iterfind("points/point")]
    pairs = [text.split(",") for text in texts]
    if len(pairs) not in (4, 5) or any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{source}: points {'; '.join(texts)[:120]!r}", "four or five points 'x,y'")
    corners = points(numbers([value for pair in pairs for value in pair], source, "points 'x,y'"))
    if len(corners) == 5 and not np.array_equal(corners[0], corners[4], equal_nan=True):
        raise DataError(f"{source}: the fifth point is not the first", "four corners and the first one again")
    return Found(
        polygon=corners[:4],
        category="-".join(require_text(element, "possibleresult/name", source).split()),
        source=source,
        kind=kind_of_corners(corners[:4]),
        difficult=difficulty(text_of(element, "difficult"), source),
    )
