"""The work under way on a map: finished rows as plain bytes, and a journal by which an interrupted run goes on.

Beside a map ``town.tif`` lies, while it is made, the folder ``.town.tif.work``. A block of the scene keeps there a
file of bytes a layer, appended row by row, and a journal with a line a finished strip: the row of windows, the rows,
the check sum of each layer's bytes, and what could not be read. Whatever moment the process dies at, the lines whose
bytes agree with their check sums are finished work.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import BusyError, OutputError, output_error
from geodistill.files import hidden_beside
from geodistill.folders import MARKER, empty_folder, hold_folder, mark_folder
from geodistill.inference.sliding import Edges, SceneRows
from geodistill.inference.strips import Hole
from geodistill.inference.windows import Part, Plan
from geodistill.reading import parse_lines, read_bytes, read_object

ABOUT = "about.json"
"""File of the work's folder that holds all that the map's bytes follow from."""

_OURS = (f"{ABOUT}*", "rows-*", "edge-*", "overview-*", "classes.*", "confidence.*", "probabilities.*")
"""What a run leaves in the work's folder; nothing else is ever removed from it."""

_JOURNAL_BYTES = 1 << 30


@dataclass(frozen=True)
class Layer:
    """What is stored of one layer.

    Attributes:
        name: ``classes``, ``confidence`` or ``probabilities``.
        bands: Number of bands.
        dtype: Sample type of the bytes.
    """

    name: str
    bands: int
    dtype: str


class PartFiles:
    """The files of one block, open for appending; use as a context manager.

    Args:
        folder: The work's folder.
        plan: The windows of the scene.
        part: The block.
        layers: What is stored.
    """

    def __init__(self, folder: Path, plan: Plan, part: Part, layers: tuple[Layer, ...]) -> None:
        self.folder, self.part, self.layers = folder, part, layers
        self.pixels = part.pixels(plan)
        self._stem = part_stem(part)
        self._journal = folder / f"{self._stem}.jsonl"
        self.next_row = part.first_row
        self.windows = 0
        self.holes: list[Hole] = []
        self._files: dict[str, BinaryIO] = {}

    def path(self, layer: Layer) -> Path:
        """Give the file of a layer's bytes: rows of bands of columns."""
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
        self._rows, kept = 0, 0
        data = read_bytes(self._journal, _JOURNAL_BYTES, OutputError) if self._journal.exists() else b""
        for line in parse_lines(data):
            if not (_is_ours(line) and line["row"] == self.next_row and self._agrees(line)):
                break
            self._rows += line["rows"]
            self.next_row, self.windows = line["row"] + 1, self.windows + line["windows"]
            self.holes += [Hole.from_dict(hole) for hole in line["holes"]]
            kept += 1
        told = data.splitlines(keepends=True)[:kept]
        self._journal.write_bytes(b"".join(told))
        self._log = self._journal.open("ab")
        for layer in self.layers:
            file = self.path(layer).open("ab")
            file.truncate(self._rows * self._row_bytes(layer))
            self._files[layer.name] = file
        return self

    def __exit__(self, *_: object) -> None:
        for file in [*self._files.values(), self._log]:
            file.close()

    def append(self, rows: SceneRows) -> None:
        """Store finished rows, then say so in the journal.

        Raises:
            OSError: There is no space left for them.
        """
        sums = {}
        for layer in self.layers:
            data = _bytes_of(rows.layers[layer.name], layer)
            self._files[layer.name].write(data)
            self._files[layer.name].flush()
            sums[layer.name] = zlib.crc32(data)
        count = rows.valid.shape[0]
        holes = [hole.to_dict() for hole in rows.holes]
        line = {"row": rows.row, "rows": count, "windows": rows.windows, "holes": holes, "sums": sums}
        self._log.write(json.dumps(line | {"crc": _sum_of(line)}).encode() + b"\n")
        self._log.flush()
        self.next_row, self._rows, self.windows = rows.row + 1, self._rows + count, self.windows + rows.windows
        self.holes += rows.holes

    def _row_bytes(self, layer: Layer) -> int:
        return layer.bands * self.pixels.width * np.dtype(layer.dtype).itemsize

    def _agrees(self, line: Mapping[str, Any]) -> bool:
        for layer in self.layers:
            if not self.path(layer).exists():
                return False
            with self.path(layer).open("rb") as file:
                file.seek(self._rows * self._row_bytes(layer))
                data = file.read(line["rows"] * self._row_bytes(layer))
            if len(data) != line["rows"] * self._row_bytes(layer) or zlib.crc32(data) != line["sums"].get(layer.name):
                return False
        return True


def _sum_of(line: Mapping[str, Any]) -> int:
    """Return the check sum of a journal's line, which stands in it as ``crc``."""
    return zlib.crc32(json.dumps({key: line[key] for key in sorted(line) if key != "crc"}).encode())


def _is_ours(line: Any) -> bool:
    """Whether a journal's line is as it was written."""
    return isinstance(line, dict) and "crc" in line and line["crc"] == _sum_of(line)


def part_stem(part: Part) -> str:
    """Give the name that all files of a block begin with."""
    return f"rows-{part.first_row:05}-{part.last_row:05}-columns-{part.first_column:05}-{part.last_column:05}"


def _bytes_of(values: NDArray[np.uint8] | NDArray[np.float32], layer: Layer) -> bytes:
    """``(bands, rows, W)`` as bytes, row by row and in a row band by band."""
    ordered = values.astype(layer.dtype, copy=False).transpose(1, 0, 2)
    return ordered.tobytes()


class EdgeFile:
    """Sums that one block of a wide scene leaves for the block to its right, of each row of windows.

    Args:
        path: Where they are kept.
        first_row: Row of windows the file begins with.
        shape: ``(K, size, columns)``.
    """

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
            data, told = file.read(self._bytes), file.read(4)
        if len(data) != self._bytes or zlib.crc32(data).to_bytes(4, "little") != told:
            raise OtherWorkError(f"{self._path} was altered", "the file as it was written", "run without --resume")
        return torch.from_numpy(np.frombuffer(bytearray(data), np.float32).reshape(self._shape))


def edges_of(folder: Path, plan: Plan, part: Part, classes: int) -> Edges:
    """Say where a block gets its left sums from and leaves its right ones; none at the edges of the scene."""
    first = plan.reaching(part.first_row)

    def between(column: int) -> EdgeFile:
        overlap = plan.lefts[column - 1] + plan.size - plan.lefts[column]
        path = folder / f"edge-{first:05}-{part.last_row:05}-{column:05}.bin"
        return EdgeFile(path, first, (classes, plan.size, overlap))

    left = between(part.first_column) if part.first_column else None
    right = between(part.last_column) if part.last_column < len(plan.lefts) else None
    return Edges(left.read if left else None, right.write if right else None)


def work_folder(path: Path) -> Path:
    """Return the folder of the work on a map."""
    return hidden_beside(path, ".work")


@contextmanager
def open_work(path: Path, about: Mapping[str, Any], resume: bool) -> Iterator[Path]:
    """Hold the folder of the work on a map, which no other run can hold meanwhile; it is left as it is at the end.

    Args:
        path: The map.
        about: All that its bytes follow from; work on another is never continued.
        resume: Continue the work found there; else it begins anew.

    Raises:
        BusyError: Another run is at work on this map.
        OtherWorkError: What is found there is work on another map.
        OutputError: The place cannot be written, is a link, or holds what is not ours.
    """
    folder = work_folder(path)
    try:
        with _held(folder):
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
def _held(folder: Path) -> Iterator[None]:
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link", "a folder of our own", "remove it, or choose another --out")
    with hold_folder(folder, "predict"):
        yield


def _begin(folder: Path, about: Mapping[str, Any], resume: bool) -> None:
    for entry in folder.iterdir():
        if entry.is_symlink():  # what we keep here is never one
            entry.unlink()
    found, wanted = about_of(folder), json.loads(json.dumps(about))
    if found is not None and resume and found != wanted:
        other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        raise OtherWorkError(
            f"{folder} holds work with other {', '.join(other[:12])}",
            "the same as before",
            "run without --resume, which begins anew",
        )
    if found is None or not resume:
        empty_folder(folder)
        mark_folder(folder, "work of predict", _OURS)
        part = folder / f"{ABOUT}.part"
        part.write_text(json.dumps(wanted), encoding="utf-8")
        part.replace(folder / ABOUT)


def about_of(folder: Path) -> dict[str, Any] | None:
    """Return all that the bytes of the map follow from whose work lies in a folder; ``None`` where it is not known.

    Work whose description was cut or altered is nobody's: it begins anew.
    """
    if folder.is_symlink() or not (folder / ABOUT).is_file():
        return None
    try:
        return read_object(folder / ABOUT, error=OutputError)
    except OutputError:
        return None


def discard_work(path: Path, about: Mapping[str, Any]) -> None:
    """Remove what a run that was killed at its very end left of the work on a finished map; others' work stays."""
    folder = work_folder(path)
    if about_of(folder) != json.loads(json.dumps(about)):
        return
    with suppress(BusyError), _held(folder):
        remove_work(path)
    with suppress(OSError):
        folder.rmdir()


def has_finished_rows(path: Path) -> bool:
    """Whether there is work on a map that a run can go on from."""
    return any(file.stat().st_size for file in work_folder(path).glob("*.jsonl"))


def remove_work(path: Path) -> None:
    """Empty the folder of the work on a map, which the caller holds; what is not ours stays."""
    for entry in work_folder(path).iterdir():
        if any(fnmatchcase(entry.name, ours) for ours in (*_OURS, MARKER)):
            with suppress(OSError):
                entry.unlink()
