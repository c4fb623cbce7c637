"""Touching objects told apart: a watershed on confidence and on the distance to the edge, or by a boundary class."""

from __future__ import annotations

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

DEPTH = 0.25
"""Share of the lower of two peaks that the saddle between them must lie below it for them to be two objects."""

HEAD_DEPTH = 0.5
"""That share on what a distance head says: 0 at a wall by its training, but uneven in the middle of a roof."""

RISE = 1.0
"""Pixels by which it must lie below it at least: rough edges have peaks of less."""

_CONVEX = 0.85
"""Share of its convex hull that a region fills which is one object at a glance."""

_SMOOTH = 1.0
"""Pixels of the Gaussian that takes the peaks of rough edges."""

_STEP = 0.85
"""Factor between the levels that a landscape is cut at."""

_SHORE = 0.7
"""Lowest level: about the height of a pixel at an object's edge."""


def landscape(
    inside: NDArray[np.bool_], sure: NDArray[np.float32] | None, distance: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return how certainly a pixel is in the middle of an object: its distance to the edge times its confidence.

    Where a distance head says how far inside its object a pixel lies, that times the largest distance of the region
    takes the place of both: it knows of walls that neither the outline nor the confidence shows.

    Args:
        inside: ``(H, W)`` pixels of a region.
        sure: ``(H, W)`` their probability (0..1), or ``None``.
        distance: ``(H, W)`` what the distance head says (0..1), or ``None``.

    Returns:
        ``(H, W)`` pixels, 0 outside. A neck between two objects is a saddle of it, and so is a wall that they share
        where the network was in doubt.
    """
    padded = np.pad(inside, 1).view(np.uint8)
    to_edge = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    if distance is not None:
        apart: NDArray[np.float32] = cv2.GaussianBlur(distance, (0, 0), _SMOOTH).astype(np.float32) * inside
        return apart * np.float32(to_edge.max())
    height = cv2.GaussianBlur(to_edge, (0, 0), _SMOOTH)[1:-1, 1:-1].astype(np.float32) * inside
    return height if sure is None else height * sure


def separate(
    inside: NDArray[np.bool_], sure: NDArray[np.float32] | None = None, distance: NDArray[np.float32] | None = None
) -> NDArray[np.int32]:
    r"""Number the objects of a region from 1, 0 outside.

    The landscape is flooded from its peaks down. Where two floods meet, the lower peak is an object of its own if it
    rises by `DEPTH` (under a distance head `HEAD_DEPTH`) of its height above the place they meet at, and else part of
    the other::

        peaks     /\    /\        /\  _/\
                 /  \__/  \      /  \/    \
                 two objects      one object

    What is left between objects at their meeting goes to the nearest.
    """
    height, depth = landscape(inside, sure, distance), DEPTH if distance is None else HEAD_DEPTH
    cores = np.zeros(inside.shape, np.int32)
    peaks = [0.0]
    closed = np.zeros(1, bool)  # which cores have met an object of their own right, and grow no more
    level = float(height.max(initial=0))
    while level > _SHORE:
        count, pools = cv2.connectedComponents((height >= level).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        met = np.unique(pools[cores > 0].astype(np.int64) * len(peaks) + cores[cores > 0])
        of_pool, of_core = np.divmod(met, len(peaks))
        takes = np.zeros(count, np.int32)
        for pool in range(1, count):
            among = of_core[of_pool == pool].tolist()
            if not among:
                peaks.append(level)
                closed = np.append(closed, False)
                takes[pool] = len(peaks) - 1
                continue
            highest = max(among, key=lambda core: peaks[core])
            parted = [c for c in among if c == highest or level <= min((1 - depth) * peaks[c], peaks[c] - RISE)]
            for core in set(among) - set(parted):
                cores[cores == core] = highest
            if len(parted) == 1 and not closed[highest]:
                takes[pool] = highest
            elif len(parted) > 1:
                closed[parted] = True
        grown = takes[pools]
        cores = np.where(grown > 0, grown, cores)
        level *= _STEP
    return nearest_core(inside, cores)


def is_single(outline: shapely.Polygon, inside: NDArray[np.bool_], sure: NDArray[np.float32] | None) -> bool:
    """Whether a region is one object at a glance: nearly convex, and the network nowhere in doubt in its middle."""
    if outline.area < _CONVEX * outline.convex_hull.area:
        return False
    if sure is None:
        return True
    padded = np.pad(inside, 1).view(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
    middle = sure[distance >= 0.5 * distance.max()]
    return bool(middle.min() >= (1 - DEPTH / 2) * middle.max())


def nearest_core(inside: NDArray[np.bool_], cores: NDArray[np.int32]) -> NDArray[np.int32]:
    """Assign every pixel of a region to the nearest core, and number the cores that are left from 1."""
    if not cores.any():
        return inside.astype(np.int32)
    if (cores[inside] == 0).any():
        rows, cols = distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
        cores = cores[rows, cols]
    names, numbers = np.unique(np.where(inside, cores, 0), return_inverse=True)
    numbered: NDArray[np.int32] = numbers.reshape(inside.shape).astype(np.int32)
    return numbered if names[0] == 0 else numbered + 1


def by_boundary(kinds: NDArray[np.uint8], inside: NDArray[np.bool_], boundary: int) -> NDArray[np.int32]:
    """Number the objects of a region that a boundary class parts; the boundary goes to the nearest object.

    Args:
        kinds: ``(H, W)`` classes.
        inside: Pixels of the region, of objects and boundary.
        boundary: The class of the boundary.
    """
    cores, used = np.zeros(inside.shape, np.int32), 0
    for kind in np.unique(kinds[inside]).tolist():
        if kind != boundary:
            of_kind = (inside & (kinds == kind)).view(np.uint8)
            count, numbers = cv2.connectedComponents(of_kind, connectivity=4, ltype=cv2.CV_32S)
            cores[numbers > 0] = numbers[numbers > 0] + used
            used += count - 1
    return nearest_core(inside, cores) if used else np.zeros(inside.shape, np.int32)
