"""The output folder of ``label build``: whose it is, which run it holds, what of that run is done and still stands.

What is done stands in a journal (`geodistill.journal`), one line per tile, written when its files are there; a killed
run goes on after the last whole line. A line that is not as it was written is no record: its tile is labelled again.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from geodistill.errors import DataError, GeodistillWarning, OutputError, output_errors
from geodistill.files import atomic_path, write_json
from geodistill.folders import HOLDER, LOCK, MARKER, is_leftover, mark_folder, refuse_links, results_within, sweep
from geodistill.journal import JournalFile, decode, encode, whole_lines
from geodistill.label.config import DIVISION, PLACES
from geodistill.label.tile_records import FileSums, TileRecord, altered_files
from geodistill.label.tiles import ImageTask, TileId
from geodistill.raster import Raster, Window
from geodistill.reading import read_object

JOURNAL, ABOUT = ".journal.jsonl", "settings.json"

INSTANCES, LEGEND, MANIFEST, ACCOUNT = "instances.json", "legend.yaml", "manifest.parquet", "label.json"

DECISIONS = "decisions.json"
"""What people decided (`geodistill.label.decisions`): an input of the run that lies in its folder, never removed."""

CHUNK = ".chunk"
"""How many prompts are decoded at once, in the output folder, so that a run which goes on does the same."""

FOLDERS = ("gray", "color", "images")
"""Folders of the output folder that tiles are written to."""


class Journal:
    """The file of records; only positions are held in memory. Use as a context manager.

    Args:
        folder: The output folder; an existing journal in it is continued.

    Attributes:
        path: The file.
        altered: Number of whole lines that are not as they were written.
        finished: The sums that `keep` was given, where nothing has been written down since.
        known: Those sums also where something has; none once `forget_sums` was called.

    Raises:
        OutputError: The file cannot be written, or is a link.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.altered = 0
        self.finished: FileSums | None = None
        self.known: FileSums = {}
        self._at: dict[TileId, int] = {}
        self._file = JournalFile(self.path)
        end = 0
        for line in self._file.lines():
            content, self.finished, end = _content(line.record), None, line.end
            if content is None:
                self.altered += 1
            elif isinstance(content, TileRecord):
                self._at[content.tile] = line.start
            else:
                self.finished, self.known = content or None, content
        self._file.cut(end)  # the run was killed while writing what is behind

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, records: Iterable[TileRecord]) -> None:
        """Write records down, on the disk before this returns.

        Raises:
            OutputError: The disk is full.
        """
        self.finished, records = None, list(records)
        with output_errors(self.path):
            starts = self._file.append((record.to_json() for record in records), to_disk=True)
        self._at |= zip((record.tile for record in records), starts, strict=True)

    def read(self, tile: TileId) -> TileRecord:
        """Return the last record of a tile.

        Raises:
            OutputError: The file has been altered since it was opened.
        """
        record = _content(decode(self._file.line_at(self._at[tile])))
        if not isinstance(record, TileRecord) or record.tile != tile:
            raise self._altered_error()
        return record

    def _altered_error(self) -> OutputError:
        return OutputError(f"{self.path} was altered by another program", "", "run again with --resume")

    def forget(self, tile: TileId) -> None:
        """Take a tile as not done; the file keeps its line until `keep`."""
        del self._at[tile]

    def forget_sums(self) -> None:
        """Write down that the files about the whole set are about to be replaced: whatever is there then is ours.

        Raises:
            OutputError: The disk is full.
        """
        self.finished, self.known = None, {}
        with output_errors(self.path):
            self._file.append([{"finished": {}}], to_disk=True)

    def tiles(self) -> list[TileId]:
        """Return every tile written down, sorted by key, row and column."""
        return sorted(self._at)

    def keep(self, tiles: Iterable[TileId], finished: FileSums | None = None) -> None:
        """Write the file anew with these tiles only, sorted, and a finished run's sums; the journal is closed then.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(self.path) as part, part.open("wb") as file:
            for tile in sorted(tiles):
                line = self._file.line_at(self._at[tile])
                if decode(line) is None:
                    raise self._altered_error()
                file.write(line)
            if finished is not None:
                file.write(encode({"finished": finished}))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()


def _content(data: Mapping[str, Any] | None) -> TileRecord | FileSums | None:
    """Return the record that a line holds, or the sums of a finished run; ``None`` where it is neither."""
    try:
        if data is not None and isinstance(finished := data.get("finished"), dict):
            return finished
        return None if data is None else TileRecord.from_json(data)
    except (KeyError, TypeError, ValueError):
        return None


def remove_files(out: Path, record: TileRecord) -> None:
    """Remove the files of a tile."""
    for name in record.files.sums if record.files is not None else ():
        if name.split("/")[0] in FOLDERS and ".." not in name.split("/"):
            with suppress(FileNotFoundError, NotADirectoryError):
                (out / name).unlink()


KIND = "label set"

OURS = (ABOUT, ACCOUNT, DECISIONS, INSTANCES, LEGEND, MANIFEST, JOURNAL, CHUNK, *(f"{name}/*" for name in FOLDERS))
"""What of the folder a run writes."""

LISTS = "annotation_lists"
"""Key of the digest of the files that annotations depend on besides; runs of before have none."""

SPLIT_LISTS = "split_lists"
"""Key of the digest of the lists of source images."""

_CHANGED = {
    LISTS: "the lists of classes, or annotation files without an image, are others",
    "annotations": "the annotation files or their classes are others",
    "image_names": "images were added, removed or renamed",
    "weights": "the segmenter's weights have changed",
}


def refuse_other(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return what the run in a folder is about; ``None`` where the folder is new or empty.

    Raises:
        OutputError: It holds something else than decisions and a review of earlier labels, a link in place of a file of
            ours, or a run that is not to be continued.
    """
    markers = (MARKER, LOCK, HOLDER)
    entries = list(out.iterdir()) if out.is_dir() else []
    others = [entry for entry in entries if entry.name not in markers and not is_leftover(entry.name)]
    path = out / ABOUT
    if not path.is_file():
        kept = (DECISIONS, *results_within(out))
        if any(entry.name not in kept for entry in others):
            raise OutputError(f"{out} is not empty and holds no run of 'label build'", "a new folder")
        return None
    if not resume:
        raise OutputError(f"{out} holds a run already", "a new folder", "continue that run with --resume")
    refuse_links(out, [entry.name for entry in others])
    return read_object(path, error=OutputError)


def begin(out: Path, about: dict[str, Any], earlier: dict[str, Any] | None) -> bool:
    """Write down what a run's result depends on and whose the folder is; remove what killed processes left there.

    A run goes on with another division into splits, without its account; return whether the division is as it was.

    Raises:
        OutputError: A run is continued whose result depends on something else, or the folder cannot be written.
    """
    earlier = about if earlier is None else {LISTS: about.get(LISTS), **earlier}
    places = {key: earlier[key] for key in PLACES if isinstance(earlier.get(key), str)}
    earlier = earlier | {key: os.path.abspath(place) for key, place in places.items()}  # noqa: PTH100 - as settings do
    differing = {key for key in {**earlier, **about} if earlier.get(key) != about.get(key)}
    if changed := differing.difference(DIVISION, [SPLIT_LISTS]):
        differences = [
            _CHANGED[key]
            if key in _CHANGED and earlier.get(key) is not None
            else f"{key} was {earlier.get(key)!r}, is {about.get(key)!r}"
            for key in sorted(changed)[:3]
        ]
        raise OutputError(
            f"{out} holds a run with other settings ({', '.join(differences)})", "the same settings", "use a new folder"
        )
    sweep(out, locked=True)
    if differing:  # before the settings are, so that no account of others is taken for theirs
        (out / ACCOUNT).unlink(missing_ok=True)
    write_json(out / ABOUT, about)
    with output_errors(out / MARKER):
        mark_folder(out, KIND, OURS)
    return not differing


_MOST = 3
"""Names that a warning lists."""


def still_done(out: Path, journal: Journal, tasks: Sequence[ImageTask]) -> set[TileId]:
    """Return the tiles that need no more work, and remove the files of all others.

    A tile is done again where its record or a file of it is not as it was written, or where its image has changed
    since; a warning tells how many and names some.
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
        if task is not None and record.window == window and not record.error and stamps.are_those_of(task, record):
            damaged = [] if record.files is None else altered_files(out, record.files.sums)
            altered += damaged
            if not damaged:
                done.add(name)
                continue
        remove_files(out, record)
        journal.forget(name)
    _remove_unrecorded(out, [task_window for name, task_window in planned.items() if name not in done])
    _tell(journal, altered, stamps.changed)
    return done


def altered_by_hand(out: Path, names: Iterable[str]) -> list[str]:
    """Return those of some files of a finished run that are not as the last run wrote them; nothing is written.

    Raises:
        DataError: The journal cannot be read.
    """
    tiles: dict[TileId, FileSums] = {}
    finished: FileSums = {}
    try:
        with (out / JOURNAL).open("rb") as file:
            for line in whole_lines(file):
                content, finished = _content(line.record), {}
                if isinstance(content, TileRecord):
                    tiles[content.tile] = {} if content.files is None else content.files.sums
                elif content is not None:
                    finished = content
    except OSError as error:
        raise DataError(f"{out / JOURNAL} cannot be read ({error.strerror})", "the journal of a label set") from error
    known = dict(finished)
    for sums in tiles.values():
        known |= sums
    return altered_files(out, {name: known.get(name) for name in names})


class _Stamps:
    """What images are now, each looked at once."""

    def __init__(self) -> None:
        self._now: dict[Path, Any] = {}
        self.changed: dict[Path, None] = {}

    def are_those_of(self, task: ImageTask, record: TileRecord) -> bool:
        if record.stamp is None:  # no pixel was looked at
            return True
        if task.image not in self._now:
            self._now[task.image] = _stamp(task.image)
        if self._now[task.image] == record.stamp:
            return True
        self.changed[task.image] = None
        return False


def _stamp(image: Path) -> Any:
    try:
        with Raster(image) as raster:
            return raster.stamp
    except (DataError, OSError):
        return None


def _remove_unrecorded(out: Path, left: Sequence[tuple[ImageTask, Window]]) -> None:
    """Remove files of tiles that a killed run had written and not yet written down."""
    present = {
        (Path(folder) / file).relative_to(out).as_posix()
        for name in FOLDERS
        for folder, _, files in os.walk(out / name)
        for file in files
    }
    if not present:
        return
    for task, window in left:
        for folder in FOLDERS:
            for suffix in (".png", ".tif"):
                name = f"{folder}/{task.file_name(window)}{suffix}"
                if name in present:
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
