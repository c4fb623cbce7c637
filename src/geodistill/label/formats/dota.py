"""DOTA text: one object a line, ``x1 y1 x2 y2 x3 y3 x4 y4 category difficult``, after optional header lines.

Versions 1.0, 1.5 and 2.0 share the form; horizontal boxes (``_hbb``) are written with the same eight numbers.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from geodistill.errors import DataError
from geodistill.label.formats.base import Found, Options, Read, attempt
from geodistill.label.formats.images import Picture, Pictures
from geodistill.label.formats.text import difficulty, lines_of, numbers, points, read_files
from geodistill.label.records import kind_of_corners

_HEADER = re.compile(r"(imagesource|gsd|acquisition[ _]?dates?)\b|[a-z][\w ]*[:=]", re.IGNORECASE)
_FORM = "x1 y1 x2 y2 x3 y3 x4 y4 category difficult"


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read a folder of text files, each named as its image."""
    return read_files(place, pictures, ".txt", _objects, progress=options.progress)


def _objects(file: Path, _: Picture) -> list[Found]:
    found: list[Found] = []
    for source, fields in lines_of(file):
        if not found and _HEADER.match(" ".join(fields)):
            continue
        found.append(attempt(partial(_object, fields, source), source, fields[8] if len(fields) > 8 else None))
    return found


def _object(fields: list[str], source: str) -> Found:
    if len(fields) not in (9, 10):
        raise DataError(f"{source}: {len(fields)} fields in {' '.join(fields)[:120]!r}", _FORM)
    corners = points(numbers(fields[:8], source, _FORM))
    return Found(
        polygon=corners,
        category=fields[8],
        source=source,
        kind=kind_of_corners(corners),
        difficult=difficulty(fields[9] if len(fields) == 10 else None, source),
    )
