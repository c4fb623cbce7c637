"""The section that sets a model beside its teacher and other runs: size, speed here, and share of the mIoU kept."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from geodistill.evaluation.comparison import ComparedModel, Comparison
from geodistill.report.charts import interval_bar
from geodistill.report.markup import Html, element, join
from geodistill.report.page import Section, titled_table, wide


def cost_section(comparison: Comparison) -> Section:
    """Return the section of the compared models."""
    figures, comparison = asdict(comparison), _shortly_named(comparison)
    titles = ("model", "parameters", "file", "GFLOPs", "images/s", "", "mIoU", "kept")
    fastest = max(model.images_per_second for model in comparison.models)
    caption = f"Speed of {comparison.size} pixel images on {comparison.device}, here"
    table = titled_table("models", caption, titles, [_row(model, fastest) for model in comparison.models])
    about = (
        f"Scores: {comparison.scored_on}. Speed: {comparison.batch_size} images at a time, the median pass,"
        " the models in turn; a multiply-add counts as two operations."
    )
    sentences = [*_kept(comparison), *(f"{note}." for note in comparison.notes)]
    body = join(
        *(element("p", None, sentence) for sentence in sentences),
        wide("Models compared", table),
        element("p", {"class": "quiet"}, about),
    )
    return Section("models", "Models", body, figures)


def _shortly_named(comparison: Comparison) -> Comparison:
    """Return the comparison with absolute paths from the folder that all of them lie in, where none is then another."""
    names = [model.name for model in comparison.models]
    # A common beginning of letters, of which the last folder is the part before its last slash.
    paths = [name for name in names if Path(name).is_absolute()]
    above = os.path.join(os.path.dirname(os.path.commonprefix(paths)), "")  # noqa: PTH118, PTH120, RUF071
    if len({name.removeprefix(above) for name in names}) < len(set(names)):
        return comparison
    models = (
        replace(model, name=model.name.removeprefix(above), teacher=model.teacher and model.teacher.removeprefix(above))
        for model in comparison.models
    )
    return replace(comparison, models=tuple(models))


def _kept(comparison: Comparison) -> list[str]:
    """Return a sentence for each student that is compared with its teacher."""
    by_name = {model.name: model for model in comparison.models}
    sentences = []
    for model in comparison.models:
        teacher = by_name.get(model.teacher or "")
        if teacher is None:
            continue
        size = teacher.parameters / max(model.parameters, 1)
        speed = model.images_per_second / teacher.images_per_second
        score = "" if model.kept is None else f" and keeps {100 * model.kept:.0f} % of its mIoU"
        sentences.append(f"{model.name} has {_size(size)} its teacher {teacher.name}, is {_speed(speed)}{score}.")
    return sentences


def _size(fewer: float) -> str:
    """Return how many parameters there are, of which a teacher has so many times as many."""
    factor, side = (fewer, "fewer") if fewer >= 1 else (1 / fewer, "more")
    return "as many parameters as" if f"{factor:.1f}" == "1.0" else f"{factor:.1f} times {side} parameters than"


def _speed(factor: float) -> str:
    """Return how fast a model is that does so many times the images of another."""
    known = {"1.0": "as fast here", "0.5": "half as fast here"}
    slower = f"{1 / factor:.1f} times slower here" if factor < 1 else f"{factor:.1f} times as fast here"
    return known.get(f"{factor:.1f}", slower)


def _row(model: ComparedModel, fastest: float) -> Html:
    name = model.name if model.teacher is None else f"\u21b3 {model.name}"
    cells = (
        f"{model.parameters:,}",
        size_text(model.file_bytes),
        f"{model.flops / 1e9:.2f}",
        f"{model.images_per_second:.2f}",
    )
    scores = (
        "\u2013" if model.miou is None else f"{100 * model.miou:.1f} %",
        "\u2013" if model.kept is None else f"{100 * model.kept:.1f} %",
    )
    return element(
        "tr",
        None,
        element("th", {"scope": "row"}, name),
        *(element("td", {"class": "n"}, cell) for cell in cells),
        element("td", None, interval_bar(model.images_per_second / fastest, None, "plain")),
        *(element("td", {"class": "n"}, score) for score in scores),
    )


def size_text(size: int) -> str:
    """Return bytes as kB or MB of a thousand."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
