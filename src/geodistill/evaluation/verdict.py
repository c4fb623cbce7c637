"""Whether one way of training beats another on these places: differences, their intervals, and an answer in words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import counted
from geodistill.evaluation.intervals import drawn_miou, interval, mean_iou
from geodistill.metrics import places_drawn

FEWEST = 3
"""Places below which nothing is said of others."""

Counts = Mapping[str, NDArray[np.int64]]
"""Pixels ``(K, K)`` by true and predicted class, of each place by its name."""


@dataclass(frozen=True)
class ArmRun:
    """One run of an arm, scored.

    Attributes:
        seed: Of weights and crops.
        minutes: Wall time of the training.
        counts: What was scored.
    """

    seed: int
    minutes: float
    counts: Counts


@dataclass(frozen=True)
class ArmResult:
    """What an arm scored beside the first one.

    Attributes:
        name: Of the arm.
        miou: 0..1, of each seed.
        minutes: Mean wall time of a run.
        gain: Mean difference of mIoU to the first arm, of pairs of one seed; ``None`` for the first arm.
        low: Lower end of its 95 % interval; ``None`` where there are too few places.
        high: Upper end.
        verdict: In words.
    """

    name: str
    miou: tuple[float, ...]
    minutes: float
    gain: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """All arms, the first being what the others are compared with; printed, a table and an answer for each.

    Attributes:
        arms: Their results.
        seeds: Runs of each.
        places: Independent places scored.
        budget: What all had the same of, in words.
        starts: Which weights each arm begins with, in words, by its name.
    """

    arms: tuple[ArmResult, ...]
    seeds: int
    places: int
    budget: str
    starts: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the table, and an answer for each arm but the first."""
        width = max(3, *(len(arm.name) for arm in self.arms))
        lines = [f"{'arm':<{width}} {'mIoU':>7} {'minutes':>8} {'gain':>6} {'95 %':>14}  each seed"]
        for arm in self.arms:
            mean = f"{100 * statistics.fmean(arm.miou):.2f}"
            gain = "" if arm.gain is None else f"{100 * arm.gain:+.1f}"
            ends = "" if arm.low is None or arm.high is None else f"{100 * arm.low:+.1f} to {100 * arm.high:+.1f}"
            each = ", ".join(f"{100 * value:.1f}" for value in arm.miou)
            lines.append(f"{arm.name:<{width}} {mean:>7} {arm.minutes:>8.1f} {gain:>6} {ends:>14}  {each}")
        lines.append(f"{self.budget}; {counted(self.seeds, 'seed')}, {places_drawn(self.places)}")
        return "\n".join([*lines, *(f"{arm.name}: {arm.verdict}" for arm in self.arms[1:])])


def compare_runs(arms: Mapping[str, Sequence[ArmRun]], classes: Sequence[int], budget: str) -> Verdict:
    """Compare every arm with the first.

    The interval is a bootstrap over places and over seeds, both drawn anew together: the same places and seeds for both
    arms, so that what makes a place hard or a seed lucky cancels out.

    Args:
        arms: The runs of each by its name, of the same seeds in the same order and scored on the same places.
        classes: Positions of the classes that the mean is over.
        budget: What all had the same of, in words.
    """
    (first, baseline), *_ = arms.items()
    places = sorted(baseline[0].counts)
    results = []
    for name, runs in arms.items():
        miou = tuple(float(mean_iou(np.sum([run.counts[place] for place in places], axis=0), classes)) for run in runs)
        minutes = statistics.fmean(run.minutes for run in runs)
        if name == first:
            results.append(ArmResult(name, miou, minutes, None, None, None, "what the others are compared with"))
            reference, before = miou, minutes
            continue
        gain = statistics.fmean(mine - its for mine, its in zip(miou, reference, strict=True))
        ends = None
        if len(places) >= FEWEST:
            pairs = [
                drawn_miou([run.counts[place] for place in places], classes)
                - drawn_miou([other.counts[place] for place in places], classes)
                for run, other in zip(runs, baseline, strict=True)
            ]
            differences = np.stack(pairs, 1)
            drawn = np.random.default_rng(1).integers(len(pairs), size=differences.shape)
            ends = interval(np.take_along_axis(differences, drawn, 1).mean(1))
        low, high = ends or (None, None)
        words = answer(gain, low, high, minutes / before, len(places))
        results.append(ArmResult(name, miou, minutes, gain, low, high, words))
    return Verdict(tuple(results), len(baseline), len(places), budget)


def answer(gain: float, low: float | None, high: float | None, times: float, places: int) -> str:
    """Return whether it pays, in words; shares in 0..1, ``times`` the first arm's time."""
    if low is None or high is None:
        return f"undecided with {counted(places, 'test place')}: {100 * gain:+.1f}, at {times:.1f} times the time"
    figures = f"{100 * gain:+.1f}, 95 % interval {100 * low:.1f} to {100 * high:.1f}, at {times:.1f} times the time"
    if low > 0:
        return f"yes, {figures}"
    if high < 0:
        return f"no, it does harm, {figures}"
    return f"undecided with {counted(places, 'test place')}, {figures}"
