"""Writing files and folders whole or not at all, and never over what is not ours."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.errors import TURNING, OutputError, output_error
from geodistill.folders import LEFTOVER, is_running, mark_folder, names_below, refuse_foreign, remove

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_NAME = 255
"""Bytes that a file's name may have."""

_COMMANDING = re.compile(f"[\x7f-\x9f{TURNING}]")

_COMPANIONS = ("", "-journal", "-wal", "-shm")
"""Ends of the names of a file and of those that SQLite writes beside one, such as a GeoPackage."""

_SEVERAL = (".shp", ".tab", ".mif")
"""Suffixes of formats that are several files of one name."""


@contextmanager
def atomic_path(path: Path | str, kind: str = "folder") -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it to ``path`` at the end, remove it on any failure.

    Works for files and folders; the parent folder is made. An existing file is replaced. A folder gets a `MARKER` that
    lists what was written; an existing folder is replaced only where it is empty, or its marker is of the same kind and
    lists all that it holds. What earlier writers of the same path left when they were killed is removed first.

    Args:
        path: The file or folder to write.
        kind: What a folder holds, such as ``"Segmenter"``, for its marker.

    Raises:
        OutputError: The place cannot be written, the disk is full, or a folder there holds what is not ours.
    """
    path = named_path(path)
    path = path.resolve() if path.is_symlink() and path.is_dir() else path
    part = _beside(path, "part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path.parent))
        _sweep_beside(path)
        if path.is_dir():
            refuse_foreign(path, kind)
        yield part
        if part.is_dir():
            mark_folder(part, kind, map(escape, names_below(part)))
            if path.is_dir():
                _exchange(path, part, kind)
        if part.exists():
            part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        remove(part)


def write_text(path: Path | str, text: str, errors: str = "strict") -> None:
    """Write a file of UTF-8 whole or not at all, its lines as they are; ``errors`` as in `str.encode`.

    Raises:
        OutputError: It cannot be written, or is not ours.
    """
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", errors=errors, newline="")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all; a letter that no font has is an empty box in it.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic_path(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(part, format="png")


def write_json(path: Path | str, value: Any) -> None:
    """Write a value as JSON, indented, as `write_text` does.

    Raises:
        OutputError: It cannot be written, or is not ours.
    """
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that UTF-8 holds, readable where it can be.

    Names of files that are not UTF-8 hold lone surrogates, which only escapes can tell. What would command a terminal
    or turn the direction of writing (`geodistill.errors.printable`) is escaped too.
    """
    text = _COMMANDING.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(value, indent=indent, ensure_ascii=False))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(path: Path, part: Path, kind: str) -> None:
    """Put a new folder in the place of an old one; where it is cut short, `_sweep_beside` puts the old one back."""
    refuse_foreign(path, kind)  # once more: writing may have taken hours
    old = _beside(path, "old")
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)


def named_path(path: Path | str) -> Path:
    """Return ``path`` in full, without ``.`` and ``..``.

    Raises:
        OutputError: It has no name of its own, such as ``/``, or is the current folder.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link at its end
    if not whole.name:
        raise OutputError(f"{path} is no place for a result", "a name of its own", "choose another --out")
    return whole


def _beside(path: Path, kind: str) -> Path:
    """Return a hidden name beside ``path`` that only this process uses; it keeps the suffix, which writers go by."""
    end = f".{kind}-{os.getpid()}{path.suffix}"
    return path.with_name(f".{_short_stem(path, len(os.fsencode(end)) + 1)}{end}")


def hidden_beside(path: Path, end: str) -> Path:
    """Return a hidden name beside ``path`` that ends in ``end``, shortened where it would be too long for a name."""
    name = os.fsencode(path.name)
    if len(name) + len(os.fsencode(end)) + 1 > LONGEST_NAME:
        digest = hashlib.sha256(name).hexdigest()[:12]
        name = (
            name[: LONGEST_NAME - len(os.fsencode(end)) - 14].decode("utf-8", "ignore").encode()
            + b"-"
            + digest.encode()
        )
    return path.with_name(f".{os.fsdecode(name)}{end}")


def _short_stem(path: Path, besides: int) -> str:
    """Return the stem of ``path``, shortened where it and ``besides`` more bytes are too long for a name."""
    stem = path.stem
    if len(os.fsencode(stem)) + besides <= LONGEST_NAME:
        return stem
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:12]
    kept = os.fsencode(stem)[: LONGEST_NAME - besides - 13].decode("utf-8", "ignore")
    return f"{kept}-{digest}"


def _sweep_beside(path: Path) -> None:
    """Remove what killed processes were writing to ``path``; put a folder back that one had just moved aside.

    A process looks once into each folder that it writes files to, since a folder of labels gets thousands of them.
    """
    if path.is_dir() or not path.suffix:  # a folder, which is rare and may be large
        _leftovers.cache_clear()
    for entry, stem, suffix in _leftovers(path.parent):
        companion = suffix.removeprefix(path.suffix)
        besides = len(os.fsencode(entry.name)) - len(os.fsencode(stem)) - len(companion)
        if companion not in _COMPANIONS or stem != _short_stem(path, besides):
            continue
        if f".{stem}.old-" in entry.name and not path.exists():
            entry.rename(path)
        else:
            remove(entry)


@lru_cache(maxsize=64)
def _leftovers(folder: Path) -> tuple[tuple[Path, str, str], ...]:
    """Return each leftover of a killed process in a folder, with stem and suffix of what it was to become."""
    entries = [(entry, LEFTOVER.match(entry.name)) for entry in folder.glob(".*")]
    dead = [(entry, match) for entry, match in entries if match is not None and not is_running(int(match["process"]))]
    return tuple((entry, match["stem"], match["suffix"]) for entry, match in dead)


def files_below(place: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of some lower-case suffixes in a folder and below it, sorted, none hidden; or that file."""
    if place.is_file():
        return [place]
    files = [f for f in place.rglob("*") if f.suffix.lower() in suffixes and f.is_file()]
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(place).parts))


def stored_in(file: Path) -> list[Path]:
    """Return the files that hold a vector file: a shapefile, and others of old, are several of one name."""
    if file.suffix.lower() not in _SEVERAL:
        return [file]
    return [path for path in sorted(file.parent.glob(f"{escape(file.stem)}.*")) if path.is_file()]


def check_outputs(outputs: Iterable[Path | str], inputs: Iterable[Path | str]) -> None:
    """Make sure that a command's files overwrite neither its inputs nor each other.

    Args:
        outputs: Every file that will be written, those beside the main one (layers, polygons, items) included, for all
            scenes together.
        inputs: Every file that is read: what is named, and what that stands for (sources of a VRT, the rasters of a
            tile index or STAC item, legend, masks). A folder stands for all files in it now.

    Raises:
        OutputError: A file would be written twice, is an input (by whatever name: through links, in other case), or is
            a folder.
    """
    read: dict[object, Path] = {}
    folders: list[Path] = []
    for source in inputs:
        path = Path(source)
        if path.is_dir():
            folders.append(path.resolve())
        read |= dict.fromkeys(_keys(path), path)
    written: dict[object, Path] = {}
    for output in outputs:
        path = named_path(output)
        keys = _keys(path)
        for key in keys:
            if key in written:
                raise OutputError(
                    f"{path} would be written twice", "different names for all results", "rename one, or use two calls"
                )
            if key in read:
                raise OutputError(
                    f"{path} would be overwritten, and is read ({read[key]})", "another place", "choose another --out"
                )
        inside = next((folder for folder in folders if path.exists() and folder in path.resolve().parents), None)
        if inside is not None:
            raise OutputError(
                f"{path} would be overwritten, and belongs to {inside}, which is read",
                "another place",
                "choose another --out",
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder", "a file's name", "choose another --out")
        written |= dict.fromkeys(keys, path)


def check_folder(folder: Path | str, inputs: Iterable[Path | str]) -> None:
    """Make sure that a folder of results has nothing to do with what is read: neither is, holds, nor lies in it.

    Args:
        folder: Where results are written.
        inputs: Files and folders that are read.

    Raises:
        OutputError: It does.
    """
    path = named_path(folder).resolve()
    for source in inputs:
        read = Path(source).resolve()
        if path == read or (read.is_dir() and read in path.parents):
            where = "is" if path == read else "lies in"
            raise OutputError(f"{folder} {where} {source}, which is read", "another place", "choose another --out")
        if path in read.parents and path.is_dir():
            raise OutputError(f"{folder} holds {source}, which is read", "another place", "choose another --out")


def check_suffix(path: Path | str, suffixes: tuple[str, ...]) -> None:
    """Make sure that a file's name says what it will hold.

    Raises:
        OutputError: It ends otherwise.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise OutputError(f"output {path}", f"a name that ends in {' or '.join(suffixes)}", "choose another --out")


def _keys(path: Path) -> list[object]:
    """Return what a file is known by: where it is, in one case, and, where it is there, the file itself."""
    keys: list[object] = [os.path.realpath(path).casefold() if _folds_case() else os.path.realpath(path)]
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return keys
    return [*keys, (stat.st_dev, stat.st_ino)]


def _folds_case() -> bool:
    """Whether the file system is one that holds names apart in case for the same: Windows and macOS, by default."""
    return os.name == "nt" or os.uname().sysname == "Darwin"
