"""Patches of equal pixels in rasters of any height: numbered strip by strip, joined across strips, with their sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geodistill.errors import DataError

NONE = -1
"""Code of pixels that belong to no patch."""


def label_components(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Number the patches of a strip: pixels of one code that hang together by their sides.

    Runs of equal pixels along rows are joined with those they touch below, all at once as a sparse graph, so that the
    time does not grow with the number of codes::

        1 1 2 2      runs a a b b     a-c and b-d touch: two patches
        1 2 2 2           c d d d

    Args:
        codes: ``(rows, W)``; `NONE` belongs to no patch.

    Returns:
        ``(rows, W)`` numbers from 0 in the order of first pixels, `NONE` where there is no patch, and their count.
    """
    begins = np.ones(codes.shape, bool)
    begins[:, 1:] = codes[:, 1:] != codes[:, :-1]
    runs = np.cumsum(begins.ravel(), dtype=np.int64).reshape(codes.shape) - 1
    touching = (codes[:-1] == codes[1:]) & (codes[1:] != NONE)
    touching[:, 1:] &= begins[:-1, 1:] | begins[1:, 1:] | ~touching[:, :-1]  # one of each pair of runs is enough
    count = int(runs[-1, -1]) + 1 if codes.size else 0
    above, below = runs[:-1][touching], runs[1:][touching]
    graph = coo_array((np.ones(len(above), bool), (above, below)), shape=(count, count))
    _, joined = connected_components(graph, directed=False)
    of_runs = codes[begins]
    with_patch = np.flatnonzero(of_runs != NONE)
    _, first, numbers = np.unique(joined[with_patch], return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int32)
    order[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    labels = np.full(count, NONE, np.int32)
    labels[with_patch] = order[numbers]
    return labels[runs], len(first)


class PatchSizes:
    """Collects the sizes of patches over all strips of a raster, in their order; then says those of each strip.

    Holds 12 bytes for each patch of a strip, and nothing that grows with the pixels.
    """

    def __init__(self) -> None:
        self._sizes: list[NDArray[np.float64]] = []
        self._codes: list[NDArray[np.int32]] = []
        self._starts = [0]
        self._joins: list[NDArray[np.int64]] = []
        self._edge: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None

    def add(self, codes: NDArray[np.int32], areas: NDArray[np.float64]) -> None:
        """Take a strip in: ``(rows, W)`` codes, and areas that broadcast to it."""
        labels, count = label_components(codes)
        inside = labels != NONE
        weights = np.broadcast_to(areas, codes.shape)[inside]
        self._sizes.append(np.bincount(labels[inside], weights.astype(np.float64), count).astype(np.float64))
        of_patch = np.zeros(count, np.int32)
        of_patch[labels[inside]] = codes[inside]
        self._codes.append(of_patch)
        first = np.where(labels[0] == NONE, NONE, labels[0].astype(np.int64) + self._starts[-1])
        if self._edge is not None:
            same = (self._edge[0] == codes[0]) & (first != NONE)
            self._joins.append(np.unique(np.stack([self._edge[1][same], first[same]]), axis=1))
        self._edge = codes[-1], np.where(labels[-1] == NONE, NONE, labels[-1].astype(np.int64) + self._starts[-1])
        self._starts.append(self._starts[-1] + count)

    def join(self, least: float = 0.0) -> NDArray[np.int32]:
        """Put patches together that strips had cut; afterwards `sizes` are those of whole patches.

        Returns:
            The code of each patch of at least a size, a part of it in each strip.
        """
        pairs = np.concatenate(self._joins, axis=1) if self._joins else np.zeros((2, 0), np.int64)
        names, inverse = np.unique(pairs, return_inverse=True)
        above, below = inverse.reshape(2, -1)
        graph = coo_array((np.ones(len(above)), (above, below)), shape=(len(names), len(names)))
        count, joined = connected_components(graph, directed=False)
        every = np.concatenate([*self._sizes, np.zeros(0)])
        every[names] = np.bincount(joined, every[names], count)[joined]
        self._sizes = np.split(every, self._starts[1:-1])
        codes: NDArray[np.int32] = np.concatenate([*self._codes, np.zeros(0, np.int32)])[every >= least]
        return codes

    def sizes(self, strip: int, labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
        """Return the size of the patch that each pixel of a strip lies in, 0 outside, ``(rows, W)``.

        Args:
            strip: Position of the strip.
            labels: What `label_components` returns for it.
            count: Likewise.

        Raises:
            DataError: The strip has other patches than when it was taken in: the file was changed meanwhile.
        """
        if count != len(self._sizes[strip]):
            raise DataError("the raster was changed while it was read", "a file that stays as it is", "run again")
        return np.append(self._sizes[strip], 0.0)[labels]
