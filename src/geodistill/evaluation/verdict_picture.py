"""The picture of a verdict: what each arm scored with each seed, and its gain with its interval."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from geodistill.errors import counted
from geodistill.evaluation.verdict import Verdict
from geodistill.files import write_figure
from geodistill.metrics import places_drawn
from geodistill.writing import plot_label


def verdict_picture(verdict: Verdict, path: Path) -> None:
    """Write a PNG: left the mIoU of each arm, a dot a seed; right the gains over the first arm, in points of mIoU.

    Raises:
        OutputError: The picture cannot be written.
    """
    figure = Figure(figsize=(9, 1.6 + 0.5 * len(verdict.arms)), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row, arm in enumerate(verdict.arms):
        left.plot([100 * value for value in arm.miou], [row] * len(arm.miou), "o", color="tab:blue", alpha=0.5)
        left.plot([100 * statistics.fmean(arm.miou)], [row], "|", color="black", markersize=18)
        if arm.gain is None:
            continue
        right.plot([100 * arm.gain], [row], "o", color="tab:blue")
        if arm.low is not None and arm.high is not None:
            right.plot([100 * arm.low, 100 * arm.high], [row, row], color="tab:blue")
    right.axvline(0, color="grey", linewidth=1)
    left.set_yticks(range(len(verdict.arms)), [plot_label(arm.name) for arm in verdict.arms])
    left.set_ylim(len(verdict.arms) - 0.5, -0.5)  # the first arm on top
    left.set_xlabel("mIoU, a dot a seed")
    drawn = any(arm.low is not None for arm in verdict.arms)
    places = places_drawn(verdict.places) if drawn else counted(verdict.places, "place")
    right.set_xlabel(f"gain in mIoU, {'95 % interval' if drawn else f'no interval: {places}'}")
    figure.suptitle(f"{verdict.budget}; {counted(verdict.seeds, 'seed')}, {places}", fontsize=10)
    write_figure(path, figure)
