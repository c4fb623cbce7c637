"""A finite set of views: each sample in a few seeded ways, so that what was computed for a view can be kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Draws among which the share of unlabelled ones is exact."""


@dataclass(frozen=True)
class View:
    """What a draw shows.

    Attributes:
        pool: 0 for the labelled samples, 1 for the unlabelled ones.
        sample: Number of the sample in its pool.
        slot: Number of the view among all views of all samples.
    """

    pool: int
    sample: int
    slot: int


@dataclass(frozen=True)
class ViewSchedule:
    """Which view each draw shows: a function of seed and draw number alone.

    Every pass over a pool shows each view of each of its samples once, in a new order. Labelled slots come first, so
    that their numbers do not depend on the unlabelled ones.

    Attributes:
        samples: Samples of each pool, one or two pools.
        views: Views of each sample.
        share: Share of the draws taken from the second pool.
        seed: Any integer from 0.
    """

    samples: tuple[int, ...]
    views: int
    share: float
    seed: int

    @property
    def slots(self) -> int:
        """Views of all samples of all pools."""
        return self.views * sum(self.samples)

    def view(self, draw: int) -> View:
        """Give the view of a draw, from 0 without end."""
        pool, ordinal = (0, draw) if len(self.samples) == 1 or self.share == 0 else self._pool(draw)
        size = self.samples[pool] * self.views
        place = int(_order(self.seed, pool, ordinal // size, size)[ordinal % size])
        return View(pool, place // self.views, place + pool * self.samples[0] * self.views)

    def _pool(self, draw: int) -> tuple[int, int]:
        """Give the pool of a draw and how many draws before it were from that pool."""
        block, place = divmod(draw, BLOCK)
        second = round(BLOCK * self.share)
        chosen = _order(self.seed, 2, block, BLOCK) < second
        before = int(np.count_nonzero(chosen[:place]))
        if chosen[place]:
            return 1, block * second + before
        return 0, block * (BLOCK - second) + place - before


@lru_cache(maxsize=8)
def _order(seed: int, pool: int, turn: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, pool, turn)).permutation(size)
