"""Which tiles there are to label, with the boxes that may belong to each, before anything is read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from geodistill.errors import DataError
from geodistill.label.geometry import bounds_of
from geodistill.label.records import Annotations, Box
from geodistill.label.tiling import boxes_in, tile_windows
from geodistill.raster import Window

TileId = tuple[str, int, int]
"""Key of the image, first row and first column of the tile."""


@dataclass(frozen=True, eq=False)
class TileTask:
    """One tile.

    Attributes:
        window: Where it lies in its image.
        boxes: Boxes that touch it, in the frame of the image; not all of them belong to it.
    """

    window: Window
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class ImageTask:
    """Tiles of one image that are read together: one row of tiles.

    Attributes:
        key: The image's key.
        image: The file.
        tiled: Whether the image is cut, so that its tiles become files of their own.
        tiles: The tiles, from left to right.
    """

    key: str
    image: Path
    tiled: bool
    tiles: tuple[TileTask, ...]

    def ids(self) -> list[TileId]:
        """Name the tiles."""
        return [(self.key, tile.window.row, tile.window.col) for tile in self.tiles]


Item = tuple[ImageTask, ...]
"""What a worker takes at once: enough tiles to fill one batch of the segmenter's encoder."""


def plan(annotations: Annotations, tile: int | None, overlap: int) -> Iterator[ImageTask]:
    """Give every row of tiles of every image that can be opened, in the order of their keys."""
    for image in annotations.images:
        if not image.width or not image.height:
            continue
        # True masks have no part in labelling and are heavy. What lies outside the image is nobody's share of a box.
        boxes = [replace(box, segmentation=None) for box in image.boxes]
        boxes = boxes_in(boxes, Window(0, 0, image.height, image.width), 0)
        bounds = bounds_of([box.polygon for box in boxes])
        windows = tile_windows(image.height, image.width, tile, overlap)
        for _, row in groupby(sorted(windows, key=lambda w: (w.row, w.col)), key=lambda w: w.row):
            tasks = tuple(TileTask(window, _touching(boxes, bounds, window)) for window in row)
            yield ImageTask(image.key, image.image, tile is not None, tasks)


def _touching(
    boxes: Sequence[Box], bounds: np.ndarray[tuple[int, ...], np.dtype[np.float64]], window: Window
) -> tuple[Box, ...]:
    left, top, right, bottom = bounds.T
    hit = (left < window.col + window.width) & (right > window.col)
    hit &= (top < window.row + window.height) & (bottom > window.row)
    return tuple(boxes[i] for i in np.nonzero(hit)[0].tolist())


def batches(tasks: Iterator[ImageTask], done: Collection[TileId], size: int) -> list[Item]:
    """Gather tasks into items of at least ``size`` tiles and leave out what is done.

    What is done does not change which tiles share an item, and so a network's batch: a continued run gives the same
    masks to the last bit.
    """
    items: list[Item] = []
    gathered: list[ImageTask] = []
    tiles = 0
    for task in tasks:
        left = tuple(t for t, name in zip(task.tiles, task.ids(), strict=True) if name not in done)
        if left:
            gathered.append(replace(task, tiles=left))
        tiles += len(task.tiles)
        if tiles >= size:
            items.append(tuple(gathered))
            gathered, tiles = [], 0
    return [item for item in (*items, tuple(gathered)) if item]


def check_names(annotations: Annotations) -> None:
    """Refuse images whose outputs would overwrite each other.

    Raises:
        DataError: The keys of two images differ in case only, which some file systems do not see.
    """
    seen: dict[str, Path] = {}
    for image in annotations.images:
        name = image.key.casefold()
        if name in seen:
            raise DataError(f"{image.image} and {seen[name]} have one name", "one image a name", "rename one of them")
        seen[name] = image.image


def fingerprint(annotations: Annotations) -> str:
    """Give a digest of the images' keys and of all annotation files: it changes when the task does."""
    digest = hashlib.sha256()
    for image in annotations.images:
        digest.update(image.key.encode() + b"\n")
    for source in sorted({image.source for image in annotations.images if image.source is not None}):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()
