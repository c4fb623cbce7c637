"""What stands beside YOLO's text files: the names of the classes, and the form of key points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodistill.errors import DataError
from geodistill.label.formats.text import all_lines
from geodistill.reading import read_yaml

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")


@dataclass(frozen=True)
class ClassList:
    """Classes of a set.

    Attributes:
        names: Name of each class number.
        keypoints: Key points of an object, and numbers a point (2, or 3 with its visibility); ``None`` where unknown.
    """

    names: dict[int, str]
    keypoints: tuple[int, int] | None = None


def find_class_list(place: Path) -> ClassList | None:
    """Return the class list nearest to the annotations: in their folder or one of the two above it.

    Raises:
        DataError: It cannot be used.
    """
    folder = place.resolve() if place.is_dir() else place.resolve().parent
    for where in (folder, *list(folder.parents)[:2]):
        for name in NAME_FILES:
            if (where / name).is_file():
                return _read(where / name)
    return None


def _read(file: Path) -> ClassList:
    if file.suffix in (".yaml", ".yml"):
        return _read_yaml(file)
    # The number of a class is that of its line, so a blank one counts: it is a number without a name.
    names = {number: " ".join(line.split()) for number, line in enumerate(all_lines(file)) if line.strip()}
    if not names:
        raise DataError(f"{file} has no class names", "one name a line")
    return ClassList(names)


def _read_yaml(file: Path) -> ClassList:
    content: Any = read_yaml(file)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    expected = "'names' as a list, or a mapping from number to name"
    if not isinstance(names, dict) or not names:
        raise DataError(f"{file} has no class names", expected)
    numbered: dict[int, str] = {}
    for number, name in names.items():
        try:
            key = int(number) if isinstance(number, int | str) and not isinstance(number, bool) else None
        except ValueError:
            key = None
        if key is None or not isinstance(name, str | int | float) or key in numbered:
            raise DataError(f"{file} has no class names ({str(number)[:40]!r}: {str(name)[:40]!r})", expected)
        numbered[key] = str(name).strip()
    return ClassList(numbered, _keypoints(content.get("kpt_shape"), file))


def _keypoints(shape: Any, file: Path) -> tuple[int, int] | None:
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)):
        raise DataError(f"{file}: kpt_shape {str(shape)[:80]}", "[key points, 2 or 3 numbers a point]")
    count, numbers = shape
    if not 1 <= count <= 10_000 or numbers not in (2, 3):
        raise DataError(f"{file}: kpt_shape {shape}", "[key points, 2 or 3 numbers a point]")
    return count, numbers
