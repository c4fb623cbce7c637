"""What a command will write, compared with what it reads before any work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geodistill.errors import OutputError
from geodistill.files import named_path


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
