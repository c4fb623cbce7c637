"""The section of the learning curves: one small chart for each loss term and score."""

from __future__ import annotations

import math

from geodistill.report.charts import line_chart, thinned
from geodistill.report.markup import Html, element
from geodistill.report.page import Section
from geodistill.report.trained import Curve, Training

_FIRST = ("train/loss", "val/miou", "val/oa")


def learning_section(training: Training) -> Section:
    """Return the section of what was logged; gradients and weights of terms stand folded below."""
    step = training.segmenter.provenance.get("step") if training.segmenter is not None else None
    mark = step if isinstance(step, int) else None
    order = sorted(training.curves, key=_place)
    main = [curve for curve in order if curve.name.startswith(("train/", "val/"))]
    rest = [curve for curve in order if curve not in main]
    note = f"The line across marks step {mark:,}, whose weights were kept." if mark is not None else ""
    body = element(
        "div",
        None,
        element("p", {"class": "quiet"}, f"Each value as it was logged. {note}"),
        _grid(main, mark),
        element("details", None, element("summary", None, "Weights and gradients of the terms"), _grid(rest, mark))
        if rest
        else None,
    )
    figures = []
    for curve in order:
        steps, values = thinned(curve.steps, curve.values)
        known = [value if math.isfinite(value) else None for value in values]
        figures.append({"phase": curve.phase, "name": curve.name, "steps": steps, "values": known})
    return Section("training", "Training", body, {"curves": figures, "kept_step": mark})


def _place(curve: Curve) -> tuple[bool, int, str]:
    return not curve.phase, _FIRST.index(curve.name) if curve.name in _FIRST else len(_FIRST), curve.name


def _grid(curves: list[Curve], mark: int | None) -> Html:
    return element("div", {"class": "charts"}, [_figure(curve, mark) for curve in curves])


def _figure(curve: Curve, mark: int | None) -> Html:
    steps, values = thinned(curve.steps, curve.values)
    title, percent = curve_title(curve), curve.name.startswith("val/")
    first, last = (_number(value, percent) for value in (values[0], values[-1]))
    sentence = f"{title}: from {first} at step {steps[0]:,} to {last} at step {steps[-1]:,}."
    marked = mark if not curve.phase else None
    caption = element("figcaption", None, element("b", None, title), element("span", {"class": "quiet"}, f" {last}"))
    return element("figure", None, caption, line_chart(steps, values, sentence, percent=percent, mark=marked))


def curve_title(curve: Curve) -> str:
    """Return what a curve is of, in words."""
    kind, _, name = curve.name.partition("/")
    if kind == "train":
        words = "Loss, all terms" if name == "loss" else f"Loss term {name}"
    elif kind == "val":
        group, _, logged = name.rpartition(".")
        score = logged.removesuffix("_ema")
        words = {"miou": "Validation mIoU", "oa": "Validation accuracy"}.get(score, f"Validation {score}")
        words += (f", {group}" if group else "") + (", averaged weights" if score != logged else "")
    else:
        words = f"{kind.capitalize()} of {name}" if name else kind
    return f"{curve.phase}: {words}" if curve.phase else words


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.3g}"
