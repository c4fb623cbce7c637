"""Colours: the safe ones are far apart for every kind of colour vision, and legends that are not are recognised."""

import pytest

from geodistill.report.palette import are_distinct, least_distance, safe_colours
from geodistill.spec import hexadecimal


@pytest.mark.parametrize("count", range(1, 11))
def test_safe_colours_are_as_many_as_asked_and_apart(count: int) -> None:
    colours = safe_colours(count)
    assert colours is not None
    assert len(set(colours)) == count
    assert are_distinct(colours)


def test_for_many_classes_there_are_none() -> None:
    assert safe_colours(11) is None


def test_red_and_green_of_one_lightness_are_no_colours_for_everyone() -> None:
    assert not are_distinct([(200, 80, 60), (125, 125, 60)])
    assert are_distinct([(0, 0, 0), (255, 255, 255)])


def test_distances_in_lab() -> None:
    assert least_distance([(0, 0, 0), (255, 255, 255)]) == pytest.approx(100, abs=0.1)
    assert least_distance([(9, 9, 9), (9, 9, 9)]) == 0
    assert least_distance([(1, 2, 3)]) == float("inf")


def test_written_for_the_page() -> None:
    assert hexadecimal((0, 10, 255)) == "#000aff"
