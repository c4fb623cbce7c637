"""The table and the picture of a model's robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from geodistill.errors import counted
from geodistill.evaluation.robustness import BREAKS, Interval, Robustness
from geodistill.files import check_outputs, json_text, write_figure, write_text
from geodistill.folders import claim_files, hold_folder
from geodistill.metrics import places_drawn
from geodistill.writing import csv_text

FILES = ("robustness.json", "robustness.csv", "robustness.png")
"""What a report consists of."""

KIND = "robustness"
"""What the directory's marker calls it."""


def claim_report(out: Path, inputs: list[Path | str]) -> None:
    """Make sure that a report can be written into a directory and costs nobody a file.

    Raises:
        OutputError: It would be written over an input or a file that is not ours.
    """
    check_outputs([out / name for name in FILES], inputs)
    claim_files(out, KIND, FILES, write=False)


def write_report(out: Path, measured: Robustness, about: dict[str, Any]) -> None:
    """Write `FILES` into a directory.

    Raises:
        OutputError: It cannot be written.
    """
    with hold_folder(out, KIND):
        claim_files(out, KIND, FILES)
        texts = (json_text({"about": about, **measured.to_dict()}, indent=2) + "\n", csv_text(_lines(measured)))
        for name, text in zip(FILES, texts, strict=False):
            write_text(out / name, text)
        write_figure(out / FILES[2], _picture(measured))


def _lines(measured: Robustness) -> list[list[Any]]:
    kinds = ("agreement", "miou", "loss")
    head = ["perturbation", *(f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")), "breaks"]
    lines = [head]
    for row in measured.rows:
        cells = [cell for interval in (row.agreement, row.miou, row.loss) for cell in _cells(interval)]
        lines.append([row.name, *cells, "yes" if row.breaks else ""])
    return lines


def _cells(interval: Interval) -> list[str]:
    return [f"{value:.6f}" if value == value else "" for value in (interval.value, interval.low, interval.high)]


def _picture(measured: Robustness) -> Figure:
    """Draw agreement and mIoU of each perturbation with their intervals; what breaks is red."""
    names = [row.name for row in measured.rows]
    figure = Figure(figsize=(9, 1.4 + 0.36 * len(names)), dpi=100, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, kind, title in zip(axes, ("agreement", "miou"), ("pixels whose class stays", "mIoU"), strict=True):
        for place, row in enumerate(measured.rows):
            interval: Interval = getattr(row, kind)
            colour = "tab:red" if row.breaks else "tab:blue"
            panel.plot([100 * interval.low, 100 * interval.high], [place, place], color=colour, linewidth=2)
            panel.plot(100 * interval.value, place, "o", color=colour, markersize=5)
        panel.set_xlim(-2, 102)
        panel.set_xlabel(f"{title}, percent")
        panel.grid(axis="x", alpha=0.3)
    axes[1].axvline(100 * measured.rows[0].miou.value, color="grey", linestyle=":", linewidth=1)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # the images as they are on top
    broken = f"; red: loses more than {100 * BREAKS:.0f} points" if any(row.breaks for row in measured.rows) else ""
    about = f"95 % bootstrap intervals over {counted(measured.images, 'image')}, {places_drawn(measured.groups)}"
    figure.suptitle(about + broken, fontsize=10)
    return figure
