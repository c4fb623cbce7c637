"""What a reader of a format hands on before anything is judged, and the text and numbers that it reads."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from geodistill.errors import DataError
from geodistill.label.formats.images import Picture, Pictures, Scale, files_of
from geodistill.label.records import Bounds, Kind, Reason
from geodistill.reading import read_text


@dataclass(frozen=True, eq=False)
class RawBox:
    """One object as an annotation file says it; attributes as those of `geodistill.label.records.Box`.

    Attributes:
        crowd: Whether it stands for a group that nobody counted (COCO).
        fault: Why an object cannot be used whatever its polygon, or ``None``.
        reason: Under which reason one with a fault is counted.
    """

    polygon: NDArray[np.float64]
    category: str
    source: str
    kind: Kind
    difficult: int = 0
    segmentation: dict[str, Any] | None = None
    horizontal: Bounds | None = None
    crowd: bool = False
    fault: DataError | None = None
    reason: Reason = "malformed"

    def scaled(self, scale: Scale) -> RawBox:
        """Return the object with polygon and horizontal box scaled; a mask is in the frame of the file already."""
        if scale == (1.0, 1.0):
            return self
        (x, y), horizontal = scale, self.horizontal
        if horizontal is not None:
            horizontal = (horizontal[0] * x, horizontal[1] * y, horizontal[2] * x, horizontal[3] * y)
        return replace(self, polygon=self.polygon * scale, horizontal=horizontal)


def attempt(make: Callable[[], RawBox], source: str, category: str | None = None) -> RawBox:
    """Return what ``make`` returns; where it raises a DataError, an object that will be dropped as malformed."""
    try:
        return make()
    except DataError as error:
        return lost(error, source, category)


def lost(error: DataError, source: str, category: str | None, reason: Reason = "malformed") -> RawBox:
    """Return an object that will be dropped, with no place."""
    return RawBox(np.full((4, 2), np.nan), category or NO_CLASS, source, "hbox", fault=error, reason=reason)


NO_CLASS = "(no class)"
"""Class under which objects are counted that name none."""


@dataclass(frozen=True)
class ImageAnnotations:
    """Everything that one file says about one image."""

    picture: Picture
    source: Path
    objects: Sequence[RawBox]


@dataclass
class ReadResult:
    """What a reader found.

    Attributes:
        entries: One an image that has annotations, even empty ones.
        unmatched: Annotation entries without an image.
        categories: Class names in the format's own order, or ``None`` where it has no list of them.
        faults: What is wrong with objects that are unmatched because they cannot be read.
    """

    entries: list[ImageAnnotations] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    categories: tuple[str, ...] | None = None
    faults: list[DataError] = field(default_factory=list)


@dataclass(frozen=True)
class ReadOptions:
    """What a person may say about the annotations.

    Attributes:
        categories: Classes wanted, or ``None`` for all.
        category_field: Where an object's class stands, in formats that leave it open (GeoJSON, GeoPackage) or have
            more than one (HRSC2016).
        progress: Show a progress bar on a terminal.
    """

    categories: tuple[str, ...] | None = None
    category_field: str | None = None
    progress: bool = False


Reader = Callable[[Path, Pictures, ReadOptions], ReadResult]
"""A format: reads a place with annotations (file or folder) over these images."""
FILE_BYTES = 256 << 20
"""Bytes at most of a file of text or XML about one image."""
FileReader = Callable[[Path, Picture], Sequence[RawBox]]
"""Reads the annotation file of an image."""


def read_files(
    place: Path,
    pictures: Pictures,
    suffix: str,
    read: FileReader,
    *,
    image_name: Callable[[Path], str | None] | None = None,
    skip: Callable[[Path], bool] = lambda _: False,
    progress: bool = False,
) -> ReadResult:
    """Read a format that has one file per image.

    Args:
        place: Folder of annotation files, searched with its subfolders, or one file.
        pictures: The images.
        suffix: Of annotation files, in lower case.
        read: Reads one of them.
        image_name: Gives the image name that a file holds, asked where the file's own name fits no image.
        skip: Tells files that hold no annotations.
        progress: Show a progress bar on a terminal.

    Raises:
        DataError: No annotation file there, one that is malformed, or two for one image.
    """
    if not place.exists():
        raise DataError(f"no boxes at {place}", f"a folder of {suffix} files")
    files = sorted(file for file in files_of(place, (suffix,)) if not skip(file))
    if not files:
        raise DataError(f"no annotation in {place}", f"{suffix} files")
    result = ReadResult()
    taken: dict[str, Path] = {}
    for file in tqdm(files, "reading boxes", unit="file", disable=not (progress and sys.stderr.isatty())):
        below = file.parent.relative_to(place).as_posix().removeprefix(".") if place.is_dir() else ""
        picture = pictures.find(file.stem, file, below)
        if picture is None and image_name is not None and (name := image_name(file)):
            picture = pictures.find(name, file, below)
        if picture is None:
            result.unmatched.append(str(file))
            continue
        if picture.key in taken:
            raise DataError(f"{taken[picture.key]} and {file} are both of {picture.path.name}", "one file per image")
        taken[picture.key] = file
        result.entries.append(ImageAnnotations(picture, file, read(file, picture)))
    return result


def lines_of(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the fields of every line that is not blank; any line ends, with or without BOM.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(all_lines(file), 1):
        if fields := line.split():
            yield f"{file}:{number}", fields


def all_lines(file: Path) -> list[str]:
    """Return every line of a text file, blank ones too.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    return read_text(file, FILE_BYTES).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def numbers(fields: Sequence[str | None], source: str, expected: str) -> list[float]:
    """Read fields as numbers; NaN and infinity are numbers here.

    Raises:
        DataError: A field is missing or no number.
    """
    try:
        return [float(field) for field in fields]  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        wrong = " ".join("(nothing)" if field is None else field for field in fields)
        raise DataError(f"{source}: {wrong[:120]!r}", expected) from error


def points(values: Sequence[float]) -> NDArray[np.float64]:
    """Return x1, y1, x2, y2 ... as ``(V, 2)``."""
    return np.array(values, np.float64).reshape(-1, 2)


def difficulty(text: str | None, source: str) -> int:
    """Read 0, 1 or 2, or a word: true and yes are 1; false, no, unspecified and nothing are 0.

    Raises:
        DataError: It is another value.
    """
    word = (text or "").strip().lower()
    if word in _EASY:
        return 0
    if word in ("true", "yes"):
        return 1
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if number not in (0, 1, 2):
        raise DataError(f"{source}: difficult {text!r}", "0, 1 or 2, or true or false")
    return int(number)


_EASY = ("", "false", "no", "none", "unspecified")


def radians_of(value: object, source: str) -> float:
    """Return an angle, written in degrees, in radians below a full turn; 0 where there is none.

    Raises:
        DataError: It is no number.
    """
    if value is None:
        return 0.0
    try:
        angle = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        angle = math.nan
    if not math.isfinite(angle):
        raise DataError(f"{source}: rotation {str(value)[:80]}", "degrees")
    return math.radians(angle % 360)
