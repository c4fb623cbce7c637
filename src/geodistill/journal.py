"""An append-only journal: what is finished, one record per line; a killed process loses at most the line under way.

A line is the CRC-32 of its record (eight hexadecimal digits), a blank, and the record as JSON::

    8f3b1c02 {"row":0,"rows":48, ...}
    77aa0e51 {"row":1,"rows":48, ...}
    1d20                                <- cut off: the process died while it wrote; the next run writes over it

A record says that something lies on the disk, so it is appended only once that is there. A line that was cut or
altered reads as no record, and what it spoke of is done again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from geodistill.errors import DataError, OutputError, output_errors
from geodistill.reading import parse_object


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _crc(body) + b" " + body + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; ``None`` where the line is not as it was written."""
    crc, _, body = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != _crc(body):
        return None
    try:
        return parse_object(body, "a line of the journal")
    except DataError:
        return None


def _crc(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)


@dataclass(frozen=True)
class Line:
    """A whole line of a journal.

    Attributes:
        start: Its first byte.
        end: The byte after its last.
        record: What it says; ``None`` where it was altered.
    """

    start: int
    end: int
    record: dict[str, Any] | None


def whole_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield every whole line of an open journal, from its first byte; a last line without its end is none."""
    start = 0
    for text in file:
        if not text.endswith(b"\n"):
            return
        yield Line(start, start + len(text), decode(text))
        start += len(text)


class JournalFile:
    """A journal, open for reading and appending; use as a context manager.

    Args:
        path: The file; it is made where it is not there.

    Raises:
        OutputError: It cannot be written, or is a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_symlink():
            raise OutputError(f"{path} is a link", "a file of our own", "remove it")
        with output_errors(path):
            path.open("ab").close()
            self._file: BinaryIO = path.open("r+b")

    def __enter__(self) -> JournalFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what a full disk did not take is still to be written, and `append` has said so."""
        with suppress(OSError):
            self._file.close()

    def lines(self) -> Iterator[Line]:
        """Yield every whole line, from the first; a last line without its end is none."""
        self._file.seek(0)
        yield from whole_lines(self._file)

    def line_at(self, start: int) -> bytes:
        """Return the line that begins at a byte, as it stands in the file."""
        self._file.seek(start)
        return self._file.readline()

    def cut(self, end: int) -> None:
        """Cut the file off before byte ``end``, also amid `lines`, which then ends; a whole file is left be."""
        if end < os.fstat(self._file.fileno()).st_size:
            self._file.truncate(end)

    def append(self, records: Iterable[Mapping[str, Any]], *, to_disk: bool = False) -> list[int]:
        """Write records behind all others; return the byte at which each begins.

        Args:
            records: The records.
            to_disk: Return only once they are on the disk, so that they survive the machine's end too.

        Raises:
            OSError: There is no space left for them.
        """
        self._file.seek(0, os.SEEK_END)
        starts = []
        for record in records:
            starts.append(self._file.tell())
            self._file.write(encode(record))
        self._file.flush()
        if to_disk:
            os.fsync(self._file.fileno())
        return starts
