"""One region of a map becomes its objects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.inference.map_file import STRIP
from geodistill.inference.objects.chosen import ObjectClasses
from geodistill.inference.objects.right_angles import square_outlines
from geodistill.inference.objects.separate import by_boundary, is_single, separate
from geodistill.inference.objects.tidy import absorb, fill_holes
from geodistill.inference.objects.windows_of_map import MapWindows
from geodistill.inference.regions import Region, outline_labels
from geodistill.inference.sliding import STEPS
from geodistill.raster import Window

MOST_PIXELS = 2**24
"""Pixels of the rectangle around a region that is looked into; a larger one stays one object."""

TRACED, LARGE = "as traced", "left: too large to look into"


@dataclass(frozen=True)
class MapObject:
    """An object of a map.

    Attributes:
        index: Its class.
        polygon: Its outline, x, y in pixels of the map.
        pixels: How many it has.
        confidence: Mean probability over them (0..1), or NaN.
        least: Lowest probability among them, or NaN.
        status: What became of its outline.
    """

    index: int
    polygon: shapely.Polygon
    pixels: int
    confidence: float
    least: float
    status: str


def objects_of(
    region: Region, maps: MapWindows, classes: ObjectClasses, least: float, sides: tuple[float, float]
) -> list[MapObject]:
    """Return the objects of a region, by their first pixels.

    Args:
        region: Pixels of `ObjectClasses.table` that hang together.
        maps: The map.
        classes: Its objects.
        least: Pixels that an object and a hole have at least.
        sides: Metres of a pixel along columns and rows.

    Raises:
        DataError: The map is truncated or corrupt.
    """
    left, top, right, bottom = map(int, region.polygon.bounds)
    window = Window(top, left, bottom - top, right - left)
    if window.height * window.width > MOST_PIXELS:
        return _whole(region, maps, classes, least)
    kinds, sure, distance = maps.read(window)
    inside = _pixels_of(region, classes.table()[kinds], window)
    labels, polygons = _outlined(region, classes, kinds, inside, (sure, distance), least)
    count = len(polygons)
    if not count:
        return []
    indices = _classes_of(labels, kinds, count, classes)
    status = [TRACED] * count
    group = [at for at in range(count) if indices[at] in classes.squared]
    if group:
        squared, became = square_outlines([polygons[at] for at in group], sides)
        for at, polygon, what in zip(group, squared, became, strict=True):
            polygons[at], status[at] = polygon, what
    pixels, mean, lowest = _figures(labels, sure, count)
    return [
        MapObject(indices[at], polygons[at], int(pixels[at]), float(mean[at]), float(lowest[at]), status[at])
        for at in range(count)
    ]


def _outlined(
    region: Region,
    classes: ObjectClasses,
    kinds: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    beliefs: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None],
    least: float,
) -> tuple[NDArray[np.int32], list[shapely.Polygon]]:
    """Return the objects' numbers in the window, and their outlines in pixels of the map.

    ``beliefs`` are the network's, where there are some: confidence, and what its distance head says.
    """
    sure, distance = beliefs
    filled = fill_holes(inside, least) if region.polygon.interiors else inside
    if classes.boundary is None:
        if distance is None and is_single(shapely.Polygon(region.polygon.exterior), filled, sure):
            single = filled.astype(np.int32)
            if single.sum() < least:
                return single, []
            if filled is inside or (filled == inside).all():
                return single, [shapely.normalize(region.polygon)]
            labels = single
        else:
            labels = absorb(separate(filled, sure, distance), least)
    else:
        parted = np.where(inside, kinds, np.uint8(classes.boundary))  # what a hole holds goes to the nearest too
        labels = absorb(by_boundary(parted, filled, classes.boundary), least)
    corner = np.array(region.polygon.bounds[:2])
    return labels, list(shapely.transform(outline_labels(labels), lambda xy: xy + corner))


def _pixels_of(region: Region, codes: NDArray[np.uint8], window: Window) -> NDArray[np.bool_]:
    """Return which pixels of the window are the region's: those that hang together with its first."""
    x, y = np.array(region.polygon.exterior.coords).T
    first = int(x[y == y.min()].min()) - window.col
    connected = (codes == codes[0, first]).view(np.uint8)
    _, numbers = cv2.connectedComponents(connected, connectivity=4, ltype=cv2.CV_32S)
    pixels: NDArray[np.bool_] = numbers == numbers[0, first]
    return pixels


def _classes_of(labels: NDArray[np.int32], kinds: NDArray[np.uint8], count: int, classes: ObjectClasses) -> list[int]:
    """Return the class of most pixels of each object, boundary and filled holes not counted."""
    votes = [np.bincount(labels[kinds == index], minlength=count + 1)[1:] for index in classes.indices]
    return [classes.indices[at] for at in np.argmax(votes, axis=0).tolist()]


def _figures(
    labels: NDArray[np.int32], sure: NDArray[np.float32] | None, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels, mean and lowest confidence of each object; of what a filled hole held, the hole's."""
    inside = labels > 0
    numbers = labels[inside] - 1
    pixels = np.bincount(numbers, minlength=count)
    if sure is None:
        return pixels, *(np.full(count, np.nan),) * 2
    values = sure[inside].astype(np.float64)
    known = values <= 1  # what has no data, in a filled hole, has none
    lowest = np.full(count, np.inf)
    np.minimum.at(lowest, numbers[known], values[known])
    sums = np.bincount(numbers[known], values[known], count)
    return pixels, sums / np.bincount(numbers[known], minlength=count), lowest


def _whole(region: Region, maps: MapWindows, classes: ObjectClasses, least: float) -> list[MapObject]:
    """Return a region as one object."""
    if region.pixels < least:
        return []
    index = region.index if classes.boundary is None else _class_of(region, maps, classes)
    if index is None:
        return []
    polygon = shapely.normalize(region.polygon)
    return [MapObject(index, polygon, region.pixels, region.confidence / STEPS, np.nan, LARGE)]


def _class_of(region: Region, maps: MapWindows, classes: ObjectClasses) -> int | None:
    """Return the class of most pixels of a region of objects and boundary; ``None`` where it is boundary alone."""
    left, top, right, bottom = map(int, region.polygon.bounds)
    votes = np.zeros(256, np.int64)
    for row in range(top, bottom, STRIP):
        window = Window(row, left, min(STRIP, bottom - row), right - left)
        votes += np.bincount(maps.read(window)[0][_within(region, window)], minlength=256)
    of_objects = votes[list(classes.indices)]
    return classes.indices[int(of_objects.argmax())] if of_objects.any() else None


def _within(region: Region, window: Window) -> NDArray[np.bool_]:
    """Return which pixels of some whole rows of a region's rectangle are its: those behind an odd number of sides."""
    points, ring = shapely.get_coordinates(shapely.get_rings(region.polygon), return_index=True)
    x, y = points.astype(np.int64).T - [[window.col], [window.row]]
    y = np.clip(y, 0, window.height)
    upright = (ring[1:] == ring[:-1]) & (y[1:] != y[:-1])
    ends = np.stack([y[1:], y[:-1]])[:, upright]
    first, count = ends.min(0), np.ptp(ends, axis=0)
    rows = np.arange(count.sum()) + np.repeat(first + count - np.cumsum(count), count)
    sides = np.zeros((window.height, window.width + 1), np.uint8)
    np.add.at(sides, (rows, np.repeat(x[1:][upright], count)), 1)
    inside: NDArray[np.bool_] = np.cumsum(sides, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1
    return inside
