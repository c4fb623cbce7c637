"""COCO files read back: all at once, or one annotation a line where ``label build`` wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from geodistill.errors import DataError
from geodistill.reading import ANNOTATION_BYTES, parse_json, parse_object, read_json

_STREAMED = b'{"annotations": ['
"""First line of a file that has one annotation a line, as ``label build`` writes them."""


def read_instances(file: Path) -> tuple[Callable[[], Iterator[Any]], dict[str, Any]]:
    """Return a function that yields the annotations, to be gone through once, and the rest of the file.

    Raises:
        DataError: The file is no COCO file, or is malformed; the function raises it too.
    """
    with _opened(file) as lines:
        if lines.readline(len(_STREAMED) + 2).strip() == _STREAMED:
            for line in lines:
                if line.startswith(b"]"):
                    break
            return lambda: _streamed(file), parse_object(b"{" + b"".join(lines), file)
    content = read_json(file, ANNOTATION_BYTES)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise DataError(f"{file} is no COCO file", "a mapping with the lists 'images' and 'annotations'")
    return lambda: iter(content["annotations"]), content


def _streamed(file: Path) -> Iterator[Any]:
    """Read one annotation a line, so that a set of millions needs no memory."""
    with _opened(file) as lines:
        next(lines)
        for number, line in enumerate(lines, 2):
            if line.startswith(b"]"):
                return
            yield parse_json(line.strip().removesuffix(b","), f"{file}:{number}")


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})", "a readable file") from error
