"""The teacher's outputs on disk: fixed-size records in memory-mapped shards, computed once and read at every pass.

A folder for each teacher, data set and way of cropping: ``meta.json`` (what the records depend on), ``index.bin`` (one
uint32 per record: the CRC-32 of its bytes, 0 where there is none) and ``shard_*.bin``. A record is written in this
order, so that one which a killed process or machine left half written is never used:

    index[slot] = 0  ->  shard[slot] = bytes  ->  index[slot] = CRC-32 of the bytes; readers compare it once

Writing goes by `os.write`, which reports a full disk; a write through a mapping would end the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import weakref
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.errors import ArtifactError, GeodistillWarning, RecipeError, output_error, output_errors
from geodistill.files import write_text
from geodistill.methods.teacher import Compute, Storage
from geodistill.reading import read_object

FORMAT = 1
SHARD_BYTES = 2**30
PAGE = 4096
INDEX = "index.bin"
LOCK, LOCK_SECONDS = "write.lock", 30.0
"""File that one process at a time writes records under, each in milliseconds, and how long one waits for it."""


@dataclass(frozen=True)
class CacheSize:
    """What a cache will take: bytes of a record (a view of a sample), records in all, and those with room for them."""

    record: int
    views: int
    room: int

    def __str__(self) -> str:
        size = f"{self.views:,} views of {self.record / 1e6:.2f} MB, {self.views * self.record / 1e9:.2f} GB in all"
        if self.room < self.views:
            size += f"; teacher.cache_gb leaves room for {self.room:,}, the others are computed each time"
        return size


class TeacherCache:
    """Records of one teacher's outputs by slot, safe with any number of processes.

    Args:
        root: Directory that the user named; it may hold the caches of many teachers.
        description: All that the records depend on; another description has another folder.
        shapes: Shape of each tensor of a record, channels first.
        slots: Records in all.
        cap: Largest size in bytes.
        storage: How numbers are kept: ``float16``, or ``uint8`` between the smallest and largest of each channel.

    Raises:
        RecipeError: Not one record fits under the cap.
        ArtifactError: The folder holds records of something else.
        OutputError: The folder cannot be made.
    """

    def __init__(
        self,
        root: Path | str,
        description: Mapping[str, Any],
        shapes: Sequence[tuple[int, ...]],
        slots: int,
        cap: float,
        storage: Storage = "float16",
    ) -> None:
        self._shapes, self._storage = [tuple(shape) for shape in shapes], storage
        used = sum(_part_bytes(shape, storage) for shape in self._shapes)
        record = -(-used // PAGE) * PAGE
        self.size = CacheSize(record, slots, min(slots, int(cap // record)))
        if self.size.room < 1:
            raise RecipeError(
                f"teacher.cache_gb {cap / 1e9:g} for records of {record / 1e9:.4f} GB", "room for more", "raise it"
            )
        self._used, self._a_shard = used, max(SHARD_BYTES // record, 1)
        meta = {"format": FORMAT, "storage": storage, "shapes": self._shapes, "slots": slots, **description}
        meta = json.loads(json.dumps(meta))
        key = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
        self.folder = Path(root) / key[:16]
        _claim_folder(self.folder, meta)
        self._lock = FileLock(self.folder / LOCK, timeout=LOCK_SECONDS)  # ends with its process, however that ends
        self._files: dict[str, int] = {}
        self._maps: dict[int, NDArray[np.uint8]] = {}
        weakref.finalize(self, _close, self._files)
        try:
            self._file(INDEX, 4 * slots)
            self._index = np.memmap(self.folder / INDEX, "<u4", "r", shape=(slots,))
        except OSError as error:
            raise output_error(self.folder, error) from error
        except ValueError as error:  # numpy's word for a file that is none of ours
            raise ArtifactError(
                f"the teacher cache {self.folder} has an {INDEX} that cannot be used", "the file as written", _MEND
            ) from error
        self._whole = np.zeros(slots, bool)
        self._writable = True

    def __call__(self, batch: Batch, compute: Compute) -> list[Tensor]:
        """Read what is there and compute the rest; what was computed is rounded as if it had been read.

        A sample that will be kept goes through the teacher alone: the last bits of its outputs depend on the batch
        it is in, and which samples are missing from a batch depends on when a run was stopped. What there is no room
        for is computed together each time.

        Args:
            batch: Its ``slot`` says which records are its samples'.
            compute: Returns the tensors of some samples of the batch.
        """
        slots = batch["slot"].tolist()
        records = [self.read(slot) for slot in slots]
        missing = [row for row, parts in enumerate(records) if parts is None]
        kept = [row for row in missing if self.keeps(slots[row])]
        others = [row for row in missing if not self.keeps(slots[row])]
        for rows in [*([row] for row in kept), *([others] if others else [])]:
            computed = compute(batch, rows)
            for index, row in enumerate(rows):
                records[row] = self.write(slots[row], [part[index] for part in computed])
        samples = [parts for parts in records if parts is not None]
        device = batch["image"].device
        return [torch.stack(parts).to(device).float() for parts in zip(*samples, strict=True)]

    def __len__(self) -> int:
        """Records written so far, by any process."""
        return int(np.count_nonzero(self._index))

    def read(self, slot: int) -> list[Tensor] | None:
        """Return a record's tensors on the CPU, or ``None`` where there is none; they may share the file's memory.

        They are float16 for that storage, float32 for ``uint8``.
        """
        if not self.keeps(slot) or not self._index[slot]:
            return None
        data = self._record(slot)
        if data is None or not self._is_whole(slot, data):
            return None
        return self._unpack(data)

    def keeps(self, slot: int) -> bool:
        """Whether there is room for a record under the cap."""
        return 0 <= slot < self.size.room

    def write(self, slot: int, parts: Sequence[Tensor]) -> list[Tensor]:
        """Keep a record, and return its tensors as `read` will.

        A disk that is full, or fails, ends the writing with one warning; a record that another process is writing
        is left to it.

        Raises:
            RecipeError: A number is beyond float16.
        """
        data = self._pack(parts)
        if self.keeps(slot) and self._writable:
            try:
                with suppress(Timeout), self._lock:
                    self._store(slot, data)
            except OSError as error:
                self._writable = False
                warnings.warn(
                    f"the teacher cache {self.folder} takes no more records ({error.strerror}); training goes on, "
                    f"with the teacher computed for views that it does not hold",
                    GeodistillWarning,
                    stacklevel=2,
                )
        return self._unpack(data)

    def _store(self, slot: int, data: NDArray[np.uint8]) -> None:
        shard, place = divmod(slot, self._a_shard)
        records = min(self._a_shard, self.size.views - shard * self._a_shard)
        file, index = (
            self._file(f"shard_{shard:04d}.bin", records * self.size.record),
            self._file(INDEX, 4 * self.size.views),
        )
        written = self._record(slot) if self._index[slot] else None
        if written is None or not self._is_whole(slot, written):
            write_all(index, bytes(4), slot * 4)
            write_all(file, data.data, place * self.size.record)
            write_all(index, _checksum(data).to_bytes(4, "little"), slot * 4)
            self._whole[slot] = True

    def _is_whole(self, slot: int, data: NDArray[np.uint8]) -> bool:
        """Whether a record is what was written; looked at once in a process."""
        if not self._whole[slot]:
            self._whole[slot] = _checksum(data) == self._index[slot]
        return bool(self._whole[slot])

    def _record(self, slot: int) -> NDArray[np.uint8] | None:
        """Return a record's bytes in the file's own memory, or ``None`` where its shard is missing or short."""
        shard, place = divmod(slot, self._a_shard)
        if shard not in self._maps:
            try:
                # Copy-on-write: torch wants memory that it may write to, and nothing ever does.
                self._maps[shard] = np.asarray(np.memmap(self.folder / f"shard_{shard:04d}.bin", np.uint8, "c"))
            except (OSError, ValueError):
                return None
        data = self._maps[shard][place * self.size.record :][: self._used]
        return data if len(data) == self._used else None

    def _file(self, name: str, size: int) -> int:
        """Open a file of the cache for writing, at least so large; what is not written yet takes no room."""
        if name not in self._files:
            binary = getattr(os, "O_BINARY", 0)
            self._files[name] = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | binary, 0o666)
        if os.fstat(self._files[name]).st_size < size:
            os.truncate(self._files[name], size)
        return self._files[name]

    def _pack(self, parts: Sequence[Tensor]) -> NDArray[np.uint8]:
        data = np.zeros(self._used, np.uint8)
        start = 0
        for part, shape in zip(parts, self._shapes, strict=True):
            if tuple(part.shape) != shape:
                raise ArtifactError(f"a teacher's output of {tuple(part.shape)}", f"{shape}, as it was announced")
            values = part.detach().float().cpu().contiguous()
            for piece in _halves(values) if self._storage == "float16" else _bytes(values):
                raw = piece.numpy().reshape(-1).view(np.uint8)
                data[start : start + raw.size] = raw
                start += raw.size
            start = -(-start // 4) * 4
        return data

    def _unpack(self, data: NDArray[np.uint8]) -> list[Tensor]:
        parts: list[Tensor] = []
        start = 0
        for shape in self._shapes:
            stop = start + _part_bytes(shape, self._storage)
            raw = torch.from_numpy(np.asarray(data[start:stop]))
            count = int(np.prod(shape))
            if self._storage == "float16":
                parts.append(raw[: 2 * count].view(torch.float16).view(shape))
            else:
                ranges = raw[: 8 * shape[0]].view(torch.float32).view(2, shape[0], *[1] * (len(shape) - 1))
                codes = raw[8 * shape[0] : 8 * shape[0] + count].view(shape)
                parts.append(codes.float() * ranges[1] + ranges[0])
            start = stop
        return parts


_MEND = "remove that folder, or name another teacher.cache"


def _claim_folder(folder: Path, meta: dict[str, Any]) -> None:
    """Make the folder of a description, or see that what is there is of that very description."""
    file = folder / "meta.json"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            write_text(file, json.dumps(meta, indent=2) + "\n")
    try:
        known = read_object(file, error=ArtifactError)
    except ArtifactError as error:
        raise ArtifactError(error.received, error.expected, _MEND) from error
    if known != meta:
        raise ArtifactError(
            f"the teacher cache {folder} was written by another teacher, or for other data",
            f"the {file.name} that belongs to its name",
            _MEND,
        )


def _halves(values: Tensor) -> list[Tensor]:
    halves = values.half()
    if not torch.isfinite(halves).all():
        raise RecipeError(
            f"a teacher's output up to {float(values.abs().max()):.3g} in a float16 cache",
            "numbers up to 65504",
            "set teacher.cache_storage: uint8",
        )
    return [halves]


def _bytes(values: Tensor) -> list[Tensor]:
    flat = values.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    step = ((high - low) / 255).clamp(min=1e-12)
    codes = ((flat - low[:, None]) / step[:, None]).round().clamp(0, 255).to(torch.uint8)
    return [torch.stack([low, step]), codes]


def _part_bytes(shape: tuple[int, ...], storage: Storage) -> int:
    """Bytes of one tensor of a record, up to the next multiple of 4."""
    count = int(np.prod(shape))
    size = 2 * count if storage == "float16" else count + 8 * shape[0]
    return -(-size // 4) * 4


def _checksum(data: NDArray[np.uint8]) -> int:
    """CRC-32, never 0."""
    return zlib.crc32(data.data) or 1


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data at an offset, in as many pieces as the system takes."""
    os.lseek(file, offset, os.SEEK_SET)
    while data:
        data = data[os.write(file, data) :]


def _close(files: dict[str, int]) -> None:
    for file in files.values():
        os.close(file)
