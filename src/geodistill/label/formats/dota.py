"""DOTA's text: one file per image, one object per line, four corners each."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from geodistill.errors import DataError
from geodistill.label.boxes import kind_of_corners
from geodistill.label.formats.per_image import difficulty, lines_of, numbers, read_files
from geodistill.label.formats.raw_boxes import Picture, Pictures, RawBox, ReadOptions, ReadResult, attempt, points
from geodistill.reading import ANNOTATION_BYTES, read_text

_DOTA_HEADER = re.compile(r"(imagesource|gsd|acquisition[ _]?dates?)\b|[a-z][\w ]*[:=]", re.IGNORECASE)
_DOTA_FORM = "x1 y1 x2 y2 x3 y3 x4 y4 category difficult"
_DOTA_GSD = re.compile(r"gsd\s*:\s*([0-9]*\.?[0-9]+)\s*$", re.IGNORECASE)


def _dota_gsd(file: Path) -> float | None:
    """Return the metres per pixel that a file's first lines say (``gsd:0.146``), or ``None``."""
    for line in read_text(file, ANNOTATION_BYTES).splitlines()[:3]:
        if (match := _DOTA_GSD.match(line.strip())) and 0 < float(match.group(1)) <= LARGEST_GSD:
            return float(match.group(1))
    return None


LARGEST_GSD = 1000.0
"""Metres per pixel that no detection set goes beyond."""


def read_dota(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read a folder of text files, each named as its image."""
    resolutions: dict[str, float | None] = {}

    def objects(file: Path, picture: Picture) -> list[RawBox]:
        resolutions[picture.key] = _dota_gsd(file)
        return _dota_objects(file)

    result = read_files(place, pictures, ".txt", objects, progress=options.progress)
    result.entries = [replace(entry, gsd=resolutions[entry.picture.key]) for entry in result.entries]
    return result


def _dota_objects(file: Path) -> list[RawBox]:
    boxes: list[RawBox] = []
    for source, fields in lines_of(file):
        if not boxes and _DOTA_HEADER.match(" ".join(fields)):
            continue
        boxes.append(attempt(partial(_dota_object, fields, source), source, fields[8] if len(fields) > 8 else None))
    return boxes


def _dota_object(fields: list[str], source: str) -> RawBox:
    if len(fields) not in (9, 10):
        raise DataError(f"{source}: {len(fields)} fields in {' '.join(fields)[:120]!r}", _DOTA_FORM)
    corners = points(numbers(fields[:8], source, _DOTA_FORM))
    return RawBox(
        polygon=corners,
        category=fields[8],
        source=source,
        kind=kind_of_corners(corners),
        difficult=difficulty(fields[9] if len(fields) == 10 else None, source),
    )
