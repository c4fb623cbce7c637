"""What decisions about a random sample of masks say of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z = 1.959964
"""Standard errors on each side of an interval of 95 %."""


@dataclass(frozen=True)
class GoodShare:
    """The share of good labels: those of a random sample that a person accepted as they were.

    Attributes:
        good: Masks accepted.
        seen_count: Masks decided.
        sample: Masks in the sample.
    """

    good: int
    seen_count: int
    sample: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval of 95 % (Wilson 1927), which holds near 0 and 1 too."""
        return wilson(self.good, self.seen_count)

    @property
    def text(self) -> str:
        """The figures in a sentence."""
        if not self.seen_count:
            return f"share of good labels: not known yet (random sample: 0 of {self.sample} decided)"
        low, high = self.interval
        return (
            f"good labels: {self.good / self.seen_count:.0%} (95 % interval {low:.0%} to {high:.0%}),"
            f" {self.good} of {self.seen_count} decided in a random sample of {self.sample}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, the interval included."""
        low, high = self.interval
        return {"good": self.good, "decided": self.seen_count, "of": self.sample, "low": low, "high": high}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GoodShare:
        """Read the JSON form.

        Raises:
            KeyError: A part is missing.
            TypeError: A part has another form.
            ValueError: A part has another form, or more were accepted than decided.
        """
        share = cls(int(data["good"]), int(data["decided"]), int(data["of"]))
        if not 0 <= share.good <= share.seen_count <= share.sample:
            raise ValueError(f"{share.good} of {share.seen_count} of {share.sample}")
        return share


def wilson(good: int, count: int) -> tuple[float, float]:
    """Return the score interval of 95 % of a share; 0 to 1 where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, squared = good / count, Z * Z / count
    middle = (share + squared / 2) / (1 + squared)
    half = Z * math.sqrt(share * (1 - share) / count + squared / (4 * count)) / (1 + squared)
    return max(middle - half, 0.0), min(middle + half, 1.0)
