"""Reading a scene row by row, ahead of the network, on threads of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.inference.windows import Area, Part, WindowPlan
from geodistill.raster import Raster, Window


@dataclass(frozen=True)
class Hole:
    """A rectangle that could not be read, in pixels of the map, and why; in the map it is nodata."""

    window: Window
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form that `from_dict` reads back."""
        return {**asdict(self.window), "reason": self.reason}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Hole:
        """Read what `to_dict` returned."""
        row, col, height, width = (int(data[key]) for key in ("row", "col", "height", "width"))
        return cls(Window(row, col, height, width), str(data["reason"]))


@dataclass(frozen=True)
class Rows:
    """Rows of a scene as they were read.

    Attributes:
        image: ``(C, rows, W)`` in the file's dtype, 0 where not valid.
        valid: ``(rows, W)`` bool.
        holes: What could not be read of them.
    """

    image: NDArray[Any]
    valid: NDArray[np.bool_]
    holes: tuple[Hole, ...] = ()

    @classmethod
    def none(cls, area: Area, width: int) -> Rows:
        """Return no rows of an area."""
        image: NDArray[Any] = np.zeros((area.raster.channels, 0, width), area.raster.dtype)
        return cls(image, np.zeros((0, width), bool))

    def __len__(self) -> int:
        return len(self.valid)

    def below(self, count: int, end: int) -> Rows:
        """Return the rows after the first ``count``, whose end is row ``end`` of the scene."""
        holes = tuple(Hole(cut, hole.reason) for hole in self.holes if (cut := _rows_of(hole.window, end)).height > 0)
        return Rows(self.image[:, count:], self.valid[count:], holes)

    def holes_above(self, end: int) -> tuple[Hole, ...]:
        """Return the holes, cut off at row ``end`` of the scene."""
        cuts = [(_rows_of(hole.window, 0, end), hole.reason) for hole in self.holes]
        return tuple(Hole(cut, reason) for cut, reason in cuts if cut.height > 0)

    def __add__(self, following: Rows) -> Rows:
        """Return these rows and those that follow, in arrays of their own."""
        return Rows(
            np.concatenate([self.image, following.image], 1),
            np.concatenate([self.valid, following.valid]),
            self.holes + following.holes,
        )


@dataclass(frozen=True)
class Strip:
    """The pixels under a row of windows.

    Attributes:
        row: Position of the row of windows.
        image: ``(C, size, W)`` in the file's dtype, 0 where not valid. Overwritten by the next strip.
        valid: ``(size, W)`` bool. Overwritten by the next strip.
        holes: What could not be read of the rows that came new with this strip.
    """

    row: int
    image: NDArray[Any]
    valid: NDArray[np.bool_]
    holes: tuple[Hole, ...]


def read_strips(
    area: Area, plan: WindowPlan, part: Part, first_row: int, *, threads: int = 1, keep_going: bool = False
) -> Generator[Strip, None, None]:
    """Read the strips of a block, each pixel once, while the network works on those before.

    A strip is as high as a window. Of the strip before, the rows that both cover move up; the others come from the
    disk, whole blocks of the file at a time, and what was read beyond the strip waits for the next one::

        strip i      strip i+1
        +-------+
        |       |
        |  - - -|   +-------+
        | both  |-> | both  |  moved up in the same array
        +-------+   +-------+
        | rest  |-> | rest  |  read already: the file's blocks reach below strip i
        +.......+   +-------+
        :       :   | chunk |  read ahead, on a thread, while the network works on strip i
        :.......:   +-------+
                    | rest  |  of the chunk: waits for strip i+2

    Each of the ``threads`` has a handle of its own; more than one pays where a source answers late, as over a network.
    With ``keep_going`` blocks of the file that cannot be read become holes.

    Yields:
        The strips from ``first_row`` to the end of the block, in order.

    Raises:
        DataError: The file is truncated, corrupt or gone, and ``keep_going`` is not set.
    """
    left = plan.lefts[part.first_column]
    width = plan.lefts[part.last_column - 1] + plan.size - left
    chunks = [Window(top, left, bottom - top, width) for top, bottom in _chunks(area, plan, part, first_row)]
    image: NDArray[Any] | None = None
    valid = np.zeros((plan.size, width), bool)
    others = [area.raster.reopen() for _ in range(threads - 1)]
    handles: SimpleQueue[Raster] = SimpleQueue()
    for raster in (area.raster, *others):
        handles.put(raster)

    def read(window: Window) -> Rows:
        raster = handles.get()
        try:
            return read_rows(replace(area, raster=raster), window, keep_going)
        finally:
            handles.put(raster)

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Rows]] = deque(pool.submit(read, window) for window in chunks[:threads])
        rest = Rows.none(area, width)
        try:
            for index, row in enumerate(range(first_row, part.last_row)):
                chunk = ahead.popleft().result()
                if index + threads < len(chunks):
                    ahead.append(pool.submit(read, chunks[index + threads]))
                end = plan.tops[row] + plan.size
                new = plan.size if index == 0 else end - plan.tops[row - 1] - plan.size
                if image is None:
                    image = np.zeros((len(chunk.image), plan.size, width), chunk.image.dtype)
                kept, holes = plan.size - new, rest.holes_above(end) + chunk.holes_above(end)
                image[:, :kept], valid[:kept] = image[:, new:].copy(), valid[new:].copy()
                rest = _fill(image[:, kept:], valid[kept:], rest, chunk, end)
                del chunk
                yield Strip(row, image, valid, holes)
        finally:
            for future in ahead:
                future.cancel()
            pool.shutdown(wait=True)
            for raster in others:
                raster.close()


def _chunks(area: Area, plan: WindowPlan, part: Part, first_row: int) -> list[tuple[int, int]]:
    """Return which rows are read for each strip: those that came new with it, on to the end of the file's blocks.

    So no block is fetched and decoded for two strips, whatever reads them. Blocks higher than windows are not waited
    for.
    """
    block, offset = area.raster.block[0], area.window.row
    block = block if block <= plan.size else 1
    last = plan.tops[part.last_row - 1] + plan.size
    ends = [plan.tops[row] + plan.size + offset for row in range(first_row, part.last_row)]
    edges = [plan.tops[first_row], *(min(-(-end // block) * block - offset, last) for end in ends)]
    return list(pairwise(edges))


def _fill(image: NDArray[Any], valid: NDArray[np.bool_], rest: Rows, chunk: Rows, end: int) -> Rows:
    """Fill rows that end at row ``end`` of the scene, from what was left over and then read; return what is left."""
    first = min(len(rest), len(valid))
    last = len(valid) - first
    image[:, :first], image[:, first:] = rest.image[:, :first], chunk.image[:, :last]
    valid[:first], valid[first:] = rest.valid[:first], chunk.valid[:last]
    return rest.below(first, end) + chunk.below(last, end)


def _rows_of(window: Window, first: int, last: int | None = None) -> Window:
    """Return the part of a rectangle from row ``first`` to before row ``last``."""
    top = max(window.row, first)
    bottom = window.row + window.height if last is None else min(window.row + window.height, last)
    return Window(top, window.col, bottom - top, window.width)


def read_rows(area: Area, part: Window, keep_going: bool) -> Rows:
    """Read a rectangle of an area; with ``keep_going`` blocks of the file that cannot be read become holes.

    Raises:
        DataError: It cannot be read, and ``keep_going`` is not set.
    """
    if not part.height:
        return Rows.none(area, part.width)
    try:
        return Rows(*area.read(part))
    except DataError as error:
        if not keep_going:
            raise
        return _read_around(area, part, error)


def _read_around(area: Area, part: Window, first: DataError) -> Rows:
    """Read block by block of the file, and make holes of the blocks that cannot be read."""
    inside = part.intersection(area.window.height, area.window.width)
    image: NDArray[Any] = np.zeros((area.raster.channels, part.height, part.width), area.raster.dtype)
    valid = np.zeros((part.height, part.width), bool)
    holes: list[Hole] = []
    block_height, block_width = area.raster.block
    # Blocks are cut where the file cuts them, which is not where the area begins.
    rows = _cuts(inside.row, inside.row + inside.height, area.window.row, block_height)
    cols = _cuts(inside.col, inside.col + inside.width, area.window.col, block_width)
    for top, bottom in rows:
        for left, right in cols:
            block = Window(top, left, bottom - top, right - left)
            where = Window(top - part.row, left - part.col, block.height, block.width)
            try:
                image[(..., *where.slices)], valid[where.slices] = area.read(block)
            except DataError as error:
                holes.append(Hole(block, error.received))
    return Rows(image, valid, _joined(holes) or (Hole(inside, first.received),))


def _cuts(first: int, last: int, offset: int, step: int) -> list[tuple[int, int]]:
    edges = [first, *(e - offset for e in range((first + offset) // step * step + step, last + offset, step)), last]
    return list(pairwise(edges))


def _joined(holes: list[Hole]) -> tuple[Hole, ...]:
    """Join neighbours along a row of blocks, so that a file cut short makes a few large holes."""
    joined: list[Hole] = []
    for hole in holes:
        last, here = (joined[-1].window if joined else None), hole.window
        if last is not None and last.row == here.row and last.col + last.width == here.col:
            joined[-1] = Hole(Window(last.row, last.col, last.height, last.width + here.width), joined[-1].reason)
        else:
            joined.append(hole)
    return tuple(joined)
