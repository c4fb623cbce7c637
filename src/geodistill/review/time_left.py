"""How long the rest of a review will take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def seconds_left(durations: Sequence[float], undecided: int, reviewers: int) -> float | None:
    """Return how long the rest will take: the median of the last decisions' seconds, shared among reviewers.

    ``None`` before five decisions.
    """
    if len(durations) < 5:
        return None
    return statistics.median(durations) * undecided / max(reviewers, 1)
