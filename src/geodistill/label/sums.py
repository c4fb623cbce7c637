"""Size and check sum of a finished file, by which a continued run knows it again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def file_sums(folder: Path, names: tuple[str, ...]) -> dict[str, list[int]]:
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
