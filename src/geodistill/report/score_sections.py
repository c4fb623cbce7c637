"""The sections of the scores: a table of the classes with bars and intervals, and the confusion matrix in shades."""

from __future__ import annotations

import math

import numpy as np

from geodistill.metrics import FEW_PLACES
from geodistill.report.charts import interval_bar
from geodistill.report.evaluated import Evaluation
from geodistill.report.markup import Html, element, join
from geodistill.report.page import Section, class_colour, swatch, titled_table, wide
from geodistill.spec import Legend

_SHADES = 10


def scores_section(evaluation: Evaluation, name: str, title: str, legend: Legend | None) -> Section:
    """Return the section of an evaluation's scores, in the colours of the page's legend."""
    scores = evaluation.scores
    titles = ("class", "share of labels", "IoU", "", "95 % interval", "F1", "precision", "recall")
    rows = [_class_row(evaluation, k, class_colour(scores.names[k], legend)) for k in range(len(scores.names))]
    mean = "mean" if len(scores.subset) == len(scores.names) else f"mean of {', '.join(scores.subset)}"
    means = (scores.mf1, scores.mprecision, scores.mrecall)
    interval = evaluation.intervals.get("miou")
    foot = element(
        "tr",
        None,
        element("th", {"scope": "row"}, mean),
        element("td"),
        element("td", {"class": "n"}, percent(scores.miou)),
        element("td", None, _bar(scores.miou, interval, "plain")),
        element("td", {"class": "n"}, interval_text(interval)),
        *(element("td", {"class": "n"}, percent(value)) for value in means),
    )
    caption = f"{evaluation.images:,} images of split {evaluation.split}, in percent"
    table = titled_table("classes", caption, titles, rows, foot)
    body = join(wide("Scores by class", table), element("p", {"class": "quiet"}, interval_note(evaluation)))
    intervals = {key: list(ends) for key, ends in evaluation.intervals.items()}
    figures = scores.to_dict() | {"split": evaluation.split, "images": evaluation.images, "intervals": intervals}
    return Section(name, title, body, figures | {"groups": evaluation.groups})


def _class_row(evaluation: Evaluation, k: int, colour: str) -> Html:
    scores = evaluation.scores
    interval = evaluation.intervals.get(f"class {scores.names[k]}")
    total = max(int(scores.support.sum()), 1)
    rest = (scores.f1[k], scores.precision[k], scores.recall[k])
    return element(
        "tr",
        None,
        element("th", {"scope": "row"}, swatch(colour), scores.names[k]),
        element("td", {"class": "n"}, percent(scores.support[k] / total)),
        element("td", {"class": "n"}, percent(scores.iou[k])),
        element("td", None, _bar(scores.iou[k], interval, colour)),
        element("td", {"class": "n"}, interval_text(interval)),
        *(element("td", {"class": "n"}, percent(value)) for value in rest),
    )


def _bar(value: float, interval: tuple[float, float] | None, kind: str) -> Html | None:
    return None if math.isnan(value) else interval_bar(float(value), interval, kind)


def confusion_section(evaluation: Evaluation) -> Section:
    """Return the section of the confusion matrix: each row as shares of its true class, shaded."""
    scores = evaluation.scores
    totals = scores.counts.sum(1, keepdims=True)
    shares = np.divide(scores.counts, totals, out=np.full(scores.counts.shape, np.nan), where=totals > 0)
    head = [element("th", {"scope": "col"}, swatch(f"k{k}"), name) for k, name in enumerate(scores.names)]
    rows = []
    for k, name in enumerate(scores.names):
        cells = [_shaded(float(share), j == k) for j, share in enumerate(shares[k])]
        rows.append(element("tr", None, element("th", {"scope": "row"}, swatch(f"k{k}"), name), cells))
    corner = element("td", {"class": "quiet"}, "true \u2193 predicted \u2192")
    table = element(
        "table",
        {"class": "confusion"},
        element("caption", None, "Percent of the pixels of each true class"),
        element("thead", None, element("tr", None, corner, head)),
        element("tbody", None, rows),
    )
    worst = _confusions(evaluation)
    body = join(element("p", None, worst) if worst else None, wide("Confusion matrix", table))
    figures = {"classes": list(scores.names), "pixels": scores.counts.tolist(), "rows": "true", "columns": "predicted"}
    return Section("confusion", "Confusion", body, figures)


def _shaded(share: float, hit: bool) -> Html:
    level = 0 if math.isnan(share) else round(_SHADES * share)
    return element("td", {"class": f"n {'hit' if hit else 'miss'} s{level}"}, percent(share))


def _confusions(evaluation: Evaluation) -> str:
    """Return a sentence on what is taken for what most often."""
    counts = evaluation.scores.counts.astype(np.float64)
    np.fill_diagonal(counts, 0)
    if not counts.sum():
        return ""
    true, predicted = np.unravel_index(counts.argmax(), counts.shape)
    names = evaluation.scores.names
    part = counts.max() / counts.sum()
    what = f"{names[true]} taken for {names[predicted]}"
    return f"The most frequent error is {what}: {100 * part:.0f} % of all wrong pixels."


def percent(value: float) -> str:
    """Return a share in percent with one digit behind the point; a dash where it is not defined."""
    return "\u2013" if math.isnan(value) else f"{100 * value:.1f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval in percent."""
    return "\u2013" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def interval_note(evaluation: Evaluation) -> str:
    """Return a sentence on what the intervals are worth."""
    if not evaluation.groups:
        return "Without intervals: the images are of a single place, or were scored before intervals were kept."
    few = " Under ten places an interval is itself uncertain." if evaluation.groups < FEW_PLACES else ""
    return (
        f"Intervals by drawing the {evaluation.groups} independent places (groups, or images without one) anew with"
        f" replacement.{few}"
    )
