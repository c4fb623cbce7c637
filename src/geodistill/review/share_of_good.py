"""What a random sample of decisions says of all labels, and how long the rest will take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959964
"""Standard errors on each side of an interval of 95 %."""


@dataclass(frozen=True)
class GoodShare:
    """The share of good labels: how many of a sample were looked at and were good, and the interval of 95 %."""

    good: int
    seen_count: int
    sample: int
    low: float
    high: float

    @property
    def text(self) -> str:
        """The figures in a sentence."""
        if not self.seen_count:
            return f"share of good labels: not known yet (random sample: 0 of {self.sample} decided)"
        return (
            f"good labels: {self.good / self.seen_count:.0%} (95 % interval {self.low:.0%} to {self.high:.0%}),"
            f" {self.good} of {self.seen_count} decided in a random sample of {self.sample}"
        )


def good_share(good: int, seen_count: int, sample: int) -> GoodShare:
    """Return the share of good labels with Wilson's score interval (Wilson 1927), which holds near 0 and 1 too."""
    low, high = wilson(good, seen_count)
    return GoodShare(good, seen_count, sample, low, high)


def wilson(good: int, count: int) -> tuple[float, float]:
    """Return the score interval of 95 % of a share; 0 to 1 where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, squared = good / count, Z * Z / count
    middle = (share + squared / 2) / (1 + squared)
    half = Z * math.sqrt(share * (1 - share) / count + squared / (4 * count)) / (1 + squared)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def seconds_left(durations: Sequence[float], undecided: int, reviewers: int) -> float | None:
    """Return how long the rest will take: the median of the last decisions' seconds, shared among reviewers.

    ``None`` before five decisions.
    """
    if len(durations) < 5:
        return None
    return statistics.median(durations) * undecided / max(reviewers, 1)
