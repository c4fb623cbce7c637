"""What has been done: one line a tile, written when its files stand; a killed run goes on after the last whole line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from geodistill.files import atomic_path, output_error
from geodistill.label.plan import TileId

NAME = ".journal.jsonl"

Record = dict[str, Any]
"""One tile: ``key``, ``window`` [row, col, height, width], ``error``, and what `labeller.Labeller` adds."""


def tile_id(record: Record) -> TileId:
    """Give the tile that a record is about."""
    return record["key"], record["window"][0], record["window"][1]


class Journal:
    """The file of records; only positions are held in memory. Use as a context manager.

    Args:
        folder: The output folder; an existing journal in it is continued.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._at: dict[TileId, int] = {}
        try:
            self.path.touch()
            self._file: BinaryIO = self.path.open("r+b")
        except OSError as error:
            raise output_error(self.path, error) from error
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # the run was killed while writing it
            self._at[tile_id(json.loads(line))] = whole
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)

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
        """Give the last record of a tile."""
        self._file.seek(self._at[tile])
        record: Record = json.loads(self._file.readline())
        return record

    def tiles(self) -> list[TileId]:
        """Name every tile written down, sorted by key, row and column."""
        return sorted(self._at)

    def keep(self, tiles: Iterable[TileId]) -> None:
        """Write the file anew with these tiles only, sorted; the journal is closed after this.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(self.path) as part, part.open("wb") as file:
            for tile in sorted(tiles):
                file.write(_line(self.read(tile)))
        self._file.close()

    def remove(self) -> None:
        """Delete the file; the journal is closed after this."""
        self._file.close()
        self.path.unlink()


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
