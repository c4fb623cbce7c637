"""The work under way on a map: finished rows as plain bytes, and a journal by which an interrupted run goes on.

Beside a map ``town.tif`` lies, while it is made, the folder ``.town.tif.work``. A block of the scene keeps there a
file of bytes a layer, appended row by row, and a journal with a line a finished strip: the row of windows, the rows,
the check sum of each layer's bytes, and what could not be read. Whatever moment the process dies at, the lines whose
bytes agree with their check sums are finished work.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import OutputError
from geodistill.files import output_error
from geodistill.scene.read import Hole
from geodistill.scene.stream import Edges, SceneRows
from geodistill.scene.windows import Part, Plan

ABOUT = "about.json"


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
        for line in self._lines():
            if not self._agrees(line):
                break
            self._rows += line["rows"]
            self.next_row, self.windows = line["row"] + 1, self.windows + line["windows"]
            self.holes += [Hole.from_dict(hole) for hole in line["holes"]]
            kept += 1
        told = self._journal.read_bytes().splitlines(keepends=True)[:kept] if kept else []
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
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()
        self.next_row, self._rows, self.windows = rows.row + 1, self._rows + count, self.windows + rows.windows
        self.holes += rows.holes

    def _row_bytes(self, layer: Layer) -> int:
        return layer.bands * self.pixels.width * np.dtype(layer.dtype).itemsize

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Give the journal's lines up to one that was cut off."""
        if not self._journal.exists():
            return
        for line in self._journal.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError:
                return

    def _agrees(self, line: Mapping[str, Any]) -> bool:
        for layer in self.layers:
            if not self.path(layer).exists():
                return False
            with self.path(layer).open("rb") as file:
                file.seek(self._rows * self._row_bytes(layer))
                data = file.read(line["rows"] * self._row_bytes(layer))
            if len(data) != line["rows"] * self._row_bytes(layer) or zlib.crc32(data) != line["sums"][layer.name]:
                return False
        return True


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

    def write(self, row: int, sums: Tensor) -> None:
        """Keep the sums of a row of windows.

        Raises:
            OSError: There is no space left for them.
        """
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek((row - self._first) * self._bytes)
            file.write(sums.contiguous().numpy().tobytes())

    def read(self, row: int) -> Tensor:
        """Give the sums of a row of windows."""
        with self._path.open("rb") as file:
            file.seek((row - self._first) * self._bytes)
            data = file.read(self._bytes)
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
    """Give the folder of the work on a map."""
    return path.with_name(f".{path.name}.work")


@contextmanager
def open_work(path: Path, about: Mapping[str, Any], resume: bool) -> Iterator[Path]:
    """Hold the folder of the work on a map, which no other run can hold meanwhile; it is left as it is at the end.

    Args:
        path: The map.
        about: All that its bytes follow from; work on another is never continued.
        resume: Continue the work found there; else it begins anew.

    Raises:
        OutputError: Another run is at work on this map, what is found there is work on another map, or the place
            cannot be written.
    """
    folder = work_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", blocking=False):
            _begin(folder, about, resume)
            yield folder
    except Timeout as error:
        raise OutputError(f"another run is making {path}", "one run a map", "wait for it, or stop it") from error
    except OSError as error:
        raise output_error(path, error) from error


def _begin(folder: Path, about: Mapping[str, Any], resume: bool) -> None:
    written = folder / ABOUT
    found = json.loads(written.read_text(encoding="utf-8")) if written.exists() else None
    wanted = json.loads(json.dumps(about))
    if found is not None and resume and found != wanted:
        other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        raise OutputError(
            f"{folder} holds work with other {', '.join(other)}", "the same as before", "run without --resume"
        )
    if found is None or not resume:
        for entry in folder.iterdir():
            if entry.name != "lock":
                entry.unlink()
        part = folder / f"{ABOUT}.part"
        part.write_text(json.dumps(wanted), encoding="utf-8")
        part.replace(written)


def discard_work(path: Path, about: Mapping[str, Any]) -> None:
    """Remove what a run that was killed at its very end left of the work on a finished map; others' work stays."""
    written = work_folder(path) / ABOUT
    if not written.is_file() or json.loads(written.read_text(encoding="utf-8")) != json.loads(json.dumps(about)):
        return
    with suppress(Timeout), FileLock(written.parent / "lock", blocking=False):
        remove_work(path)


def has_finished_rows(path: Path) -> bool:
    """Whether there is work on a map that a run can go on from."""
    return any(file.stat().st_size for file in work_folder(path).glob("*.jsonl"))


def remove_work(path: Path) -> None:
    """Remove the folder of the work on a map."""
    shutil.rmtree(work_folder(path), ignore_errors=True)
