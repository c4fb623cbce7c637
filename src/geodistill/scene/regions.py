"""Regions of one class as polygons, from strips of rows, joined across the strips' borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine

from geodistill.spec import IGNORE_INDEX


@dataclass(frozen=True)
class Strip:
    """Some whole rows of a map of classes.

    Attributes:
        classes: ``(rows, W)`` uint8, `IGNORE_INDEX` where there is no data.
        confidence: ``(rows, W)`` numbers of any scale for the mean over a region, or ``None``.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Region:
    """Pixels of one class that hang together by their sides.

    Attributes:
        index: The class.
        polygon: Its outline with holes: x, y in pixels of the map, the corner of the first pixel at 0, 0.
        pixels: How many.
        confidence: Mean over its pixels, or NaN.
    """

    index: int
    polygon: shapely.Polygon
    pixels: int
    confidence: float


@dataclass
class _Open:
    """A region that may go on below: what is known of it so far."""

    index: int
    pieces: list[shapely.Polygon] = field(default_factory=list)
    pixels: int = 0
    confidence: float = 0.0

    def take(self, other: _Open) -> None:
        """Add another part of the same region."""
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.confidence += other.confidence

    def close(self) -> Region:
        """Put the region together."""
        whole = self.pieces[0] if len(self.pieces) == 1 else shapely.union_all(self.pieces)
        # Corners on straight lines, such as where strips met, say nothing.
        straight = shapely.simplify(whole, 0)
        return Region(self.index, straight, self.pixels, self.confidence / self.pixels)


def trace_regions(strips: Iterable[Strip], simplify: float = 0.0) -> Iterator[Region]:
    """Give the polygon of each region of a map as soon as no row below can belong to it.

    One strip is in memory, and the outlines of the regions that reach its last row.

    Args:
        strips: All rows of the map in their order, of one width.
        simplify: How coarse outlines may become, in pixels: corners whose triangle with their neighbours is smaller
            than its square go (Visvalingam and Whyatt 1993). Neighbours keep sharing their border. Where strips
            meet, corners stay.

    Yields:
        Regions; without simplification their polygons' areas are their pixel counts, and together they cover every
        pixel with data exactly once.
    """
    open_regions: dict[int, _Open] = {}
    edge_ids: NDArray[np.int64] | None = None
    edge_classes: NDArray[np.uint8] | None = None
    row, used = 0, 0
    for strip in strips:
        labels, indices = _label(strip.classes)
        found = _measure(strip, labels, indices, row, simplify)
        ids = np.arange(len(indices), dtype=np.int64) + used
        used += len(indices)
        if edge_ids is not None and edge_classes is not None:
            same = (edge_classes == strip.classes[0]) & (edge_classes != IGNORE_INDEX)
            pairs = np.unique(np.stack([edge_ids[same], ids[labels[0, same]]]), axis=1)
            _join(open_regions, ids, found, pairs, used - len(indices))
        for position, region in found.items():
            name = int(ids[position])
            if name in open_regions:
                open_regions[name].take(region)
            else:
                open_regions[name] = region
        edge_ids, edge_classes = ids[labels[-1]], strip.classes[-1]
        reaching = set(np.unique(edge_ids[edge_classes != IGNORE_INDEX]).tolist())
        for name in [name for name in open_regions if name not in reaching]:
            yield open_regions.pop(name).close()
        row += len(strip.classes)
    for region in open_regions.values():
        yield region.close()


def _label(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Number the regions of a strip from 0, those without data among them; give numbers and the class of each."""
    labels = np.zeros(classes.shape, np.int32)
    indices: list[int] = []
    for index in np.unique(classes).tolist():
        inside = classes == index
        count, numbers = cv2.connectedComponents(inside.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        labels[inside] = numbers[inside] - 1 + len(indices)
        indices += [index] * (count - 1)
    return labels, np.array(indices, np.uint8)


def _measure(
    strip: Strip, labels: NDArray[np.int32], indices: NDArray[np.uint8], row: int, simplify: float
) -> dict[int, _Open]:
    """Give what a strip holds of each region with data, by the region's number."""
    polygons = np.empty(len(indices), object)
    # Without simplification nothing is gained by outlines of what has no data; with it their borders are shared.
    wanted = None if simplify else strip.classes != IGNORE_INDEX
    for shape, value in shapes(labels, wanted, connectivity=4, transform=Affine.translation(0, row)):
        outline, *holes = shape["coordinates"]
        polygons[int(value)] = shapely.Polygon(outline, holes)
    if simplify:
        polygons = _simplify(polygons, simplify)
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=len(indices))
    confidence = np.full(len(indices), np.nan)
    if strip.confidence is not None:
        confidence = np.bincount(flat, strip.confidence.ravel(), len(indices))
    return {
        int(i): _Open(int(indices[i]), [polygons[i]], int(pixels[i]), float(confidence[i]))
        for i in np.flatnonzero(indices != IGNORE_INDEX)
    }


def _simplify(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Simplify the polygons that fill a strip, leaving the strip's own border as it is."""
    # A corner at every pixel: a coverage asks that neighbours have the same corners along their border.
    matched = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    simpler: NDArray[np.object_] = shapely.coverage_simplify(matched, tolerance, simplify_boundary=False)
    return simpler


def _join(
    open_regions: dict[int, _Open],
    ids: NDArray[np.int64],
    found: dict[int, _Open],
    pairs: NDArray[np.int64],
    first: int,
) -> None:
    """Let regions on both sides of a border that touch be one: the same id for all, and what was open put together."""
    parent: dict[int, int] = {}

    def root(name: int) -> int:
        while parent.get(name, name) != name:
            # Halving the path keeps it short.
            parent[name] = parent.get(parent[name], parent[name])
            name = parent[name]
        return name

    for above, below in pairs.T.tolist():
        one, other = sorted((root(above), root(below)))
        parent[other] = one
    for name in list(parent):
        whole = root(name)
        if whole == name:
            continue
        if name >= first:
            ids[name - first] = whole
        elif name in open_regions:
            open_regions[whole].take(open_regions.pop(name))
