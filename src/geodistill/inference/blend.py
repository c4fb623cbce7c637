"""Blending overlapping windows into one map, holding only the sums that a later window will add to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.inference.windows import Part, Plan

BLENDS = ("cosine", "none")


def axis_weights(starts: Sequence[int], size: int, blend: str) -> NDArray[np.float32]:
    """Weigh each window along one axis.

    Args:
        starts: First pixel of each window.
        size: Pixels of a window.
        blend: ``cosine``: a raised cosine that is largest at the window's centre, where a network sees most around
            a pixel, and above 0 everywhere. ``none``: each pixel belongs to the one window whose centre is nearest.

    Returns:
        ``(windows, size)`` float32, 0 to 1; over the windows they sum to 1 at each pixel.
    """
    weights = np.zeros((len(starts), size))
    if blend == "cosine":
        weights[:] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    else:
        cuts = [(a + size + b) // 2 for a, b in itertools.pairwise(starts)]
        for index, start in enumerate(starts):
            first = 0 if index == 0 else cuts[index - 1] - start
            last = size if index == len(starts) - 1 else cuts[index] - start
            weights[index, first:last] = 1
    sums = np.zeros(starts[-1] + size)
    for row, start in zip(weights, starts, strict=True):
        sums[start : start + size] += row
    return np.stack([w / sums[s : s + size] for w, s in zip(weights, starts, strict=True)]).astype(np.float32)


class Blender:
    """Sums of weighted probabilities that are not finished yet.

    Windows come row by row, in a row from left to right. Held are one window, and below it the rows that the next
    row of windows will add to: as wide as the block, and as high as windows overlap.

    Sums are formed along a row of windows first and then over the rows, always in this order, so that a scene cut
    in blocks or continued after an interruption gives the same bits.

    Args:
        classes: Number of classes.
        plan: The windows of the scene.
        part: The block of windows that come.
        blend: See `axis_weights`.
        device: Where the sums live.
    """

    def __init__(self, classes: int, plan: Plan, part: Part, blend: str, device: torch.device | str = "cpu") -> None:
        size = plan.size
        self._plan, self._part, self._row = plan, part, part.first_row
        self._rows = torch.from_numpy(axis_weights(plan.tops, size, blend)).to(device)
        self._columns = torch.from_numpy(axis_weights(plan.lefts, size, blend)).to(device)
        self._first = plan.lefts[part.first_column]
        width = plan.lefts[part.last_column - 1] + size - self._first
        overlap = max((size - plan.step_down(i) for i in range(len(plan.tops) - 1)), default=0)
        self._waiting = torch.zeros(classes, overlap, width, device=device)
        self._above = 0
        self._window = torch.zeros(classes, size, size, device=device)
        self._filled = self._gone = 0

    def start_row(self, row: int, edge: Tensor | None = None) -> None:
        """Begin a row of windows.

        Args:
            row: Its position; rows come one after another.
            edge: Sums left of the block that its first windows add to, as `edge` gave them.
        """
        self._row, self._filled, self._gone = row, 0, 0
        if edge is not None:
            self._filled = edge.shape[2]
            self._window[:, :, : self._filled] = edge

    def add(self, column: int, probabilities: Tensor) -> None:
        """Add the window at position ``column`` of the row: ``(K, size, size)`` probabilities."""
        self._move()
        weights = self._rows[self._row][:, None] * self._columns[column][None]
        held, filled = self._window, self._filled
        if filled:
            held[:, :, :filled].addcmul_(probabilities[:, :, :filled], weights[:, :filled])
        torch.mul(probabilities[:, :, filled:], weights[:, filled:], out=held[:, :, filled:])
        self._filled = self._plan.size

    def finish(self, column: int) -> Tensor:
        """End a window, added or left out for want of data, and give what no later one will add to.

        Returns:
            ``(K, rows, columns)`` probabilities: a view that holds until the next call.
        """
        self._move()
        plan, held = self._plan, self._window
        held[:, :, self._filled :] = 0
        done, step = plan.step_down(self._row), plan.step_right(column)
        first = plan.lefts[column] - self._first
        if self._above:
            held[:, : self._above, :step] += self._waiting[:, : self._above, first : first + step]
        if done < plan.size:
            self._waiting[:, : plan.size - done, first : first + step] = held[:, done:, :step]
        self._filled, self._gone = plan.size, step
        return held[:, :done, :step]

    def edge(self) -> Tensor:
        """Sums right of the finished columns, that the block to the right adds to: ``(K, size, columns)``."""
        self._move()
        return self._window[:, :, : self._filled]

    def end_row(self) -> None:
        """End the present row of windows."""
        self._above = self._plan.size - self._plan.step_down(self._row)

    def _move(self) -> None:
        """Move what stays to the left, into the place of the columns that were given away."""
        if self._gone:
            self._filled -= self._gone
            self._window[:, :, : self._filled] = self._window[:, :, self._gone :].clone()
            self._gone = 0
