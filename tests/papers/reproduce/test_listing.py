"""``reproduce --list``: what each table needs, what is open, and every printed figure."""

from __future__ import annotations

import json

import pytest

from geodistill.cli import main
from geodistill.papers.reproduce import list_tables


def test_the_list_says_what_each_table_needs_and_what_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    for told in (
        "ktda/II: loss terms, on grass",
        "4 of 4 rows can be run, networks at 512 px; data: grass (HF XavierJiezou/ktda-datasets)",
        "kda-landslide-distil, then kda-landslide",
        "open: a network that no kept library has",
        "columns: mIoU, OA, F1",
    ):
        assert told in text
    for name in ("samrs/1", "samrs/6", "kda/III", "maflnet/2", "metasegnet/II"):
        assert f"\n{name}: " in f"\n{text}"


def test_the_list_as_json_and_of_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kda/2", "--list", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert (table["name"], table["runnable"], len(table["rows"])) == ("kda/II", 5, 7)
    published = {row["row"]: row["published"] for row in table["rows"]}
    assert published["MFFENet"] == {"IoU": 67.99, "mIoU": 82.32, "OA": 96.86, "F1": 81.15, "Precision": 74.14}
    assert "102.30" in table["rows"][-1]["marked"]["IoU"][0]
    assert table["data"] == ["cas-landslide"]
    (sep,) = list_tables(["samrs/4"])
    assert sep.data == ("isaid", "sota", "sior", "fast")


def test_the_list_has_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list", "--json"]) == 0
    rows = [row for table in json.loads(capsys.readouterr().out) for row in table["rows"]]

    def count(cell: object) -> int:
        return sum(map(count, cell)) if isinstance(cell, list) else int(type(cell) in (int, float))

    assert sum(count(figure) for row in rows for figure in row["published"].values()) == 1567
