"""The figures of labelled sets as text, CSV files and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geodistill.data.statistics import Spread
from geodistill.files import write_figure, write_text
from geodistill.label.stats import EDGES, SMALL, SMALL_EDGES, SetStatistics
from geodistill.label.tiles import ENDS, flat_names
from geodistill.writing import aligned, csv_text, plot_label

TABLES = ("classes.csv", "sizes.csv", "per_image.csv")
PICTURES = ("classes.png", "sizes.png", "per_image.png")
COMPARISON = "comparison.csv"
SET_PICTURES = ("classes_of_sets.png", "sizes_of_sets.png")
_FEW = 50
"""Largest count that is drawn on a linear axis."""
_COLUMNS = ("set", "images", "classes", "channels", "resolution (m)", "image size", "instances", "labelled")


def write_statistics(sets: Sequence[SetStatistics], out: Path | str) -> list[Path]:
    """Write CSV files and pictures: of one set into ``out``, of several into a folder each with a comparison beside.

    ``classes`` is the paper's figure 5, ``sizes`` its figure 6, ``comparison.csv`` has the columns of its table 2;
    ``classes_of_sets`` and ``sizes_of_sets`` are those two figures of all sets that have instances, on one page each.

    Returns:
        The files written.

    Raises:
        OutputError: A file cannot be written.
    """
    out = Path(out)
    written: list[Path] = []
    folders = _folders([statistics.name for statistics in sets], out)
    for statistics, folder in zip(sets, folders, strict=True):
        tables = (_classes(statistics), _sizes(statistics), _per_image(statistics))
        figures = (_classes_figure(statistics), _sizes_figure(statistics), _per_image_figure(statistics))
        if not statistics.instances:
            tables, figures = tables[:1], figures[:1]  # type: ignore[assignment]
        for name, rows in zip(TABLES, tables, strict=False):
            written.append(_write_csv(folder / name, rows))
        for name, figure in zip(PICTURES, figures, strict=False):
            write_figure(folder / name, figure)
            written.append(folder / name)
    if len(sets) > 1:
        written.append(_write_csv(out / COMPARISON, [_COLUMNS, *map(_comparison, sets)]))
        counted = [statistics for statistics in sets if statistics.instances]
        if counted:
            pages = (_classes_of_sets(counted), _sizes_of_sets(counted))
            for name, page in zip(SET_PICTURES, pages, strict=True):
                write_figure(out / name, page)
                written.append(out / name)
    return written


def statistics_files(names: Sequence[str], out: Path | str) -> list[Path]:
    """Return every file that `write_statistics` may write for sets of these names."""
    out = Path(out)
    files = [folder / name for folder in _folders(names, out) for name in (*TABLES, *PICTURES)]
    return files if len(names) == 1 else [*files, out / COMPARISON, *(out / name for name in SET_PICTURES)]


def _folders(names: Sequence[str], out: Path) -> list[Path]:
    if len(names) == 1:
        return [out]
    return [
        out / flat_names([f"{n}-{Path(name).name}"], ENDS)[f"{n}-{Path(name).name}"] for n, name in enumerate(names, 1)
    ]


def format_statistics(statistics: SetStatistics) -> str:
    """Write a set's figures as the text that ``label stats`` prints."""
    size = f"{_range(statistics.width)} x {_range(statistics.height)}"
    lines = [f"{statistics.name}: {statistics.images} images of {size}, {sum(statistics.instances)} instances", ""]
    width = max(len("class"), len("(unlabelled)"), *(len(name) for name in statistics.classes))
    lines.append(
        f"{'class':{width}s} {'pixels':>13s}   share {'instances':>10s} {'mean size':>10s} {f'< {SMALL} px':>10s}"
    )
    total = sum(statistics.pixels) + (statistics.unlabelled or 0)
    for row in _class_rows(statistics):
        share = f"{100 * row['pixels'] / max(total, 1):6.2f}%"
        columns = f"{row['instances']:>10d} {row['mean']:>10.0f} {row['small']:>10d}" if statistics.instances else ""
        lines.append(f"{row['class']:{width}s} {row['pixels']:>13d} {share} {columns}".rstrip())
    if statistics.unlabelled is not None:
        share = f"{100 * statistics.unlabelled / max(total, 1):6.2f}%"
        lines.append(f"{'(unlabelled)':{width}s} {statistics.unlabelled:>13d} {share}")
    if statistics.per_image:
        counts = np.repeat(list(statistics.per_image), list(statistics.per_image.values()))
        lines += [
            "",
            f"instances per image: median {np.median(counts):g}, mean {counts.mean():.1f}, most {counts.max()}",
        ]
    if statistics.empty_masks:
        lines.append(f"{statistics.empty_masks} masks without a pixel are not counted")
    return "\n".join(lines)


def format_comparison(sets: Sequence[SetStatistics]) -> str:
    """Write several sets side by side, with the columns of the paper's table 2."""
    rows = [_COLUMNS, *map(_comparison, sets)]
    return "\n".join(aligned([[str(cell) for cell in row] for row in rows]))


def _comparison(statistics: SetStatistics) -> tuple[Any, ...]:
    total = sum(statistics.pixels) + (statistics.unlabelled or 0)
    return (
        statistics.name,
        statistics.images,
        len(statistics.classes),
        "" if statistics.channels is None else statistics.channels,
        _range(statistics.gsd),
        f"{_range(statistics.width)} x {_range(statistics.height)}",
        sum(statistics.instances) if statistics.instances else "",
        "" if statistics.unlabelled is None else f"{100 * sum(statistics.pixels) / max(total, 1):.1f}%",
    )


def _range(spread: Spread | None) -> str:
    if spread is None:
        return ""
    low, high = f"{spread.minimum:.4g}", f"{spread.maximum:.4g}"
    if spread.minimum >= 1000 or spread.maximum >= 1000:
        low, high = f"{spread.minimum:.0f}", f"{spread.maximum:.0f}"
    return low if low == high else f"{low}-{high}"


def _class_rows(statistics: SetStatistics) -> list[dict[str, Any]]:
    rows = []
    for at, name in enumerate(statistics.classes):
        row: dict[str, Any] = {"class": name, "pixels": statistics.pixels[at]}
        if statistics.instances:
            count = statistics.instances[at]
            row["instances"] = count
            row["mean"] = statistics.mask_pixels[at] / count if count else 0.0
            row["small"] = int(statistics.sizes[at, : len(SMALL_EDGES) - 1].sum())
        rows.append(row)
    return rows


def _classes(statistics: SetStatistics) -> list[Sequence[Any]]:
    rows = _class_rows(statistics)
    if not statistics.instances:
        return [("class", "pixels"), *((row["class"], row["pixels"]) for row in rows)]
    head = ("class", "pixels", "instances", "mean_pixels", f"below_{SMALL}_pixels", "mask_pixels")
    return [
        head,
        *(
            (r["class"], r["pixels"], r["instances"], f"{r['mean']:.1f}", r["small"], masks)
            for r, masks in zip(rows, statistics.mask_pixels, strict=True)
        ),
    ]


def _sizes(statistics: SetStatistics) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = [("class", "from_pixels", "below_pixels", "instances")]
    for name, counts in zip(statistics.classes, statistics.sizes.tolist(), strict=False):
        rows += [(name, low, high, n) for low, high, n in zip(EDGES, (*EDGES[1:], ""), counts, strict=True)]
    return rows


def _per_image(statistics: SetStatistics) -> list[Sequence[Any]]:
    return [("instances", "images"), *statistics.per_image.items()]


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> Path:
    write_text(path, csv_text(rows), errors="backslashreplace")
    return path


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(min(width, 40.0), height), dpi=100, layout="constrained")


def _classes_figure(statistics: SetStatistics) -> Figure:
    """Pixels and instances of each class, most pixels first."""
    order = sorted(range(len(statistics.classes)), key=lambda at: -statistics.pixels[at])
    bars = (
        [("pixels", statistics.pixels), ("instances", statistics.instances)]
        if statistics.instances
        else [("pixels", statistics.pixels)]
    )
    figure = _figure(3 + 0.35 * len(order), 3.2 * len(bars) + 1)
    for axes, (label, counts) in zip(figure.subplots(len(bars), squeeze=False)[:, 0], bars, strict=True):
        _bars(axes, statistics, counts, label, order)
    figure.suptitle(plot_label(statistics.name), fontsize=10)
    return figure


def _bars(axes: Axes, statistics: SetStatistics, counts: Sequence[int], label: str, order: Sequence[int]) -> None:
    """Draw a bar for each class; a class that has nothing to count says 0."""
    colours = [[part / 255 for part in statistics.colours[at]] for at in order]
    bars = axes.bar(range(len(order)), [counts[at] for at in order], color=colours, edgecolor="0.3", linewidth=0.5)
    axes.bar_label(bars, ["" if counts[at] else "0" for at in order], fontsize=8)
    _count_axis(axes, max(counts, default=0))
    axes.set_ylabel(label)
    names = [plot_label(statistics.classes[at]) for at in order]
    axes.set_xticks(range(len(order)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)


def _count_axis(axes: Axes, largest: int) -> None:
    """Make the upward axis one of whole numbers, logarithmic where they span decades."""
    if largest > _FEW:
        axes.set_yscale("symlog", linthresh=1)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _classes_of_sets(sets: Sequence[SetStatistics]) -> Figure:
    """Pixels of all masks (above) and instances (below) of each class, a column for each set: the paper's figure 5."""
    figure = _figure(1.5 + sum(2 + 0.28 * len(s.classes) for s in sets), 8)
    widths = [len(s.classes) for s in sets]
    grid = figure.subplots(2, len(sets), squeeze=False, gridspec_kw={"width_ratios": widths})
    for column, statistics in enumerate(sets):
        order = sorted(range(len(statistics.classes)), key=lambda at: statistics.classes[at].lower())
        _bars(grid[0, column], statistics, statistics.mask_pixels, "pixels of masks", order)
        _bars(grid[1, column], statistics, statistics.instances, "instances", order)
        grid[0, column].set_title(plot_label(statistics.name), fontsize=10)
    return figure


def _sizes_of_sets(sets: Sequence[SetStatistics]) -> Figure:
    """Instances by the size of their mask, a panel for each set: the paper's figure 6."""
    figure = _figure(5.5 * len(sets), 4)
    labels = [f"{max(low, 1)}-{high - 1}" for low, high in pairwise(EDGES)] + [f"{EDGES[-1]}+"]
    for axes, statistics in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        axes.bar(range(len(EDGES)), statistics.sizes.sum(axis=0), color="0.4")
        axes.set_xticks(range(len(EDGES)), labels, rotation=75, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_title(plot_label(statistics.name), fontsize=10)
        axes.set_xlabel("pixels of a mask")
        axes.set_ylabel("instances")
    return figure


def _sizes_figure(statistics: SetStatistics) -> Figure:
    """Sizes of masks: those below 100 pixels by tens, all others by decades."""
    figure = _figure(11, 4)
    split = len(SMALL_EDGES) - 1
    counts = statistics.sizes.sum(axis=0)
    labels = [f"{max(low, 1)}-{high - 1}" for low, high in pairwise(EDGES)] + [f"{EDGES[-1]}+"]
    for axes, part, title in zip(
        figure.subplots(1, 2),
        (slice(0, split), slice(split, None)),
        (f"below {SMALL} pixels", f"from {SMALL}"),
        strict=True,
    ):
        axes.bar(range(len(counts[part])), counts[part], color="0.4")
        axes.set_xticks(
            range(len(counts[part])), labels[part], rotation=60, ha="right", rotation_mode="anchor", fontsize=8
        )
        axes.set_title(f"{title}: {counts[part].sum()} masks", fontsize=10)
        axes.set_xlabel("pixels of a mask")
        axes.set_ylabel("instances")
    return figure


def _per_image_figure(statistics: SetStatistics) -> Figure:
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    counts, images = list(statistics.per_image), list(statistics.per_image.values())
    # From half to half: a bar stands around its number, and not to the right of it.
    edges = np.unique(np.linspace(0, max(counts, default=0) + 1, 41).astype(int)) - 0.5
    heights, *_ = axes.hist(counts, bins=edges.tolist(), weights=images, color="0.4", edgecolor="white", linewidth=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _count_axis(axes, round(np.max(heights)))
    axes.set_xlabel("instances of an image")
    axes.set_ylabel("images")
    return figure
