"""Confidence against accuracy: whether the map's percentages can be taken at their word."""

from __future__ import annotations

from geodistill.report.charts import drawing, text_at, tick_text
from geodistill.report.evaluated import Calibration
from geodistill.report.markup import Attributes, Html, element, join
from geodistill.report.page import Section

_SIDE, _LEFT, _RIGHT, _BOTTOM, _TOP = 260, 46, 26, 56, 10


def confidence_section(calibration: Calibration) -> Section:
    """Return the section that shows how often pixels of each confidence are right."""
    ece = f"{100 * calibration.ece:.1f}"
    over = sum(pixels * (confidence - accuracy) for _, pixels, confidence, accuracy in calibration.bins)
    side = "more often right than it says" if over < 0 else "surer than it is right"
    sentence = (
        f"Expected calibration error {ece} percentage points: that far, on average over all pixels, is the confidence"
        f" from the share that is right. On the whole the model is {side}; points below the line are too sure."
    )
    body = element(
        "div",
        {"class": "beside"},
        element(
            "figure",
            None,
            _chart(calibration),
            element("figcaption", None, "Share that is right, by confidence; below it the share of the pixels"),
        ),
        element("div", None, element("p", None, sentence), _table(calibration), _sets(calibration)),
    )
    return Section("confidence", "Confidence", body, {"calibration": calibration.to_dict()})


def _chart(calibration: Calibration) -> Html:
    scale = _SIDE
    total = sum(pixels for _, pixels, _, _ in calibration.bins)
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y, x = _TOP + scale * (1 - tick), _LEFT + scale * tick
        parts.append(element("line", {"class": "grid", "x1": _LEFT, "x2": _LEFT + scale, "y1": y, "y2": y}))
        parts.append(text_at(_LEFT - 6, y + 3.5, tick_text(tick, percent=True), anchor="end"))
        parts.append(text_at(x, _TOP + scale + 16, tick_text(tick, percent=True)))
    parts.append(element("line", {"class": "ideal", "x1": _LEFT, "x2": _LEFT + scale, "y1": _TOP + scale, "y2": _TOP}))
    for low, pixels, _, _ in calibration.bins:
        height = 26 * pixels / total
        box: Attributes = {
            "class": "bar plain",
            "x": _LEFT + scale * low + 1,
            "width": scale / 10 - 2,
            "y": _TOP + scale + 50 - height,
            "height": height,
        }
        parts.append(element("rect", box))
    points = [(_LEFT + scale * mean, _TOP + scale * (1 - right)) for _, _, mean, right in calibration.bins]
    parts.append(element("polyline", {"class": "curve", "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points)}))
    parts += [element("circle", {"class": "dot", "cx": round(x, 1), "cy": round(y, 1), "r": 3.5}) for x, y in points]
    sentence = "Reliability: share of pixels that are right by confidence; the table beside it has the numbers."
    return drawing(_LEFT + scale + _RIGHT, _TOP + scale + _BOTTOM, sentence, *parts)


def _table(calibration: Calibration) -> Html:
    total = sum(pixels for _, pixels, _, _ in calibration.bins)
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, f"{100 * low:.0f} to {100 * low + 10:.0f} %"),
            *(element("td", {"class": "n"}, f"{100 * share:.1f} %") for share in (pixels / total, mean, right)),
        )
        for low, pixels, mean, right in calibration.bins
    ]
    titles = ("confidence", "of the pixels", "mean", "right")
    head = element("tr", None, *(element("th", {"scope": "col"}, title) for title in titles))
    return element(
        "table", None, element("caption", None, "Right, by confidence"), element("thead", None, head), join(*rows)
    )


def _sets(calibration: Calibration) -> Html | None:
    """Return a sentence on the class sets, where the model states some."""
    if not calibration.sets:
        return None
    each = [
        f"{100 * coverage:.1f} % (stated: {100 * stated:g} %) with {classes:.2f} classes a pixel"
        for stated, coverage, classes in calibration.sets
    ]
    return element("p", None, f"Class sets hold the true class of {'; '.join(each)}, on average over the images.")
