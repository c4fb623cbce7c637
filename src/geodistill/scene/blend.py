"""Blending overlapping windows into one map, a strip of rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLENDS = ("cosine", "none")


def axis_weights(starts: Sequence[int], size: int, blend: str) -> NDArray[np.float32]:
    """Weigh each window along one axis.

    Args:
        starts: First pixel of each window.
        size: Pixels of a window.
        blend: ``cosine``: a raised cosine that is largest at the window's centre, where a network sees most around
            a pixel, and above 0 everywhere. ``none``: each pixel belongs to the one window whose centre is nearest.

    Returns:
        ``(windows, size)`` float32, at least 0; every covered pixel has a positive sum over the windows.
    """
    if blend == "cosine":
        position = (np.arange(size) + 0.5) / size
        return np.tile(np.sin(np.pi * position).astype(np.float32) ** 2, (len(starts), 1))
    weights = np.zeros((len(starts), size), np.float32)
    cuts = [(a + size + b) // 2 for a, b in itertools.pairwise(starts)]
    for index, start in enumerate(starts):
        first = 0 if index == 0 else cuts[index - 1] - start
        last = size if index == len(starts) - 1 else cuts[index] - start
        weights[index, first:last] = 1
    return weights


class RollingStrip:
    """Sums of weighted probabilities for the rows that are not finished yet.

    The strip is as high as a window. Rows leave at the top when no later window can touch them.

    Args:
        classes: Number of classes.
        row_starts: First row of each row of windows.
        col_starts: First column of each window in a row of windows.
        size: Side of a window.
        blend: See `axis_weights`.
        device: Where the sums live.
    """

    def __init__(
        self,
        classes: int,
        row_starts: Sequence[int],
        col_starts: Sequence[int],
        size: int,
        blend: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self._rows = torch.from_numpy(axis_weights(row_starts, size, blend)).to(device)
        self._cols = torch.from_numpy(axis_weights(col_starts, size, blend)).to(device)
        self._starts, self._col_starts, self._size = list(row_starts), list(col_starts), size
        width = col_starts[-1] + size
        self._sums = torch.zeros(classes, size, width, device=device)
        # Weights are products of a row and a column factor, so their sums are too.
        self._row_sums = torch.zeros(size, device=device)
        self._col_sums = torch.zeros(width, device=device)
        for weights, start in zip(self._cols, col_starts, strict=True):
            self._col_sums[start : start + size] += weights
        self._index = 0

    def add(self, column: int, probabilities: Tensor) -> None:
        """Add the window of the present row at position ``column`` of the row: ``(K, size, size)`` probabilities."""
        start = self._col_starts[column]
        weights = self._rows[self._index][:, None] * self._cols[column][None]
        self._sums[:, :, start : start + self._size].addcmul_(probabilities, weights)

    def finish_row(self) -> Tensor:
        """End the present row of windows and give its finished rows: ``(K, rows, width)`` probabilities.

        Where no window was added (all of them without data) they are 0.
        """
        self._row_sums += self._rows[self._index]
        last = self._index == len(self._starts) - 1
        done = self._size if last else self._starts[self._index + 1] - self._starts[self._index]
        finished = self._sums[:, :done] / (self._row_sums[:done, None] * self._col_sums)
        if not last:
            keep = self._size - done
            self._sums[:, :keep] = self._sums[:, done:].clone()
            self._sums[:, keep:] = 0
            self._row_sums = torch.cat([self._row_sums[done:], self._row_sums.new_zeros(done)])
        self._index += 1
        return finished
