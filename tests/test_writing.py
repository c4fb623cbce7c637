from __future__ import annotations

import csv
import io

import pytest

from geodistill.writing import csv_text, plain_cell, share_decimals


@pytest.mark.parametrize(
    "text",
    [
        *("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"),
        *(" =1+1", "\uff1d1+1", "\xa0@SUM(A1)"),
    ],
)
def test_no_text_is_a_formula(text: str) -> None:
    assert plain_cell(text).startswith("'")
    assert csv_text([[text]]).lstrip('"')[0] == "'"


@pytest.mark.parametrize("value", [3, -2.5, "-2.5", "+1e3", None, "ship", "a=b", "Zürich", ""])
def test_numbers_and_plain_text_stay(value: object) -> None:
    assert plain_cell(value) == value


@pytest.mark.parametrize("text", ["ship;=1+1", "ship\t=1+1", 'a";=1+1', "a,\n=1+1"])
def test_no_separator_of_another_country_makes_a_cell_of_its_own(text: str) -> None:
    written = csv_text([[text, 1]])
    for separator in ",;\t":
        first = next(csv.reader(io.StringIO(written), delimiter=separator))[0]
        assert first.startswith(text)


def test_cells_come_back_as_rows_without_control_characters() -> None:
    text = csv_text([("class", "pixels"), ('a,"b"', 1), ("\x1b[2J", 2)])
    assert list(csv.reader(io.StringIO(text))) == [["class", "pixels"], ['a,"b"', "1"], ["\\x1b[2J", "2"]]
    assert text.endswith("\n")
    assert "\r" not in text


@pytest.mark.parametrize(
    ("whole", "decimals"), [(0, 0), (5e-4, 8), (0.07, 6), (5, 4), (1500, 2), (12_000, 2), (1e5, 2), (100_001, 0)]
)
def test_decimals_show_the_shares_of_a_whole(whole: float, decimals: int) -> None:
    assert share_decimals(whole) == decimals
