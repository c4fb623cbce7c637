"""Regions of one class as polygons, from strips of rows, joined across the strips' borders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine

from geodistill.spec import IGNORE_INDEX


@dataclass(frozen=True)
class MapStrip:
    """Some whole rows of a map of classes.

    Attributes:
        classes: ``(rows, W)`` uint8, `IGNORE_INDEX` where there is no data.
        confidence: ``(rows, W)`` numbers of any scale for the mean over a region, or ``None``.
        distance: ``(rows, W)`` what a distance head says, in steps of 1/`STEPS`; ``None`` without one.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None = None
    distance: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Region:
    """Pixels of one class that hang together by their sides.

    Attributes:
        index: The class.
        polygon: Its outline with holes: x, y in pixels of the map, the corner of the first pixel at 0, 0. Where a
            corner of a neighbour lies on a straight line of it, it has a point too: the regions are a coverage.
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
    top: int
    pieces: list[shapely.Polygon] = field(default_factory=list)
    pixels: int = 0
    confidence: float = 0.0

    def take(self, other: _Open) -> None:
        """Add another part of the same region."""
        self.top = min(self.top, other.top)
        self.pieces += other.pieces
        self.pixels += other.pixels
        self.confidence += other.confidence

    def close(self, seams: dict[int, NDArray[np.bool_]]) -> Region:
        """Put the region together; ``seams`` says which points of rows where strips met are corners of regions."""
        whole = self.pieces[0]
        if len(self.pieces) > 1:

            def needed(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
                answer = np.ones(len(x), bool)
                for row in seams.keys() & set(y.tolist()):
                    answer[y == row] = seams[row][x[y == row]]
                return answer

            whole = thin(np.array([shapely.union_all(self.pieces)], object), needed)[0]
        return Region(self.index, whole, self.pixels, self.confidence / self.pixels)


def trace_regions(strips: Iterable[MapStrip], simplify: float = 0.0) -> Iterator[Region]:
    """Yield the polygon of each region of a map as soon as no row below can belong to it.

    Two strips are in memory, and the outlines of the regions that reach the first one's last row.

    Args:
        strips: All rows of the map in their order, of one width.
        simplify: Simplification tolerance in pixels (topology-preserving): corners whose triangle with their
            neighbours is smaller than its square go (Visvalingam and Whyatt 1993). Neighbours keep sharing their
            border. Where strips meet, corners stay.

    Yields:
        Regions, by their last rows. Their polygons are a coverage: neighbours have the same points along their
        border. Without simplification the polygons' areas are their pixel counts, and together they cover every pixel
        with data exactly once.
    """
    open_regions: dict[int, _Open] = {}
    seams: dict[int, NDArray[np.bool_]] = {}
    edge_ids: NDArray[np.int64] | None = None
    above: NDArray[np.uint8] | None = None
    row, used = 0, 0
    for strip, following in pairwise(chain(strips, [None])):
        assert strip is not None
        labels, indices = _label(strip.classes)
        nodes = _nodes(above, strip.classes, None if following is None else following.classes[0])
        seams[row], seams[row + len(strip.classes)] = nodes[0], nodes[-1]
        regions = _measure(strip, labels, indices, row, nodes, simplify)
        ids = np.arange(len(indices), dtype=np.int64) + used
        used += len(indices)
        if edge_ids is not None and above is not None:
            same = (above == strip.classes[0]) & (above != IGNORE_INDEX)
            pairs = np.unique(np.stack([edge_ids[same], ids[labels[0, same]]]), axis=1)
            _join(open_regions, ids, pairs, used - len(indices))
        for position, region in regions.items():
            name = int(ids[position])
            if name in open_regions:
                open_regions[name].take(region)
            else:
                open_regions[name] = region
        edge_ids, above = ids[labels[-1]], strip.classes[-1]
        reaching = set(np.unique(edge_ids[above != IGNORE_INDEX]).tolist())
        closed = [open_regions.pop(name).close(seams) for name in [*open_regions] if name not in reaching]
        yield from sorted(closed, key=_last_row_first)
        row += len(strip.classes)
        first = min((region.top for region in open_regions.values()), default=row)
        seams = {at: seam for at, seam in seams.items() if at >= first}
    yield from sorted((region.close(seams) for region in open_regions.values()), key=_last_row_first)


def _last_row_first(region: Region) -> tuple[float, float, float, int, int]:
    """Order regions by their last rows, then by their left ends: the order in which any strips close them."""
    left, top, _, bottom = region.polygon.bounds
    return bottom, left, top, region.index, region.pixels


def outline_labels(labels: NDArray[np.int32]) -> NDArray[np.object_]:
    """Return the outlines of labels 1..n, each in one piece by its sides, as a coverage: see `Region`.

    Args:
        labels: ``(H, W)``, 0 outside.

    Returns:
        ``(n,)`` polygons, x, y in pixels.
    """
    polygons = np.empty(int(labels.max(initial=0)), object)
    for shape, value in shapes(labels, labels > 0, connectivity=4):
        outline, *holes = shape["coordinates"]
        polygons[int(value) - 1] = shapely.Polygon(outline, holes)
    if not len(polygons):
        return polygons
    around = np.pad(labels, 1)
    matched = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    nodes = _corners_of(around)
    return thin(matched, lambda x, y: nodes[y, x])


def _nodes(
    above: NDArray[np.uint8] | None, classes: NDArray[np.uint8], below: NDArray[np.uint8] | None
) -> NDArray[np.bool_]:
    """Return which corners of a strip's pixels, ``(rows + 1, W + 1)``, are corners of some region.

    All but those that lie within a region or on a straight border of two. What is off the map has no data.
    """
    around = np.pad(classes, 1, constant_values=IGNORE_INDEX)
    if above is not None:
        around[0, 1:-1] = above
    if below is not None:
        around[-1, 1:-1] = below
    # Pixels side by side are of one region where they are of one class.
    return _corners_of(around)


def _corners_of(around: NDArray[Any]) -> NDArray[np.bool_]:
    beside, over = around[:, :-1] == around[:, 1:], around[:-1] == around[1:]
    nodes: NDArray[np.bool_] = ~((beside[:-1] & beside[1:]) | (over[:, :-1] & over[:, 1:]))
    return nodes


def thin(
    polygons: NDArray[np.object_], needed: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.object_]:
    """Return polygons ``(N,)``, of points with whole numbers, without those on straight lines that no neighbour needs.

    ``needed`` says of points x and y ``(P,)`` on straight lines which are corners of a neighbour.
    """
    kind, points, (rings, holders) = shapely.to_ragged_array(polygons)
    starts, counts = rings[:-1], np.diff(rings) - 1  # the last point of a ring is its first
    ring = np.repeat(np.arange(len(counts)), counts)
    at = np.arange(len(ring)) + ring
    before, after = at - 1, at + 1
    first = at == starts[ring]
    before[first] = (starts + counts - 1)[ring[first]]
    here, (back, on) = points[at], (points[at] - points[before], points[after] - points[at])
    kept = back[:, 0] * on[:, 1] != back[:, 1] * on[:, 0]
    x, y = np.rint(here[~kept]).astype(np.int64).T
    kept[~kept] = needed(x, y)
    left = np.bincount(ring[kept], minlength=len(counts))
    ends = np.cumsum(left)
    chosen = here[kept]
    closed = np.insert(chosen, ends, chosen[ends - left], axis=0)
    thinned: NDArray[np.object_] = shapely.from_ragged_array(
        kind, closed, (np.concatenate([[0], np.cumsum(left + 1)]), holders)
    )
    return thinned


def _label(classes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Number the regions of a strip from 0, those without data among them; return numbers and the class of each."""
    labels = np.zeros(classes.shape, np.int32)
    indices: list[int] = []
    for index in np.unique(classes).tolist():
        inside = classes == index
        count, numbers = cv2.connectedComponents(inside.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        labels[inside] = numbers[inside] - 1 + len(indices)
        indices += [index] * (count - 1)
    return labels, np.array(indices, np.uint8)


def _measure(
    strip: MapStrip,
    labels: NDArray[np.int32],
    indices: NDArray[np.uint8],
    row: int,
    nodes: NDArray[np.bool_],
    simplify: float,
) -> dict[int, _Open]:
    """Return what a strip holds of each region with data, by the region's number."""
    polygons = np.empty(len(indices), object)
    # Without simplification nothing is gained by outlines of what has no data; with it their borders are shared.
    with_data = None if simplify else strip.classes != IGNORE_INDEX
    for shape, value in shapes(labels, with_data, connectivity=4, transform=Affine.translation(0, row)):
        outline, *holes = shape["coordinates"]
        polygons[int(value)] = shapely.Polygon(outline, holes)
    outlined = np.flatnonzero(indices != IGNORE_INDEX) if with_data is not None else np.arange(len(indices))
    if len(outlined):
        # A corner at every pixel: a coverage asks that neighbours have the same corners along their border.
        matched = shapely.transform(shapely.segmentize(polygons[outlined], 1.0), np.rint)
        if simplify:
            # The strip's own border is left as it is.
            matched = shapely.coverage_simplify(matched, simplify, simplify_boundary=False)
        polygons[outlined] = thin(matched, lambda x, y: nodes[y - row, x])
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=len(indices))
    confidence = np.full(len(indices), np.nan)
    if strip.confidence is not None:
        confidence = np.bincount(flat, strip.confidence.ravel(), len(indices))
    return {
        int(i): _Open(int(indices[i]), row, [polygons[i]], int(pixels[i]), float(confidence[i]))
        for i in np.flatnonzero(indices != IGNORE_INDEX)
    }


def _join(
    open_regions: dict[int, _Open],
    ids: NDArray[np.int64],
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
