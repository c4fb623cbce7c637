"""What has been done: one line per tile, written when its files stand; a killed run goes on after the last whole line.

A line is the CRC-32 of its record (eight hexadecimal digits), a blank, and the record as JSON. A line that is not as
it was written is no record: its tile is labelled again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from geodistill.errors import DataError, OutputError, output_error
from geodistill.files import atomic_path
from geodistill.label.tiles import TileId
from geodistill.raster import Window
from geodistill.reading import parse_object

NAME = ".journal.jsonl"
FileSums = dict[str, list[int]]
"""Size in bytes and CRC-32 of files, by their names below the output folder."""


@dataclass(frozen=True)
class GroundPlace:
    """Where and when a tile was seen; what is not known is ``None``.

    Attributes:
        lon: Longitude of the centre in degrees.
        lat: Latitude of the centre in degrees.
        gsd: Ground sampling distance in metres per pixel.
        date: Day of acquisition as ``YYYY-MM-DD``.
    """

    lon: float | None = None
    lat: float | None = None
    gsd: float | None = None
    date: str | None = None


@dataclass(frozen=True)
class TileFiles:
    """What was written for a tile; names are below the output folder, with forward slashes.

    Attributes:
        image: The tile's own image file; empty where the source image serves as it is.
        masks: Files of class indices and of colours.
        sums: Of all these files.
        bands: Names of the image's bands.
        place: Where the tile lies on the ground.
        instances: COCO annotations without their ids, ``mask_value`` among them.
    """

    image: str
    masks: tuple[str, ...]
    sums: FileSums
    bands: tuple[str, ...]
    place: GroundPlace
    instances: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class TileRecord:
    """What became of one tile.

    Attributes:
        key: The image's key.
        window: The tile, in pixels of the image.
        error: Why the image could not be read, else an empty text; nothing below is known then.
        stamp: What the image was, as `geodistill.raster.Raster.stamp` tells; ``None`` where no pixel was looked at.
        outcomes: Index of each box, and why it gave no label here (an empty text where it gave one).
        changes: How often each change happened to masks, by class.
        painted: Pixels that several instances claim, those that several classes claim, and instances hidden by others.
        files: What was written, or ``None``.
    """

    key: str
    window: Window
    error: str = ""
    stamp: list[Any] | None = None
    outcomes: tuple[tuple[int, str], ...] = ()
    changes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    painted: tuple[int, int, int] = (0, 0, 0)
    files: TileFiles | None = None

    @property
    def tile(self) -> TileId:
        """The tile that the record is about."""
        return TileId(self.key, self.window.row, self.window.col)

    @property
    def instances(self) -> tuple[dict[str, Any], ...]:
        """COCO annotations of the tile, without their ids."""
        return () if self.files is None else self.files.instances

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, always in one order; what is not known has no key."""
        window = self.window
        data: dict[str, Any] = {
            "key": self.key,
            "window": [window.row, window.col, window.height, window.width],
            "error": self.error,
        }
        if self.stamp is None:
            return data
        data |= {"stamp": self.stamp, "outcomes": self.outcomes, "changes": self.changes, "painted": self.painted}
        if self.files is None:
            return data
        files = {"image": self.files.image, "masks": self.files.masks, "files": self.files.sums}
        about = {"bands": self.files.bands, "place": asdict(self.files.place), "instances": self.files.instances}
        return data | files | about

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TileRecord:
        """Read the JSON form.

        Raises:
            KeyError: A part is missing.
            TypeError: A part has another form.
            ValueError: A part has another form.
        """
        key, window = data["key"], data["window"]
        if not isinstance(key, str) or [type(value) for value in window] != [int] * 4:
            raise ValueError(f"tile {str(key)[:80]!r}, {str(window)[:80]}")
        record = cls(key, Window(*window), data["error"])
        if "stamp" not in data:
            return record
        outcomes = tuple((index, reason) for index, reason in data["outcomes"])
        overlapping, between_classes, hidden = data["painted"]
        painted = (overlapping, between_classes, hidden)
        record = replace(record, stamp=data["stamp"], outcomes=outcomes, changes=data["changes"], painted=painted)
        if "masks" not in data:
            return record
        files = TileFiles(
            image=data["image"],
            masks=tuple(data["masks"]),
            sums=data["files"],
            bands=tuple(data["bands"]),
            place=GroundPlace(**data["place"]),
            instances=tuple(data["instances"]),
        )
        return replace(record, files=files)


class Journal:
    """The file of records; only positions are held in memory. Use as a context manager.

    Args:
        folder: The output folder; an existing journal in it is continued.

    Attributes:
        path: The file.
        altered: Number of whole lines that are not as they were written.
        finished: What `finish` was given, where nothing has been written down since.

    Raises:
        OutputError: The file cannot be written, or is a link.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.altered = 0
        self.finished: FileSums | None = None
        self._at: dict[TileId, int] = {}
        if self.path.is_symlink():
            raise OutputError(f"{self.path} is a link", "a file of our own", "remove it")
        try:
            self.path.open("ab").close()
            self._file: BinaryIO = self.path.open("r+b")
        except OSError as error:
            raise output_error(self.path, error) from error
        self._read()

    def _read(self) -> None:
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # the run was killed while writing it
            content = self._parse(line)
            self.finished = None
            if content is None:
                self.altered += 1
            elif isinstance(content, TileRecord):
                self._at[content.tile] = whole
            else:
                self.finished = content
            whole += len(line)
        if whole < self._file.seek(0, os.SEEK_END):
            self._file.truncate(whole)

    def _parse(self, line: bytes) -> TileRecord | FileSums | None:
        """Return the record of a line, or the sums of a finished run, or ``None`` where it is not as it was written."""
        if not _is_whole(line):
            return None
        try:
            data = parse_object(line.partition(b" ")[2], self.path)
            if isinstance(finished := data.get("finished"), dict):
                return finished
            return TileRecord.from_json(data)
        except (DataError, KeyError, TypeError, ValueError):
            return None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, tile: TileId) -> bool:
        return tile in self._at

    def __len__(self) -> int:
        return len(self._at)

    def append(self, records: Iterable[TileRecord]) -> None:
        """Write records down, on the disk before this returns.

        Raises:
            OutputError: The disk is full.
        """
        self.finished = None
        try:
            self._file.seek(0, os.SEEK_END)
            for record in records:
                self._at[record.tile] = self._file.tell()
                self._file.write(record_line(record.to_json()))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error

    def read(self, tile: TileId) -> TileRecord:
        """Return the last record of a tile.

        Raises:
            OutputError: The file has been altered since it was opened.
        """
        record = self._parse(self._line_of(tile))
        if not isinstance(record, TileRecord) or record.tile != tile:
            raise self._altered_error()
        return record

    def _line_of(self, tile: TileId) -> bytes:
        self._file.seek(self._at[tile])
        return self._file.readline()

    def _altered_error(self) -> OutputError:
        return OutputError(f"{self.path} was altered by another program", "", "run again with --resume")

    def forget(self, tile: TileId) -> None:
        """Take a tile as not done; the file keeps its line until `keep`."""
        del self._at[tile]

    def tiles(self) -> list[TileId]:
        """Return every tile written down, sorted by key, row and column."""
        return sorted(self._at)

    def keep(self, tiles: Iterable[TileId], finished: FileSums | None = None) -> None:
        """Write the file anew with these tiles only, sorted; the journal is closed after this.

        Args:
            tiles: Of those written down.
            finished: What a run that is complete says of itself.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(self.path) as part, part.open("wb") as file:
            for tile in sorted(tiles):
                line = self._line_of(tile)
                if not _is_whole(line):
                    raise self._altered_error()
                file.write(line)
            if finished is not None:
                file.write(record_line({"finished": finished}))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()


def record_line(content: Mapping[str, Any]) -> bytes:
    """Return the line of a record: check sum, blank, JSON, line feed."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return _crc(body) + b" " + body + b"\n"


def _is_whole(line: bytes) -> bool:
    crc, _, body = line.rstrip(b"\n").partition(b" ")
    return crc == _crc(body)


def _crc(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)


_PART = 1 << 20


def file_sum(path: Path) -> list[int]:
    """Return size in bytes and CRC-32 of a file.

    Raises:
        OSError: It cannot be read.
    """
    size, crc = 0, 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            size += len(part)
            crc = zlib.crc32(part, crc)
    return [size, crc]


def file_sums(folder: Path, names: tuple[str, ...]) -> FileSums:
    """Return the sum of each file of a folder, by its name."""
    return {name: file_sum(folder / name) for name in names}


def altered_files(folder: Path, sums: Mapping[str, Any]) -> list[str]:
    """Return the names of files that are missing or no longer as `file_sums` found them; links count as missing."""
    return [name for name, known in sums.items() if not _is_same(folder / name, known)]


def _is_same(path: Path, known: Any) -> bool:
    try:
        # Most damage shows in the size, which costs nothing to read.
        return not path.is_symlink() and [path.stat().st_size] == known[:1] and file_sum(path) == known
    except (OSError, TypeError, ValueError):
        return False
