"""What has been done: one line a tile, written when its files stand; a killed run goes on after the last whole line.

A line is the CRC-32 of its record (eight hexadecimal digits), a blank, and the record as JSON. A line that is not as
it was written is no record: its tile is labelled again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from geodistill.errors import DataError, OutputError, output_error
from geodistill.files import atomic_path
from geodistill.label.plan import TileId
from geodistill.reading import parse_object

NAME = ".journal.jsonl"

Record = dict[str, Any]
"""One tile: ``key``, ``window`` [row, col, height, width], ``error``, and what `labeller.Labeller` adds."""


def tile_id(record: Record) -> TileId:
    """Return the tile that a record is about."""
    return record["key"], record["window"][0], record["window"][1]


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
        self.finished: Record | None = None
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
            record = self._parse(line)
            self.finished = None
            if record is None:
                self.altered += 1
            elif "finished" in record:
                self.finished = record["finished"]
            else:
                self._at[tile_id(record)] = whole
            whole += len(line)
        if whole < self._file.seek(0, os.SEEK_END):
            self._file.truncate(whole)

    def _parse(self, line: bytes) -> Record | None:
        """Return the record of a line, or ``None`` where it is not as it was written."""
        if not _is_whole(line):
            return None
        try:
            record = parse_object(line.partition(b" ")[2], self.path)
            window = record.get("window", ())
            right = isinstance(record.get("key"), str) and [type(v) for v in window] == [int] * 4 and "error" in record
        except (DataError, TypeError):
            return None
        return record if right or isinstance(record.get("finished"), dict) else None

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

    def append(self, records: Iterable[Record]) -> None:
        """Write records down, on the disk before this returns.

        Raises:
            OutputError: The disk is full.
        """
        self.finished = None
        try:
            self._file.seek(0, os.SEEK_END)
            for record in records:
                self._at[tile_id(record)] = self._file.tell()
                self._file.write(_line(record))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error

    def read(self, tile: TileId) -> Record:
        """Return the last record of a tile.

        Raises:
            OutputError: The file has been altered since it was opened.
        """
        record = self._parse(self._line_of(tile))
        if record is None or tile_id(record) != tile:
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

    def keep(self, tiles: Iterable[TileId], finished: Record | None = None) -> None:
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
                file.write(_line({"finished": finished}))
            file.flush()
            os.fsync(file.fileno())
        self._file.close()


def _line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _crc(body) + b" " + body + b"\n"


def _is_whole(line: bytes) -> bool:
    told, _, body = line.rstrip(b"\n").partition(b" ")
    return told == _crc(body)


def _crc(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)
