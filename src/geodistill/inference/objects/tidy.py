"""Objects without slivers and holes: what is under a size goes to the object that it shares most of its border with."""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.raster.patch_labels import NONE, label_components


def fill_holes(inside: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Return a region without the holes of fewer than ``least`` pixels."""
    around = np.pad(~inside, 1, constant_values=True).view(np.uint8)
    count, holes, figures, _ = cv2.connectedComponentsWithStats(around, connectivity=8, ltype=cv2.CV_32S)
    if count <= 2:  # what lies around, and the region itself
        return inside
    small = figures[:, cv2.CC_STAT_AREA] < least
    small[[0, holes[0, 0]]] = False
    filled: NDArray[np.bool_] = inside | small[holes[1:-1, 1:-1]]
    return filled


def absorb(labels: NDArray[np.int32], least: float) -> NDArray[np.int32]:
    """Return objects that each hang together and have ``least`` pixels, numbered from 1 by their first pixels.

    The smallest part that is too small, or that lies apart from the rest of its object, goes first, to its neighbour
    across the longest border; one without neighbours is left out where it is too small.
    """
    parts, count = label_components(np.where(labels > 0, labels, NONE).astype(np.int32))
    inside = parts != NONE
    sizes = np.bincount(parts[inside], minlength=count).astype(np.int64)
    if count == 0:
        return np.zeros(labels.shape, np.int32)
    names = np.zeros(count, np.int64)
    names[parts[inside]] = labels[inside]
    largest = np.zeros(int(names.max()) + 1, np.int64)
    np.maximum.at(largest, names, sizes)
    waiting = [int(p) for p in np.argsort(sizes, kind="stable") if sizes[p] < least or sizes[p] < largest[names[p]]]
    if not waiting:
        return np.where(inside, parts + 1, 0).astype(np.int32)
    borders = _borders(parts)
    goes_to = np.arange(count)
    for part in waiting:
        near: dict[int, int] = borders.pop(part, {})
        if not near:
            if sizes[part] < least:
                goes_to[goes_to == part] = NONE
            continue
        target = max(near, key=lambda other: (near[other], sizes[other], -other))
        goes_to[goes_to == part] = target
        sizes[target] += sizes[part]
        for other, length in near.items():
            borders[other].pop(part, None)
            if other != target:
                borders[other][target] += length
                borders[target][other] += length
    final = np.where(inside, goes_to[parts], NONE).astype(np.int32)
    numbers, _ = label_components(final)
    return numbers + 1


def _borders(parts: NDArray[np.int32]) -> dict[int, dict[int, int]]:
    """Return the length in pixels' sides of the border of each pair of parts."""
    borders: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for one, other in ((parts[:-1], parts[1:]), (parts[:, :-1], parts[:, 1:])):
        beside = (one != other) & (one != NONE) & (other != NONE)
        pairs, lengths = np.unique(np.stack([one[beside], other[beside]]), axis=1, return_counts=True)
        for (a, b), length in zip(pairs.T.tolist(), lengths.tolist(), strict=True):
            borders[a][b] += length
            borders[b][a] += length
    return borders
