"""Tiles of a large picture at halving sizes, made in one pass from top to bottom; memory grows with its width alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 256
"""Side of a tile in pixels."""

Picture = NDArray[np.uint8]
"""``(H, W)`` or ``(H, W, C)``."""


def finest_level(height: int, width: int) -> int:
    """Return the level at which a pixel of the picture is one of the tiles; at level 0 one tile holds all."""
    return max(math.ceil(math.log2(max(height, width) / TILE)), 0)


def write_tiles(
    strips: Iterator[Picture],
    level: int,
    folder: Path,
    encode: Callable[[Picture], bytes | None],
    halve: Callable[[Picture], Picture],
    suffix: str,
) -> None:
    """Write the tiles of every level, from ``level`` down to 0, into ``folder/LEVEL/COLUMN/ROW.SUFFIX``.

    Args:
        strips: The picture's rows, `TILE` at a time; the last may be fewer.
        level: Of the picture as it is (`finest_level`).
        folder: An empty folder.
        encode: Makes the file of a tile; ``None`` where it shows nothing.
        halve: Halves both sides of a picture, odd ones rounded up.
        suffix: Of the files.
    """
    waiting: list[list[Picture]] = [[] for _ in range(level + 1)]
    rows = [0] * (level + 1)

    def put(strip: Picture, at: int, last: bool) -> None:
        for column in range(-(-strip.shape[1] // TILE)):
            data = encode(strip[:, column * TILE : (column + 1) * TILE])
            if data is not None:
                file = folder / str(at) / str(column) / f"{rows[at]}{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        rows[at] += 1
        if not at:
            return
        waiting[at].append(halve(strip))
        if len(waiting[at]) == 2 or last:
            put(np.concatenate(waiting[at]), at - 1, last)
            waiting[at] = []

    for strip, last in _with_last(strips):
        put(strip, level, last)


def _with_last(strips: Iterator[Picture]) -> Iterator[tuple[Picture, bool]]:
    """Yield each strip with whether it is the last one."""
    before: Picture | None = None
    for strip in strips:
        if before is not None:
            yield before, False
        before = strip
    if before is not None:
        yield before, True


def halved_classes(picture: Picture) -> Picture:
    """Return every second pixel of every second row."""
    return picture[::2, ::2]


def halved_colours(picture: Picture) -> Picture:
    """Return the means of two by two pixels of ``(H, W, 4)`` RGBA, each weighed by its alpha."""
    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.float32)
    alpha = even[..., 3:]
    parts: Sequence[tuple[slice, slice]] = [
        (slice(row, None, 2), slice(column, None, 2)) for row in (0, 1) for column in (0, 1)
    ]
    total = sum((alpha[part] for part in parts), np.zeros_like(alpha[parts[0]]))
    colour: NDArray[Any] = sum(
        (even[part][..., :3] * alpha[part] for part in parts), np.zeros_like(even[parts[0]][..., :3])
    )
    mean = np.divide(colour, total, out=np.zeros_like(colour), where=total > 0)
    return np.concatenate([mean, total / 4], -1).round().astype(np.uint8)
