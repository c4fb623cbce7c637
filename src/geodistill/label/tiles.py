"""Tiles: windows over a large image, the plan of all of them before any pixel is read, and the names of their files.

Names are valid on every system, and never two that some system takes for one.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geodistill.errors import DataError, RecipeError
from geodistill.files import LONGEST_NAME
from geodistill.label.boxes import Annotations, Box, bounds_of, boxes_in
from geodistill.raster import Window
from geodistill.raster.grid import window_starts


def tile_windows(height: int, width: int, size: int | None, overlap: int) -> list[Window]:
    """Cover an image with windows, row by row; the last of a row or column is flush with the edge.

    Neighbours share at least ``overlap`` pixels (the set's authors' "gap"): 200 at size 1024, 150 at 600. An image
    smaller than the size is one smaller window, and without a size the image is one.

    Raises:
        RecipeError: The overlap is negative or not smaller than the size.
    """
    if height < 1 or width < 1:
        return []
    if size is None:
        return [Window(0, 0, height, width)]
    if size < 1 or not 0 <= overlap < size:
        raise RecipeError(f"tiles of {size} with overlap {overlap}", "a size of at least 1 and a smaller overlap")
    rows, cols = (window_starts(length, size, size - overlap, "flush") for length in (height, width))
    return [Window(row, col, min(size, height), min(size, width)) for row in rows for col in cols]


class TileId(NamedTuple):
    """Names a tile: the key of the image, first row and column of the tile in it."""

    key: str
    row: int
    col: int


@dataclass(frozen=True, eq=False)
class TileTask:
    """One tile, and the boxes that touch it in the frame of the image; not all of them belong to it."""

    window: Window
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class ImageTask:
    """Tiles of one image that are read together: one row of tiles.

    Attributes:
        key: The image's key.
        name: What its files are called, without suffix.
        image: The file.
        tiled: Whether the image is cut, so that its tiles become files of their own.
        tiles: The tiles, from left to right.
    """

    key: str
    name: str
    image: Path
    tiled: bool
    tiles: tuple[TileTask, ...]

    def ids(self) -> list[TileId]:
        """Return what identifies each tile."""
        return [TileId(self.key, tile.window.row, tile.window.col) for tile in self.tiles]

    def file_name(self, window: Window) -> str:
        """Return the name of a tile's files without suffix, with forward slashes."""
        return f"{self.name}_{window.row:05d}_{window.col:05d}" if self.tiled else self.name


Item = tuple[ImageTask, ...]
"""What a worker takes at once: enough tiles to fill one batch of the segmenter's encoder."""


def plan(annotations: Annotations, tile: int | None, overlap: int) -> Iterator[ImageTask]:
    """Yield every row of tiles of every image that can be opened, in the order of their keys."""
    names = output_names([image.key for image in annotations.images], ENDS if tile is None else TILE_ENDS)
    for image in annotations.images:
        if not image.width or not image.height:
            continue
        # True masks have no part in labelling and are heavy. A box's share counts only what lies inside the image.
        boxes = [replace(box, segmentation=None) for box in image.boxes]
        boxes = boxes_in(boxes, Window(0, 0, image.height, image.width), 0)
        bounds = bounds_of([box.polygon for box in boxes])
        windows = tile_windows(image.height, image.width, tile, overlap)
        for _, row in groupby(sorted(windows, key=lambda w: (w.row, w.col)), key=lambda w: w.row):
            tasks = tuple(TileTask(window, _touching(boxes, bounds, window)) for window in row)
            yield ImageTask(image.key, names[image.key], image.image, tile is not None, tasks)


def _touching(
    boxes: Sequence[Box], bounds: np.ndarray[tuple[int, ...], np.dtype[np.float64]], window: Window
) -> tuple[Box, ...]:
    left, top, right, bottom = bounds.T
    hit = (left < window.col + window.width) & (right > window.col)
    hit &= (top < window.row + window.height) & (bottom > window.row)
    return tuple(boxes[i] for i in np.nonzero(hit)[0].tolist())


def batches(tasks: Iterator[ImageTask], done: Collection[TileId], size: int) -> list[Item]:
    """Gather tasks into items of at least ``size`` tiles and leave out what is done.

    Where tiles share a network's batch, the last bits of their masks depend on all of it. What shares an item follows
    from the plan alone, and an item with any tile missing is done whole: a continued run gives the same masks.
    """
    items: list[Item] = []
    gathered: list[ImageTask] = []
    for task in tasks:
        gathered.append(task)
        if sum(len(one.tiles) for one in gathered) >= size:
            items.append(tuple(gathered))
            gathered = []
    left = [_missing(item, done, size) for item in (*items, tuple(gathered))]
    return [item for item in left if item]


def _missing(item: Item, done: Collection[TileId], size: int) -> Item:
    """Return what of an item is to do: all or nothing, or tile by tile where each is a batch of its own."""
    if size > 1:
        return item if any(name not in done for task in item for name in task.ids()) else ()
    left = []
    for task in item:
        tiles = tuple(t for t, name in zip(task.tiles, task.ids(), strict=True) if name not in done)
        left += [replace(task, tiles=tiles)] if tiles else []
    return tuple(left)


def image_names(annotations: Annotations) -> str:
    """Return a digest of the images' names: it changes where one comes, goes or is renamed."""
    digest = hashlib.sha256()
    for image in annotations.images:
        digest.update(image.key.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def annotation_files(annotations: Annotations) -> str:
    """Return a digest of what the annotation files hold, of the way they are read, and of the classes found.

    Raises:
        DataError: A file cannot be read.
    """
    return _digest("".join(f"{name}\n" for name in annotations.categories) + annotations.reading, annotations.files)


def annotation_lists(annotations: Annotations) -> str:
    """Return a digest of what the other files hold that annotations depend on, such as lists of classes.

    Raises:
        DataError: A file cannot be read.
    """
    return _digest("", annotations.lists)


def split_lists(folder: Path) -> str:
    """Return a digest of the lists in a folder that say which source images are in which split.

    Raises:
        DataError: A file cannot be read.
    """
    files = sorted(folder.glob("*.txt"))
    return _digest("".join(f"{path.name}\n" for path in files), files)


def _digest(text: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for path in sorted(set(files)):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})", "a readable file") from error
    return digest.hexdigest()


TILE_ENDS = 26
"""Bytes that the place of a tile and a suffix may add to a name: two numbers of ten digits, and ``.png``."""


ENDS = 4
"""Bytes that a suffix adds: ``.png``."""


_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')


_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)


_DIGITS = 8


def output_names(keys: Collection[str], besides: int) -> dict[str, str]:
    """Return the name of each key (a path without suffix, with ``/``): the key itself wherever every system takes it.

    Where one does not (Windows forbids ``CON``, ``a:b`` and folders that end in a dot; a name may have 255 bytes with
    the ``besides`` that are added; systems that do not tell ``a`` from ``A`` would write two keys to one file), what is
    forbidden becomes ``_`` and a digest of the key follows: names do not depend on the order of the keys.
    """
    cleaned = {key: _clean(key) for key in keys}
    occurrences = Counter(map(_folded, cleaned.values()))
    names = {}
    for key, name in cleaned.items():
        odd = name != key or occurrences[_folded(name)] > 1 or _length(name) + besides > LONGEST_NAME
        names[key] = _with_digest(name, key, besides) if odd else key
    return names


def flat_names(keys: Collection[str], besides: int) -> dict[str, str]:
    """Return a name without folders of each key, as `output_names` gives them; ``a/b`` becomes ``a_b``."""
    flat = {key: key.replace("/", "_") for key in keys}
    occurrences = Counter(flat.values())
    named = output_names({name for name in flat.values() if occurrences[name] == 1}, besides)
    return {
        key: named[name] if name in named else _with_digest(_clean(name), key, besides) for key, name in flat.items()
    }


def _clean(key: str) -> str:
    *folders, last = key.split("/")
    parts = [_part(folder).rstrip(". ") or "_" for folder in folders]
    return "/".join([*parts, _part(last)])


def _part(part: str) -> str:
    readable = part.encode("utf-8", "replace").decode("utf-8")  # bytes of a file's name that are no UTF-8 become ?
    return _RESERVED.sub(r"\1_", _FORBIDDEN.sub("_", readable), count=1) or "_"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _length(name: str) -> int:
    return len(os.fsencode(name.rpartition("/")[2]))


def _with_digest(name: str, key: str, besides: int) -> str:
    folder, slash, last = name.rpartition("/")
    room = LONGEST_NAME - besides - _DIGITS - 1
    kept = last.encode("utf-8")[:room].decode("utf-8", "ignore")
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{folder}{slash}{kept}-{digest}"
