"""Every drawing is whole XML whose parts lie inside its frame, whatever the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodistill.report.charts import interval_bar, line_chart
from geodistill.report.evaluated import Calibration
from geodistill.report.reliability_chart import confidence_section

LOSSES = st.floats(-(2.0**127), 2.0**127, width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e-45])
ACROSS = {"x", "x1", "x2", "cx"}
DOWN = {"y", "y1", "y2", "cy"}


def places(drawing: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Yield the coordinates of each part, with 0 for one that it does not have, and each far corner of a box."""
    for part in drawing.iter():
        if "points" in part.attrib:
            for pair in part.attrib["points"].split():
                x, y = map(float, pair.split(","))
                yield x, y
        for name, value in part.attrib.items():
            if name in ACROSS:
                yield float(value), 0.0
            elif name in DOWN:
                yield 0.0, float(value)
        if part.tag == "rect":
            x, y, width, height = (float(part.attrib[name]) for name in ("x", "y", "width", "height"))
            assert width >= 0
            assert height >= 0
            yield x + width, y + height


def drawn(markup: str) -> ElementTree.Element:
    """Parse a drawing and require that all of it lies inside its frame."""
    drawing = ElementTree.fromstring(markup)
    left, top, width, height = map(float, drawing.attrib["viewBox"].split())
    for x, y in places(drawing):
        assert left - 0.5 <= x <= left + width + 0.5
        assert top - 0.5 <= y <= top + height + 0.5
    return drawing


def texts(drawing: ElementTree.Element) -> list[str]:
    return [part.text or "" for part in drawing.iter("text")]


@given(st.lists(LOSSES, min_size=1, max_size=30), st.integers(0, 10**7), st.integers(1, 10**5), st.booleans())
def test_a_curve_of_any_numbers(values: list[float], start: int, step: int, marked: bool) -> None:
    steps = [start + step * k for k in range(len(values))]
    mark = steps[len(steps) // 2] if marked else None
    chart = line_chart(steps, values, "what it shows", mark=mark)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert "No finite value" in chart
        return
    drawing = drawn(chart)
    lengths = [len(curve.attrib["points"].split()) for curve in drawing.iter("polyline")]
    parted = groupby(values, key=math.isfinite)
    assert lengths == [len(list(piece)) for is_finite, piece in parted if is_finite]
    assert len(list(drawing.iter("circle"))) == (len(finite) if len(finite) <= 12 else lengths.count(1))
    assert all(0 < len(text) <= 10 for text in texts(drawing))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_curve_of_shares_begins_at_nothing(values: list[float]) -> None:
    drawing = drawn(line_chart(list(range(len(values))), values, "mIoU", percent=True))
    percents = [text for text in texts(drawing) if text.endswith(" %")]
    assert percents[0] == "0 %"
    heights = [float(pair.split(",")[1]) for pair in next(drawing.iter("polyline")).attrib["points"].split()]
    order = sorted(range(len(values)), key=lambda k: values[k])
    assert [heights[k] for k in order] == sorted(heights, reverse=True), "the larger the higher"


@pytest.mark.parametrize("sentence", ['a < b & "c"', "</svg><script>alert(1)</script>", "'", "Straße 🛰"])
def test_a_sentence_is_an_attribute_and_nothing_more(sentence: str) -> None:
    drawing = drawn(line_chart([0, 1], [0.0, 1.0], sentence))
    assert drawing.attrib["aria-label"] == sentence
    assert not list(drawing.iter("script"))


@given(st.floats(0, 1), st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_bar_of_any_share(value: float, interval: list[float] | None) -> None:
    drawing = drawn(interval_bar(value, interval, "k1"))
    track, bar = drawing.iter("rect")
    assert float(bar.attrib["width"]) == pytest.approx(value * float(track.attrib["width"]))
    assert len(list(drawing.iter("line"))) == (0 if interval is None else 3)
    assert drawing.attrib["aria-hidden"] == "true", "the number stands beside it"


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10))
def test_a_reliability_chart_of_any_bins(found: list[tuple[int, float, float]]) -> None:
    bins = tuple((k / 10, pixels, (k + share) / 10, right) for k, (pixels, share, right) in enumerate(found))
    section = confidence_section(Calibration(0.1, 0.2, bins))
    body = ElementTree.fromstring(section.body)
    (frame,) = (part for part in body.iter("svg"))
    drawing = drawn(ElementTree.tostring(frame, encoding="unicode"))
    assert len(list(drawing.iter("rect"))) == len(list(drawing.iter("circle"))) == len(bins)
    (table,) = body.iter("table")
    assert len(list(table.iter("tr"))) == len(bins) + 1
    error = sum(pixels * (mean - right) for _, pixels, mean, right in bins)
    said = "".join(body.itertext())
    assert ("more often right than it says" in said) == (error < 0)
    assert section.figures["calibration"]["bins"] == [list(one) for one in bins]
