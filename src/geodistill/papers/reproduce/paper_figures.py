"""``reproduce --figure``: the papers' kinds of picture, drawn from the rows of a table that ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geodistill.data.statistics import SPLITS
from geodistill.errors import DataError, RecipeError, check_name
from geodistill.evaluation.pictures import error_map, panel_grid, to_rgb
from geodistill.evaluation.scoring import ImageScore, Preview
from geodistill.explain.feature_maps import class_activation, feature_heat, overlay
from geodistill.files import write_figure
from geodistill.nn.encoders import Encoder
from geodistill.papers.reproduce.ran_rows import RanRows, logged, teachers, zone_of
from geodistill.papers.sanity import heading
from geodistill.segmenter import Segmenter
from geodistill.writing import plot_label


def draw_maps(ran: RanRows, path: Path) -> None:
    """Draw image, truth, and the map and the errors of each row, side by side on the same tiles."""
    columns = {label: ran.previews(label) for label in ran.runs}
    first, legend = next(iter(columns.values())), ran.legend
    rows = [[to_rgb(p.image, ran.manifest.bands), legend.paint(p.truth)] for p in first]
    for previews in columns.values():
        for row, preview in zip(rows, previews, strict=True):
            row += [legend.paint(preview.prediction), error_map(preview.truth, preview.prediction)]
    titles = ["image", "truth", *(title for label in columns for title in (label, "errors (red)"))]
    panel_grid(rows, titles, legend, path)


def draw_zones(ran: RanRows, path: Path) -> None:
    """Draw each row's map under the text of the tile's own climate zone and under the text least like it (MetaSegNet).

    Raises:
        RecipeError: No row's model holds the texts of several zones.
    """
    readers = zone_readers(ran)
    if not readers:
        raise RecipeError(f"zones of {ran.runner.table.name}", "a row whose network reads the text of a climate zone")
    rows: list[list[NDArray[np.uint8]]] = [[] for _ in ran.tiles]
    captions, titles = [""] * len(rows), ["image", "truth"]
    for label in readers:
        keys, (local, other) = ran.models[label].prompts, ran.prompts(label)
        titles += [f"{label}: own zone", "another zone", "what differs (red)"]
        for at, pair in enumerate(zip(ran.previews(label, local), ran.previews(label, other), strict=True)):
            rows[at] = rows[at] or [to_rgb(pair[0].image, ran.manifest.bands), ran.legend.paint(pair[0].truth)]
            there, elsewhere = (preview.prediction for preview in pair)
            rows[at] += [ran.legend.paint(there), ran.legend.paint(elsewhere), error_map(there, elsewhere)]
            captions[at] = f"own zone {keys[local[at]]}, another {keys[other[at]]}"
    panel_grid(rows, titles, ran.legend, path, captions=captions)


def zone_readers(ran: RanRows) -> list[str]:
    """Return the rows whose model holds the texts of several zones."""
    return [label for label, model in ran.models.items() if len({zone_of(key) for key in model.prompts}) > 1]


def draw_heat(ran: RanRows, path: Path) -> None:
    """Draw where each row's encoder has large features, and the teachers' behind them (KDA's Figure 1)."""
    models: dict[str, Segmenter | Encoder] = dict(ran.models)
    for run in ran.runs.values():
        models |= dict(teachers(ran.runner, run))
    _draw_heat(ran, path, list(models), lambda name, tile, preview: feature_heat(
        ran.placed(name, tile) if name in ran.runs else models[name], preview.image
    ))  # fmt: skip


def draw_activation(ran: RanRows, path: Path) -> None:
    """Draw what in each row's encoder speaks for the class that covers most of a tile, which stands above the tile."""
    classes = len(ran.legend) - bool(ran.mappings)  # of which the last is all that only one side has

    def heat(name: str, tile: ImageScore, preview: Preview) -> NDArray[np.float32]:
        return class_activation(ran.placed(name, tile), preview.image, ran.class_of(name, largest(preview)))

    def largest(preview: Preview) -> int:
        shown = preview.truth[preview.truth < classes]
        return int(np.bincount(shown, minlength=1).argmax())

    _draw_heat(ran, path, list(ran.runs), heat, lambda preview: f"for {ran.legend.names[largest(preview)]}")


def draw_curves(ran: RanRows, path: Path) -> None:
    """Draw each row's loss and validation mIoU over its steps."""
    figure, (loss, score) = _figure(2)
    for label, run in ran.runs.items():
        lines = logged(ran.runner.folder / run.folder / "logs")
        for axes, key in ((loss, "train/loss"), (score, "val/miou")):
            points = [(int(line["step"]), float(line[key])) for line in lines if line.get(key)]
            axes.plot(*zip(*points, strict=True) if points else ([], []), marker="o", markersize=3, label=label)
    losses = [value for line in loss.lines for value in line.get_ydata()]
    if losses and 0 < 10 * min(losses) < max(losses):
        loss.set_yscale("log")
    loss.set(xlabel="step", ylabel="training loss")
    score.set(xlabel="step", ylabel="validation mIoU")
    score.legend(fontsize=7)
    write_figure(path, figure)


def draw_scatter(ran: RanRows, path: Path) -> None:
    """Draw each row's score against its parameters: the table's mIoU, or else its first score that there is."""
    figures = {label: ran.runner.figures(run) for label, run in ran.runs.items()}
    metrics = [column.metric for column in ran.runner.table.columns]
    metric = "miou" if "miou" in metrics else next(m for m in metrics if all(m in one for one in figures.values()))
    figure, (axes,) = _figure(1)
    for label, one in figures.items():
        axes.scatter(one["parameters"], one[metric], s=18)
        axes.annotate(label, (one["parameters"], one[metric]), fontsize=7, xytext=(4, 4), textcoords="offset points")
    sizes = [one["parameters"] for one in figures.values()]
    axes.set(xlabel="parameters (M)", ylabel=f"{heading(metric)} (%)")
    axes.set_xscale("log" if max(sizes) > 10 * min(sizes) else "linear")
    axes.margins(0.2)
    write_figure(path, figure)


def draw_labels(ran: RanRows, path: Path) -> None:
    """Draw how many pixels of each class every split of the set has."""
    statistics = ran.manifest.statistics
    if statistics is None:
        raise DataError(f"{ran.manifest.path} has no statistics", "what 'geodistill data scan' measures")
    figure, (axes,) = _figure(1)
    places, width = np.arange(len(ran.set_legend)), 0.8 / max(len(statistics.class_pixels), 1)
    splits = sorted(statistics.class_pixels.items(), key=lambda split: SPLITS.index(split[0]))
    for number, (split, counts) in enumerate(splits):
        axes.bar(places + number * width, counts, width, label=split)
    names = [plot_label(name) for name in ran.set_legend.names]
    axes.set_xticks(places + 0.4 - width / 2, names, rotation=60, ha="right", fontsize=7)
    axes.set(ylabel="pixels", yscale="symlog")
    axes.legend(fontsize=7, ncols=len(splits), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    write_figure(path, figure)


PICTURES: dict[str, Callable[[RanRows, Path], None]] = {
    "maps": draw_maps,
    "zones": draw_zones,
    "heat": draw_heat,
    "activation": draw_activation,
    "curves": draw_curves,
    "scatter": draw_scatter,
    "labels": draw_labels,
}
"""The kinds of picture."""


def draw_pictures(ran: RanRows, kinds: Sequence[str] = ()) -> list[Path]:
    """Draw pictures of some kinds into ``PAPER-NUMBER-SCALE-KIND.png``; return the files.

    Where none is named, all that there can be: zones need a row that reads texts of climate zones.

    Raises:
        UnknownNameError: There is no such kind.
        RecipeError: No row of the table ran.
        OutputError: A picture cannot be written.
    """
    for kind in kinds:
        check_name("kind of picture", kind, PICTURES)
    table = ran.runner.table
    if not ran.runs:
        raise RecipeError(f"pictures of {table.name}, no row of which ran", "finished rows", "run them first")
    paths = []
    for kind in kinds or [kind for kind in PICTURES if kind != "zones" or zone_readers(ran)]:
        paths.append(ran.out / picture_name(table.name, ran.runner.scale, kind))
        PICTURES[kind](ran, paths[-1])
    return paths


def picture_name(table: str, scale: str, kind: str) -> str:
    """Return the name of a picture's file."""
    return f"{table.replace('/', '-')}-{scale}-{kind}.png"


def _draw_heat(
    ran: RanRows,
    path: Path,
    names: Sequence[str],
    heat: Callable[[str, ImageScore, Preview], NDArray[np.float32]],
    caption: Callable[[Preview], str] | None = None,
) -> None:
    shown = ran.previews(next(iter(ran.runs)))
    rows: list[list[NDArray[np.uint8]]] = []
    for tile, preview in zip(ran.tiles, shown, strict=True):
        image = to_rgb(preview.image, ran.manifest.bands)
        truth = ran.legend.paint(preview.truth)
        rows.append([image, truth, *(overlay(image, heat(name, tile, preview)) for name in names)])
    captions = [] if caption is None else [caption(preview) for preview in shown]
    panel_grid(rows, ["image", "truth", *names], ran.legend, path, captions=captions)


def _figure(panels: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.5 * panels, 4), dpi=120, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]
