"""A random sample of the pixels of each stratum, in one pass and without replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.assess.strata import StratumStrip
from geodistill.errors import RecipeError
from geodistill.spec import IGNORE_INDEX

_ROWS = 64
"""Rows that numbers are drawn for at once; a divisor of the height of strips, so that they do not depend on it."""


@dataclass(frozen=True)
class Drawn:
    """Pixels drawn from one stratum, in the order in which they were drawn; arrays ``(n,)`` int64."""

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    classes: NDArray[np.int64]


class StratumSampler:
    """Draws pixels with a chance in proportion to their area on the ground, so that points are even over the land.

    Each pixel gets an exponential random number over its area, and the pixels of the least numbers are the sample
    (Efraimidis and Spirakis 2006): with pixels of one size a simple random sample, with others one whose members are
    drawn one after the other in proportion to area. No pixel is drawn twice.

    Args:
        strata: How many strata there are.
        most: Pixels of a stratum at most.
        seed: Of the random numbers.

    Attributes:
        pixels: Pixels of each stratum and class so far, ``(strata, 255)``.
        areas: Their square metres.
    """

    def __init__(self, strata: int, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._limits = np.full(256, np.inf)
        self._kept = [np.zeros((4, 0)) for _ in range(strata)]  # number, row, column, class
        self.pixels: NDArray[np.int64] = np.zeros((strata, 255), np.int64)
        self.areas: NDArray[np.float64] = np.zeros((strata, 255))

    def add(self, strip: StratumStrip) -> None:
        """Take rows in; random numbers go by `_ROWS` rows from the strip's first on."""
        areas = np.broadcast_to(strip.areas, strip.strata.shape)
        for first in range(0, len(areas), _ROWS):
            rows = slice(first, first + _ROWS)
            self._add(strip.top + first, strip.strata[rows], strip.classes[rows], areas[rows])

    def _add(self, top: int, strata: NDArray[np.uint8], classes: NDArray[np.uint8], areas: NDArray[np.float64]) -> None:
        inside = (strata != IGNORE_INDEX) & (areas > 0)  # what lies off the Earth has no area
        cells = strata[inside].astype(np.int64) * 255 + classes[inside]
        self.pixels += np.bincount(cells, minlength=self.pixels.size).reshape(self.pixels.shape)
        self.areas += np.bincount(cells, areas[inside], self.areas.size).reshape(self.areas.shape)
        numbers = np.random.default_rng([self._seed, top]).standard_exponential(strata.shape)
        numbers = np.divide(numbers, areas, out=np.full_like(numbers, np.inf), where=areas > 0)
        rows, cols = np.nonzero(inside & (numbers < self._limits[strata]))
        for stratum in np.unique(strata[rows, cols]).tolist():
            chosen = strata[rows, cols] == stratum
            r, c = rows[chosen], cols[chosen]
            kept = np.concatenate([self._kept[stratum], [numbers[r, c], r + top, c, classes[r, c]]], axis=1)
            kept = kept[:, np.argsort(kept[0], kind="stable")[: self._most]]
            self._kept[stratum] = kept
            if kept.shape[1] == self._most:
                self._limits[stratum] = kept[0, -1]

    def drawn(self, stratum: int, count: int) -> Drawn:
        """Return the first ``count`` pixels of a stratum."""
        _, rows, cols, classes = self._kept[stratum][:, :count].astype(np.int64)
        return Drawn(rows, cols, classes)


def allocate(areas: Sequence[float], pixels: Sequence[int], points: int, least: int) -> list[int]:
    """Divide points among strata: ``least`` to each, the rest in proportion to area (Olofsson et al. 2014, 5.1.1).

    A stratum of fewer pixels gets as many as it has; an empty one gets none.

    Raises:
        RecipeError: There are too few points.
    """
    share = np.array(areas) / max(sum(areas), 1e-300)
    counts = np.minimum(np.array(pixels), least)
    if counts.sum() > points:
        raise RecipeError(
            f"{points} points for {np.count_nonzero(counts)} strata of at least {least}",
            f"at least {int(counts.sum())} points",
            "give more --points, or a smaller --least",
        )
    room = np.array(pixels) - counts
    while (left := points - int(counts.sum())) and room.any():
        fair = share * (room > 0)
        fair = fair / fair.sum() * left
        whole = np.floor(fair).astype(np.int64)
        # What rounding leaves over goes to the largest fractions.
        whole[np.argsort(whole - fair, kind="stable")[: left - int(whole.sum())]] += 1
        whole = np.minimum(whole, room)
        counts, room = counts + whole, room - whole
    return [int(count) for count in counts]
