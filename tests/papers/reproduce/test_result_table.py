"""A paper's table as text, Markdown, CSV and JSON: the same figures in each."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from geodistill.errors import OutputError
from geodistill.papers.reproduce.result_table import UNKNOWN, PaperTable, TableRow

ROWS = (
    TableRow(
        "both",
        "done",
        {"miou": 50.81, "oa": 74.1},
        {0: {"miou": 40.0, "oa": 60.0, "mf1": 50.0}, 1: {"miou": 44.0, "oa": 61.0}, 2: {"miou": 42.123456, "oa": 62.0}},
        note="a | note",
    ),
    TableRow("once", "done", {}, {0: {"miou": 12.5}}),
    TableRow("KDA", "left out", {"miou": 86.53, "iou": 70.76}),
    TableRow("MFFENet", "open", {"miou": 70.0}, reason="in no library"),
)
TABLE = PaperTable("x/II", "terms", ("miou", "oa"), ROWS, "smoke", "made-up scenes", "a word of warning")


def test_mean_and_spread_are_over_the_seeds() -> None:
    assert ROWS[0].mean("oa") == pytest.approx(61.0)
    assert ROWS[0].spread("oa") == pytest.approx(1.0)
    assert (ROWS[1].mean("miou"), ROWS[1].spread("miou")) == (12.5, None)
    assert (ROWS[1].mean("oa"), ROWS[1].spread("oa")) == (None, None)


def test_markdown_csv_and_json_hold_the_same_figures(tmp_path: Path) -> None:
    markdown, table, plain = TABLE.write(tmp_path)
    assert [path.name for path in (markdown, table, plain)] == ["x-II-smoke.md", "x-II-smoke.csv", "x-II-smoke.json"]
    told = json.loads(plain.read_text())
    lines = list(csv.DictReader(table.open()))
    body = [line for line in markdown.read_text().splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(ROWS) * 2
    for row, line in zip(told["rows"], body, strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert cells[0] == row["row"]
        for at, (column, figure) in enumerate(row["figures"].items()):
            (written,) = [one for one in lines if (one["row"], one["column"]) == (row["row"], column)]
            for key in ("ours", "spread", "paper"):
                assert written[key] == ("" if figure[key] is None else str(figure[key]))
            assert (written["state"], written["scale"]) == (row["state"], "smoke")
            ours, paper = cells[1 + 2 * at], cells[2 + 2 * at]
            assert paper == (UNKNOWN if figure["paper"] is None else f"{figure['paper']:.2f}")
            if row["state"] != "done":
                assert ours == row["state"]
            elif figure["ours"] is None:
                assert ours == "-"
            else:
                spread = "" if figure["spread"] is None else f" ± {figure['spread']:.2f}"
                assert ours == f"{figure['ours']:.2f}{spread}"


def test_json_says_what_is_comparable_and_gives_every_seed() -> None:
    told = TABLE.to_dict()
    assert told["comparable"] is False
    assert told["rows"][0]["figures"]["miou"]["seeds"] == {"0": 40.0, "1": 44.0, "2": 42.1235}
    assert told["rows"][1]["figures"]["oa"] == {"ours": None, "spread": None, "seeds": {}, "paper": None}
    assert told["rows"][2]["paper_cannot_be_right"]


def test_text_marks_a_smoke_run_and_lists_what_is_open_or_wrong() -> None:
    text = TABLE.to_text()
    assert "SMOKE RUN" in text.splitlines()[1]
    assert "42.04 ± 2.00" in text
    names, whose = text.splitlines()[3:5]
    assert names.split() == ["mIoU", "OA"]
    assert whose.split() == ["row", "ours", "paper", "ours", "paper"]
    assert names.index("mIoU") + 4 == whose.index("paper") + 5
    assert "open: MFFENet: in no library" in text
    assert "the paper's figures cannot be right: KDA: mIoU 86.53 and IoU 70.76 make a background IoU of 102.30" in text
    assert "our figures pass the checks" in text
    assert text.endswith("a word of warning")
    assert r"both: a \| note" in TABLE.to_markdown()


def test_a_full_run_carries_no_warning() -> None:
    table = PaperTable("x/II", "terms", ("miou",), ROWS[:1], "full", "the set")
    assert "SMOKE" not in table.to_text() + table.to_markdown()
    assert table.to_dict()["comparable"] is True


def test_our_own_mistakes_would_be_told() -> None:
    wrong = TableRow("ours", "done", {}, {3: {"miou": 50.0, "mf1": 90.0}})
    text = PaperTable("x/II", "terms", ("miou",), (wrong,), "full", "the set").to_text()
    assert "OUR figures cannot be right: ours: seed 3: mF1 90.00 is above 66.67" in text
    assert "pass the checks" not in text


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        TABLE.write(tmp_path / "file")
