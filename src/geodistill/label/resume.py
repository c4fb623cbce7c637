"""What of an earlier run still stands: its tiles whose files and image are as they were."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.assemble import ACCOUNT, INSTANCES, LEGEND, MANIFEST, remove_files
from geodistill.label.ledger import Journal, Record
from geodistill.label.plan import ImageTask, TileId
from geodistill.label.sums import altered_files, file_sums
from geodistill.label.worker import FOLDERS
from geodistill.raster import Raster, Window

_MOST = 3
"""Names that a warning lists."""


def still_done(out: Path, journal: Journal, tasks: Sequence[ImageTask]) -> set[TileId]:
    """Return the tiles that need no more work, and remove the files of all others.

    A tile is done again where its record or a file of it is not as it was written, or where its image has changed
    since; a warning tells how many and names some.

    Args:
        out: The output folder.
        journal: What was done.
        tasks: What is to do.
    """
    planned: dict[TileId, tuple[ImageTask, Window]] = {
        name: (task, tile.window) for task in tasks for name, tile in zip(task.ids(), task.tiles, strict=True)
    }
    stamps = _Stamps()
    done: set[TileId] = set()
    altered: list[str] = []
    for name in journal.tiles():
        record = journal.read(name)
        task, window = planned.get(name, (None, None))
        same = window is not None and record["window"] == [window.row, window.col, window.height, window.width]
        if task is not None and same and not record["error"] and stamps.are_those_of(task, record):
            damaged = _damaged(out, record)
            altered += damaged
            if not damaged:
                done.add(name)
                continue
        remove_files(out, record)
        journal.forget(name)
    _remove_unrecorded(out, [task_window for name, task_window in planned.items() if name not in done])
    _tell(journal, altered, stamps.changed)
    return done


_WHOLE_SET = (ACCOUNT, INSTANCES, LEGEND, MANIFEST)


def finished_sums(out: Path) -> Record:
    """Return what a complete run says of the files about the whole set."""
    return file_sums(out, _WHOLE_SET)


def is_finished(out: Path, journal: Journal) -> bool:
    """Whether a run is complete, and its files about the whole set are there and as they were written.

    Another manifest may be a person's work, such as other splits: it stays, and a warning tells of it.
    """
    if journal.finished is None:
        return False
    altered = altered_files(out, dict.fromkeys(_WHOLE_SET, ()) | journal.finished)
    if altered == [MANIFEST] and (out / MANIFEST).is_file():
        _warn(f"{out / MANIFEST} is not as it was written and stays; to have it made again, remove it first")
        return True
    if altered:
        _warn(f"{out / altered[0]} is not as it was written and is made again")
    return not altered


class _Stamps:
    """What images are now, each looked at once."""

    def __init__(self) -> None:
        self._now: dict[Path, Any] = {}
        self.changed: dict[Path, None] = {}

    def are_those_of(self, task: ImageTask, record: Record) -> bool:
        if "stamp" not in record:  # no pixel was looked at
            return True
        if task.image not in self._now:
            self._now[task.image] = _stamp(task.image)
        if self._now[task.image] == record["stamp"]:
            return True
        self.changed[task.image] = None
        return False


def _stamp(image: Path) -> Any:
    try:
        with Raster(image) as raster:
            return raster.stamp
    except (DataError, OSError):
        return None


def _damaged(out: Path, record: Record) -> list[str]:
    files = record.get("files", {})
    return altered_files(out, files) if "masks" in record or files else []


def _remove_unrecorded(out: Path, left: Sequence[tuple[ImageTask, Window]]) -> None:
    """Remove files of tiles that a killed run had written and not yet written down."""
    held = {
        (Path(folder) / file).relative_to(out).as_posix()
        for name in FOLDERS
        for folder, _, files in os.walk(out / name)
        for file in files
    }
    if not held:
        return
    for task, window in left:
        for folder in FOLDERS:
            for suffix in (".png", ".tif"):
                name = f"{folder}/{task.file_name(window)}{suffix}"
                if name in held:
                    (out / name).unlink(missing_ok=True)


def _tell(journal: Journal, altered: Sequence[str], changed: dict[Path, None]) -> None:
    if journal.altered:
        _warn(f"{journal.path}: {journal.altered} lines are not as they were written; their tiles are labelled again")
    if altered:
        _warn(f"{_named(altered)} are missing or not as they were written; their tiles are labelled again")
    if changed:
        _warn(f"{_named([str(path) for path in changed])} changed since; their tiles are labelled again")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{len(names)} files ({', '.join(names[:_MOST])}{more})"


def _warn(text: str) -> None:
    warnings.warn(text, GeodistillWarning, stacklevel=2)
