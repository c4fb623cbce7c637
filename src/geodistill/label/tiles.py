"""Tiles: windows over a large image, the boxes of each, and the plan of all tiles before any pixel is read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely

from geodistill.errors import DataError, RecipeError
from geodistill.label.masks import Runs, crop_runs
from geodistill.label.names import ENDS, TILE_ENDS, output_names
from geodistill.label.polygons import SMALLEST, areal, bounds_of, outer_ring, regions
from geodistill.label.records import Annotations, Bounds, Box
from geodistill.raster import Window


def tile_windows(height: int, width: int, size: int | None, overlap: int) -> list[Window]:
    """Cover an image with windows, row by row; the last of a row or column is flush with the edge.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        size: Side of a window in pixels; an image smaller than that is one smaller window. ``None``: one window,
            the image.
        overlap: Pixels that neighbours share at least (the set's authors' "gap"): 200 at 1024, 150 at 600.

    Raises:
        RecipeError: The overlap is negative or not smaller than the size.
    """
    if height < 1 or width < 1:
        return []
    if size is None:
        return [Window(0, 0, height, width)]
    if size < 1 or not 0 <= overlap < size:
        raise RecipeError(f"tiles of {size} with overlap {overlap}", "a size of at least 1 and a smaller overlap")
    rows, cols = (_starts(length, size, size - overlap) for length in (height, width))
    return [Window(row, col, min(size, height), min(size, width)) for row in rows for col in cols]


def _starts(length: int, size: int, step: int) -> list[int]:
    last = max(length - size, 0)
    return [*range(0, last, step), last]


def boxes_in(boxes: Sequence[Box], window: Window, share: float) -> list[Box]:
    """Return the boxes that belong to a window, moved to its frame and clipped to it.

    Args:
        boxes: Of the image.
        window: In pixels of the image.
        share: Least part of a box's area that must lie inside, 0..1; with 0 whatever has any area inside.

    Returns:
        In the order given, index and source kept; true masks and the set's own horizontal boxes are clipped too.

    Raises:
        RecipeError: The share is not within 0..1.
    """
    if not 0 <= share <= 1:
        raise RecipeError(f"share {share:g} of a box", "0..1")
    if not boxes:
        return []
    left, top, right, bottom = window.col, window.row, window.col + window.width, window.row + window.height
    bounds = np.array([box.box for box in boxes])
    meets = (bounds[:, :2] < (right, bottom)).all(axis=1) & (bounds[:, 2:] > (left, top)).all(axis=1)
    near = [boxes[at] for at in np.flatnonzero(meets).tolist()]
    if not near:
        return []
    shapes = regions([box.polygon for box in near], [box.kind != "polygon" for box in near])
    clipped = shapely.clip_by_rect(shapes, left, top, right, bottom)
    areas, inside = shapely.area(shapes), shapely.area(clipped)
    # Rounding must not lose a box that lies inside whole.
    belongs = (inside >= SMALLEST) & (inside >= share * areas * (1 - 1e-9))
    return [_moved(near[at], clipped[at], window) for at in np.flatnonzero(belongs).tolist()]


def _moved(box: Box, clipped: Any, window: Window) -> Box:
    low, high = (window.col, window.row), (window.col + window.width, window.row + window.height)
    left, top, right, bottom = box.box
    polygon = box.polygon
    if left < low[0] or top < low[1] or right > high[0] or bottom > high[1]:
        polygon = outer_ring(areal(clipped))
    segmentation = box.segmentation
    if segmentation is not None and (low, high) != ((0, 0), (segmentation["size"][1], segmentation["size"][0])):
        segmentation = crop_runs(Runs.from_coco(segmentation), window).to_coco()
    horizontal = None if box.horizontal is None else _clip(box.horizontal, window)
    return replace(box, polygon=polygon - low, segmentation=segmentation, horizontal=horizontal)


def _clip(bounds: Bounds, window: Window) -> Bounds | None:
    left, top, right, bottom = bounds
    left, right = (min(max(x - window.col, 0), window.width) for x in (left, right))
    top, bottom = (min(max(y - window.row, 0), window.height) for y in (top, bottom))
    return (left, top, right, bottom) if right > left and bottom > top else None


class TileId(NamedTuple):
    """Names a tile.

    Attributes:
        key: The image's key.
        row: First row of the tile in the image.
        col: First column of the tile in the image.
    """

    key: str
    row: int
    col: int


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
    """Return a digest of what the annotation files hold, and of the classes found.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for name in annotations.categories:
        digest.update(name.encode("utf-8", "surrogatepass") + b"\n")
    for source in sorted({image.source for image in annotations.images if image.source is not None}):
        # A shapefile is one of several files of one name.
        beside = sorted(source.parent.glob(f"{escape(source.stem)}.*")) if source.suffix.lower() == ".shp" else [source]
        for path in beside:
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror})", "a readable file") from error
    return digest.hexdigest()
