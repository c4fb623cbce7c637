"""Charts as SVG: drawn here, coloured by the page's style, with a sentence each for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from geodistill.report.markup import Attributes, Html, element

WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 26
_MOST_POINTS = 400


class Axis:
    """A scale from values to a stretch of the drawing, between round numbers.

    Args:
        low: Smallest value.
        high: Largest value.
        start: Where the axis begins in the drawing.
        end: Where it ends.

    Attributes:
        ticks: Round values along it.
    """

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        step = round_step(max(high - low, abs(high) * 1e-6, 1e-12) / 4)
        self._first = math.floor(low / step + 1e-9) * step
        self._last = max(math.ceil(high / step - 1e-9) * step, self._first + step)
        self._start, self._end = start, end
        self.ticks = [self._first + k * step for k in range(round((self._last - self._first) / step) + 1)]

    def place(self, value: float) -> float:
        """Return where a value stands."""
        share = (value - self._first) / (self._last - self._first)
        return round(self._start + share * (self._end - self._start), 2)


def round_step(step: float) -> float:
    """Return the next of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999999)


def tick_text(value: float, percent: bool = False) -> str:
    """Return a tick's number: at most four digits, thousands as ``k``, millions by their power of ten."""
    if percent:
        return f"{100 * value:.4g} %"
    return f"{value / 1000:.4g}k" if 10_000 <= abs(value) < 9_999_000 else f"{value + 0.0:.4g}"


def line_chart(
    steps: Sequence[float], values: Sequence[float], sentence: str, *, percent: bool = False, mark: float | None = None
) -> Html:
    """Draw values over steps.

    Args:
        steps: Of the training, ascending.
        values: As many numbers; those that are not finite leave a gap.
        sentence: What the chart shows, for those who do not see it.
        percent: Write shares as percent, from 0.
        mark: A step to mark by a line.
    """
    parted = groupby(zip(steps, values, strict=True), key=lambda pair: math.isfinite(pair[1]))
    pieces = [list(piece) for finite, piece in parted if finite]
    known = [pair for piece in pieces for pair in piece]
    if not known:
        return element("p", {"class": "quiet"}, "No finite value was logged.")
    low, high = min(y for _, y in known), max(y for _, y in known)
    across = Axis(min(0, steps[0]), steps[-1], _LEFT, WIDTH - _RIGHT)
    up = Axis(0.0 if percent else low, high, HEIGHT - _BOTTOM, _TOP)
    parts = [*_horizontal(up, percent), *_vertical(across)]
    if mark is not None:
        x = across.place(mark)
        parts.append(element("line", {"class": "mark", "x1": x, "x2": x, "y1": _TOP, "y2": HEIGHT - _BOTTOM}))
    for piece in pieces:
        points = " ".join(f"{across.place(x)},{up.place(y)}" for x, y in piece)
        parts.append(element("polyline", {"class": "curve", "points": points}))
        if len(known) <= 12 or len(piece) == 1:
            dots: list[Attributes] = [
                {"class": "dot", "cx": across.place(x), "cy": up.place(y), "r": 2.5} for x, y in piece
            ]
            parts += [element("circle", dot) for dot in dots]
    return drawing(WIDTH, HEIGHT, sentence, *parts)


def thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return at most 400 points of a curve: the means of equal parts, at their last steps."""
    size = -(-len(steps) // _MOST_POINTS)
    starts = range(0, len(steps), max(size, 1))
    parts = [values[start : start + size] for start in starts]
    return [steps[min(start + size, len(steps)) - 1] for start in starts], [sum(part) / len(part) for part in parts]


def interval_bar(value: float, interval: Sequence[float] | None, kind: str) -> Html:
    """Draw a share of 0..1 as a bar with its interval as a line; hidden from readers of the number beside it."""
    width, height = 160, 14
    parts = [
        element("rect", {"class": "track", "x": 0, "y": 2, "width": width, "height": height - 4, "rx": 2}),
        element(
            "rect", {"class": f"bar {kind}", "x": 0, "y": 2, "width": width * value, "height": height - 4, "rx": 2}
        ),
    ]
    if interval is not None:
        x1, x2 = (round(width * end, 1) for end in interval)
        parts += [
            element("line", {"class": "whisker", "x1": x1, "x2": x2, "y1": height / 2, "y2": height / 2}),
            *(element("line", {"class": "whisker", "x1": x, "x2": x, "y1": 4, "y2": height - 4}) for x in (x1, x2)),
        ]
    return element(
        "svg", {"class": "rail", "viewBox": f"0 0 {width} {height}", "aria-hidden": "true", "focusable": "false"}, parts
    )


def drawing(width: float, height: float, sentence: str, *parts: Html) -> Html:
    """Return a drawing that readers of the screen meet as one picture with a sentence."""
    box = {"class": "chart", "viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": sentence}
    return element("svg", box, *parts)


def text_at(x: float, y: float, text: str, anchor: str = "middle") -> Html:
    """Return a line of text in a drawing."""
    return element("text", {"class": "tick", "x": x, "y": y, "text-anchor": anchor}, text)


def _horizontal(axis: Axis, percent: bool) -> list[Html]:
    parts = []
    for tick in axis.ticks:
        y = axis.place(tick)
        parts.append(element("line", {"class": "grid", "x1": _LEFT, "x2": WIDTH - _RIGHT, "y1": y, "y2": y}))
        parts.append(text_at(_LEFT - 6, y + 3.5, tick_text(tick, percent), anchor="end"))
    return parts


def _vertical(axis: Axis) -> list[Html]:
    *most, last = axis.ticks
    ends = [text_at(axis.place(tick), HEIGHT - 8, tick_text(tick)) for tick in most]
    return [*ends, text_at(axis.place(last), HEIGHT - 8, tick_text(last), anchor="end")]
