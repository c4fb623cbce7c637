"""Formats that have one text or XML file per image: the files, their lines, the numbers in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.files import files_below
from geodistill.label.formats.raw_boxes import (
    ImageAnnotations,
    Picture,
    Pictures,
    RawBox,
    ReadResult,
)
from geodistill.reading import read_text

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
    """Read a format that has one file per image, below a folder, or one file; ``read`` reads one of them.

    Where a file's own name fits no image, ``image_name`` says the name that it holds; ``skip`` tells files that hold no
    annotations.

    Raises:
        DataError: No annotation file there, one that is malformed, or two for one image.
    """
    if not place.exists():
        raise DataError(f"no boxes at {place}", f"a folder of {suffix} files")
    files = [file for file in files_below(place, (suffix,)) if not skip(file)]
    if not files:
        raise DataError(f"no annotation in {place}", f"{suffix} files")
    result = ReadResult()
    taken: dict[str, Path] = {}
    for file in progress_bar(files, "reading boxes", progress, unit="file"):
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
        result.files.append(file)
        result.entries.append(ImageAnnotations(picture, read(file, picture)))
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
