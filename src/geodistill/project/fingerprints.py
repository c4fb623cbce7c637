"""Fingerprints of files from outside: SHA-256 of their content, remembered by size and time of change.

A file is read again only where its size or time is another; then it may still have its old content, and nothing is run
again. Kept in ``done/memo.json``, beside recipes that were read in full, which takes torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geodistill.errors import DataError
from geodistill.files import atomic_path
from geodistill.folders import HOLDER, LOCK, is_leftover
from geodistill.reading import ANNOTATION_BYTES, read_object

MEMO = "memo.json"
"""File that fingerprints are kept in, among the records."""

Stamp = tuple[int, int, str]
"""Size in bytes, time of change in nanoseconds, SHA-256."""


class Fingerprints:
    """What files held when they were last read.

    Args:
        memo: The file that it is kept in.

    Attributes:
        recipes: What recipes came to, by what they were read from.
    """

    def __init__(self, memo: Path) -> None:
        self._memo = memo
        try:
            before = read_object(memo, ANNOTATION_BYTES)
            self._stamps: dict[str, Stamp] = {file: tuple(stamp) for file, stamp in before["files"].items()}
            self.recipes: dict[str, dict[str, Any]] = dict(before["recipes"])
        except (DataError, AttributeError, KeyError, TypeError, ValueError):
            self._stamps, self.recipes = {}, {}  # it only saves time
        self._known = json.dumps([self._stamps, self.recipes], sort_keys=True)

    def save(self) -> None:
        """Write the memory down, where it holds anything new.

        Raises:
            OutputError: It cannot be written.
        """
        text = json.dumps([self._stamps, self.recipes], sort_keys=True)
        if text != self._known:
            with atomic_path(self._memo) as part:
                memory = {"files": self._stamps, "recipes": self.recipes}
                part.write_text(json.dumps(memory), encoding="utf-8", errors="surrogatepass")
            self._known = text

    def of_path(self, path: Path) -> str:
        """Return the fingerprint of a file, or of all files in a folder by their names; links are followed.

        Raises:
            DataError: It is not there, or cannot be read.
        """
        if not path.is_dir():
            return self._of_file(path)
        digest = hashlib.sha256()
        for name in visible_files(path):
            digest.update(f"{name}\0{self._of_file(path / name)}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _of_file(self, path: Path) -> str:
        key = str(path)
        try:
            self._stamps[key] = stamp_file(path, self._stamps.get(key))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})", "a file or folder that is there") from error
        return self._stamps[key][2]


def stamp_file(path: Path, before: Stamp | None = None) -> Stamp:
    """Return a file's stamp; where size and time are as ``before``, its content is taken to be so too.

    Raises:
        OSError: It cannot be read.
    """
    stat = path.stat()
    if before is not None and before[:2] == (stat.st_size, stat.st_mtime_ns):
        return before
    with path.open("rb") as file:
        return stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()


def visible_files(folder: Path) -> Iterator[str]:
    """Yield the files of a folder, sorted, relative to it with ``/``; none that begins with a dot, nor what is within.

    Raises:
        OSError: A folder cannot be read.
    """
    for place, files in walk_links(folder):
        for name in files:
            if name not in (LOCK, HOLDER) and not is_leftover(name):
                yield (place / name).relative_to(folder).as_posix()


def walk_links(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below with their files, sorted, no hidden ones; links are followed, but in no circle."""
    entered = {os.path.realpath(root)}
    for place, folders, files in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            real = os.path.realpath(Path(place) / name)
            if real not in entered:
                entered.add(real)
                kept.append(name)
        folders[:] = kept
        yield Path(place), sorted(name for name in files if not name.startswith("."))
