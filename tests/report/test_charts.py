"""Charts: every value stands where the axis says, and is in the sentence for those who do not see it."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodistill.report.charts import Axis, interval_bar, line_chart, thinned, tick_text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_evenly_spaced_and_hold_all_values(low: float, width: float) -> None:
    axis = Axis(low, low + width, 0, 100)
    assert 2 <= len(axis.ticks) <= 7
    assert axis.ticks[0] <= low + 1e-6 * abs(low) + 1e-9
    assert axis.ticks[-1] >= low + width - 1e-6 * abs(low + width) - 1e-9
    assert axis.place(axis.ticks[0]) == 0
    assert axis.place(axis.ticks[-1]) == 100


def test_equal_values_have_an_axis() -> None:
    axis = Axis(0.5, 0.5, 0, 10)
    assert axis.ticks[0] <= 0.5 <= axis.ticks[-1]
    assert Axis(0, 0, 0, 10).ticks


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.25, True, "25 %"),
        (12500, False, "12.5k"),
        (-9_500_000, False, "-9500k"),
        (1e8, False, "1e+08"),
        (0.1 + 0.2, False, "0.3"),
    ],
)
def test_ticks_are_short(value: float, percent: bool, text: str) -> None:
    assert tick_text(value, percent) == text


def test_points_stand_where_the_axes_say() -> None:
    chart = line_chart([0, 50, 100], [0.0, 0.5, 1.0], "rises & falls")
    (points,) = re.findall(r'points="([^"]+)"', chart)
    places = [tuple(map(float, pair.split(","))) for pair in points.split()]
    assert places == [(46, 164), (187, 87), (328, 10)]
    assert 'aria-label="rises &amp; falls"' in chart


def test_values_that_are_not_finite_leave_a_gap() -> None:
    steps = list(range(41))
    values = [math.nan if step in (10, 20, 22, 23) else float(step) for step in steps]
    chart = line_chart(steps, values, "")
    lines = [points.count(" ") + 1 for points in re.findall(r'class="curve" points="([^"]+)"', chart)]
    assert lines == [10, 9, 1, 17]
    assert chart.count("<circle") == 1, "a value alone is a dot"
    assert line_chart([0, 1, 2], [0.0, math.nan, 1.0], "").count("<circle") == 2
    assert "No finite value" in line_chart([1], [math.inf], "")


def test_long_curves_are_thinned_to_means() -> None:
    assert thinned([1, 2, 3], [4.0, 5.0, 6.0]) == ([1, 2, 3], [4.0, 5.0, 6.0])
    steps, values = thinned(list(range(1, 1001)), [float(step) for step in range(1, 1001)])
    assert len(steps) == 334
    assert (steps[0], values[0]) == (3, 2.0)
    assert (steps[-1], values[-1]) == (1000, 1000.0)


def test_bars_and_intervals_are_to_scale() -> None:
    bar = interval_bar(0.5, (0.25, 0.75), "k0")
    assert 'width="80" height="10"' in bar
    assert 'x1="40" x2="120"' in bar
