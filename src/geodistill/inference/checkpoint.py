"""The work under way on a map: finished rows as plain bytes, and a journal by which an interrupted run goes on.

Beside a map ``town.tif`` lies, while it is made, a folder; each block of the scene has files of its own in it::

    .town.tif.work/
      about.json                                  all that the map's bytes follow from: another run's work is not ours
      rows-00000-00012-columns-00000-00040.jsonl  the block's journal: one line per finished strip
      rows-...-columns-....classes.bin            the finished rows of each layer as bytes, appended strip by strip
      edge-00000-00012-00040.bin                  sums that the block to the right adds to (wide scenes only)

A strip is stored in two steps, bytes first and then the line that vouches for them::

    classes.bin   |strip 0|strip 1|str          <- cut off at the end of strip 1 when the work goes on
    journal       |line 0 |line 1 |                line: row of windows, rows, CRC-32 of each layer's bytes, holes

Whatever moment the process dies at, the lines whose bytes agree with their check sums are finished work.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from geodistill.errors import BusyError, OutputError, output_error
from geodistill.files import hidden_beside
from geodistill.folders import HOLDER, LOCK, MARKER, empty_folder, hold_folder, mark_folder, read_marker
from geodistill.inference.layers import LAYERS, Layer
from geodistill.inference.sliding import SceneRows
from geodistill.inference.strips import Hole
from geodistill.inference.windows import Part, WindowPlan
from geodistill.journal import JournalFile
from geodistill.reading import read_object

ABOUT = "about.json"
"""File of the work's folder that holds all that the map's bytes follow from."""

_KIND, _SUM = "work of predict", "crc32"
_OURS = (f"{ABOUT}*", "rows-*", "edge-*", "overview-*", *(f"{layer}.*" for layer in LAYERS))
"""What a run leaves in the work's folder; nothing else is ever removed from it."""


class PartFiles:
    """The files of one block, open for appending; use as a context manager."""

    def __init__(self, folder: Path, plan: WindowPlan, part: Part, layers: tuple[Layer, ...]) -> None:
        self.folder, self.part, self.layers = folder, part, layers
        self.pixels = part.pixels(plan)
        self.next_row = part.first_row
        self.windows = 0
        self.holes: list[Hole] = []
        self._rows = 0
        rows, columns = (part.first_row, part.last_row), (part.first_column, part.last_column)
        self._stem = "rows-{:05}-{:05}-columns-{:05}-{:05}".format(*rows, *columns)
        self._files: dict[str, BinaryIO] = {}

    def path(self, layer: Layer) -> Path:
        """Return the file of a layer's bytes: rows of bands of columns."""
        return self.folder / f"{self._stem}.{layer.name}.bin"

    @property
    def rows(self) -> int:
        """Rows of the scene that are stored."""
        return self._rows

    @property
    def finished(self) -> bool:
        """Whether every row of the block is stored."""
        return self.next_row == self.part.last_row

    def __enter__(self) -> PartFiles:
        with ExitStack() as opened:
            self._journal = opened.enter_context(JournalFile(self.folder / f"{self._stem}.jsonl"))
            self._continue()
            for layer in self.layers:
                file = opened.enter_context(self.path(layer).open("ab"))
                file.truncate(self._rows * self._row_bytes(layer))
                self._files[layer.name] = file
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _continue(self) -> None:
        """Take in the strips of an earlier run whose bytes agree; from the first that do not, all is done again."""
        end = 0
        for line in self._journal.lines():
            strip = StoredStrip.from_record(line.record)
            if strip is None or strip.row != self.next_row or not self._agrees(strip):
                break
            self._count(strip)
            end = line.end
        self._journal.cut(end)

    def append(self, rows: SceneRows) -> None:
        """Store finished rows, then say so in the journal.

        Raises:
            OSError: There is no space left for them.
        """
        sums = {}
        for layer in self.layers:
            # ``(bands, rows, W)`` as bytes, row by row and in a row band by band.
            data = rows.layers[layer.name].astype(layer.dtype, copy=False).transpose(1, 0, 2).tobytes()
            self._files[layer.name].write(data)
            self._files[layer.name].flush()
            sums[layer.name] = zlib.crc32(data)
        strip = StoredStrip(rows.row, len(rows.valid), rows.windows, rows.holes, sums)
        self._journal.append([strip.to_record()])
        self._count(strip)

    def _count(self, strip: StoredStrip) -> None:
        self.next_row, self._rows = strip.row + 1, self._rows + strip.rows
        self.windows += strip.windows
        self.holes += strip.holes

    def _row_bytes(self, layer: Layer) -> int:
        return layer.bands * self.pixels.width * np.dtype(layer.dtype).itemsize

    def _agrees(self, strip: StoredStrip) -> bool:
        for layer in self.layers:
            if not self.path(layer).exists():
                return False
            size = self._row_bytes(layer)
            with self.path(layer).open("rb") as file:
                file.seek(self._rows * size)
                data = file.read(strip.rows * size)
            if len(data) != strip.rows * size or zlib.crc32(data) != strip.sums.get(layer.name):
                return False
        return True


@dataclass(frozen=True)
class StoredStrip:
    """A strip that is stored: one line of the journal.

    It says the row of windows, how many rows of the scene, how many windows the network computed for them, what could
    not be read, and the CRC-32 of each layer's bytes.
    """

    row: int
    rows: int
    windows: int
    holes: tuple[Hole, ...]
    sums: dict[str, int]

    def to_record(self) -> dict[str, Any]:
        """Return the journal's record."""
        holes = [hole.to_dict() for hole in self.holes]
        return {"row": self.row, "rows": self.rows, "windows": self.windows, "holes": holes, "sums": self.sums}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> StoredStrip | None:
        """Read what `to_record` returned; ``None`` where a line was altered and says something else."""
        if record is None:
            return None
        try:
            row, rows, windows = (int(record[key]) for key in ("row", "rows", "windows"))
            holes = tuple(Hole.from_dict(hole) for hole in record["holes"])
            return cls(row, rows, windows, holes, dict(record["sums"]))
        except (KeyError, TypeError, ValueError):
            return None


class EdgeFile:
    """Sums ``(K, size, columns)`` that a block of a wide scene leaves for the block to its right, by row of windows."""

    def __init__(self, path: Path, first_row: int, shape: tuple[int, int, int]) -> None:
        self._path, self._first, self._shape = path, first_row, shape
        self._bytes = int(np.prod(shape)) * 4
        self._record = self._bytes + 4  # with its check sum

    def write(self, row: int, sums: Tensor) -> None:
        """Keep the sums of a row of windows.

        Raises:
            OSError: There is no space left for them.
        """
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek((row - self._first) * self._record)
            data = sums.contiguous().numpy().tobytes()
            file.write(data + zlib.crc32(data).to_bytes(4, "little"))

    def read(self, row: int) -> Tensor:
        """Return the sums of a row of windows.

        Raises:
            OtherWorkError: They were cut or altered.
        """
        with self._path.open("rb") as file:
            file.seek((row - self._first) * self._record)
            data, check_sum = file.read(self._bytes), file.read(4)
        if len(data) != self._bytes or zlib.crc32(data).to_bytes(4, "little") != check_sum:
            raise OtherWorkError(f"{self._path} was altered", "the file as it was written", "run without --resume")
        return torch.from_numpy(np.frombuffer(bytearray(data), np.float32).reshape(self._shape))


def edges_of(folder: Path, plan: WindowPlan, part: Part, classes: int) -> tuple[EdgeFile | None, EdgeFile | None]:
    """Return where a block gets its left sums from and leaves its right ones; ``None`` at the edges of the scene."""
    first = plan.reaching(part.first_row)

    def between(column: int) -> EdgeFile:
        overlap = plan.lefts[column - 1] + plan.size - plan.lefts[column]
        path = folder / f"edge-{first:05}-{part.last_row:05}-{column:05}.bin"
        return EdgeFile(path, first, (classes, plan.size, overlap))

    left = between(part.first_column) if part.first_column else None
    right = between(part.last_column) if part.last_column < len(plan.lefts) else None
    return left, right


def work_folder(path: Path) -> Path:
    """Return the folder of the work on a map."""
    return hidden_beside(path, ".work")


@contextmanager
def open_work(path: Path, about: Mapping[str, Any], resume: bool) -> Iterator[Path]:
    """Lock the folder of the work on a map, which no other run can lock meanwhile; it is left as it is at the end.

    With ``resume`` the work found there goes on, where it is on a map ``about`` the very same; else it begins anew.

    Raises:
        BusyError: Another run is at work on this map.
        OtherWorkError: What is found there is work on another map.
        OutputError: The place cannot be written, is a link, or holds what is not ours.
    """
    folder = work_folder(path)
    try:
        with _locked(folder):
            _begin(folder, about, resume)
            yield folder
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            folder.rmdir()  # where nothing is left in it


class OtherWorkError(OutputError):
    """The work found beside a map cannot be continued: it is that on another map, or was altered."""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link", "a folder of our own", "remove it, or choose another --out")
    with hold_folder(folder, "predict"):
        yield


def _begin(folder: Path, about: Mapping[str, Any], resume: bool) -> None:
    for entry in folder.iterdir():
        if entry.is_symlink():  # what we keep here is never one
            entry.unlink()
    earlier, now = about_of(folder), json.loads(json.dumps(about))
    if earlier is not None and resume and earlier != now:
        other = sorted(key for key in {*earlier, *now} if earlier.get(key) != now.get(key))
        raise OtherWorkError(
            f"{folder} holds work with other {', '.join(other[:12])}",
            "the same as before",
            "run without --resume, which begins anew",
        )
    if earlier is None or not resume:
        empty_folder(folder)
        mark_folder(folder, _KIND, _OURS)
        part = folder / f"{ABOUT}.part"
        part.write_text(json.dumps({**now, _SUM: _sum_of(now)}), encoding="utf-8")
        part.replace(folder / ABOUT)


def about_of(folder: Path) -> dict[str, Any] | None:
    """Return all that the bytes of the map follow from whose work lies in a folder; ``None`` where it is not known.

    Work whose description was cut or altered begins anew.
    """
    if folder.is_symlink() or not (folder / ABOUT).is_file():
        return None
    try:
        about = read_object(folder / ABOUT, error=OutputError)
    except OutputError:
        return None
    return about if about.pop(_SUM, None) == _sum_of(about) else None


def _sum_of(about: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def discard_work(path: Path, about: Mapping[str, Any]) -> None:
    """Remove what a run that was killed at its very end left of the work on a finished map; others' work stays.

    Work whose description was cut or altered goes too: nothing can go on from it.
    """
    folder = work_folder(path)
    marker, earlier = read_marker(folder), about_of(folder)
    ours = _is_emptied(folder) if marker is None else marker[0] == _KIND
    if not ours or earlier not in (None, json.loads(json.dumps(about))):
        return
    with suppress(BusyError), _locked(folder):
        remove_work(path)
    with suppress(OSError):
        folder.rmdir()


def _is_emptied(folder: Path) -> bool:
    """Whether a folder of work was emptied by a run that was killed before it let go of it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return {entry.name for entry in folder.iterdir()} <= {LOCK, HOLDER}


def has_finished_rows(path: Path) -> bool:
    """Whether there is work on a map that a run can go on from."""
    return any(file.stat().st_size for file in work_folder(path).glob("*.jsonl"))


def remove_work(path: Path) -> None:
    """Empty the folder of the work on a map, which the caller has locked; what is not ours stays."""
    entries = sorted(work_folder(path).iterdir(), key=lambda entry: entry.name == MARKER)
    for entry in entries:  # the marker last: without it the next run would not know the rest as ours
        if any(fnmatchcase(entry.name, ours) for ours in (*_OURS, MARKER)):
            with suppress(OSError):
                entry.unlink()
