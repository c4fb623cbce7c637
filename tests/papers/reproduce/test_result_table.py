"""A paper's table as text, Markdown, CSV and JSON: the same figures in each."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from geodistill.errors import OutputError
from geodistill.papers.reproduce.result_table import NONE, PaperTable, TableRow
from geodistill.papers.sanity import Complaint
from geodistill.papers.table import Column, Table

PRINTED = Table("x", "II", "terms", "grass", (Column("mIoU(%)", "miou"), Column("OA", "oa")), {}, note="a warning")
WRONG = Complaint(("mIoU(%)",), "an arithmetic")
ROWS = (
    TableRow(
        "both",
        "done",
        {"mIoU(%)": 50.81, "OA": 74.1},
        {0: {"mIoU(%)": 40.0, "OA": 60.0}, 1: {"mIoU(%)": 44.0, "OA": 61.0}, 2: {"mIoU(%)": 42.123456, "OA": 62.0}},
        note="a | note",
    ),
    TableRow("once", "done", {}, {0: {"mIoU(%)": 12.5}}),
    TableRow("KDA", "left out", {"mIoU(%)": 86.53}, wrong_in_print=(WRONG,)),
    TableRow("MFFENet", "open", {"mIoU(%)": 70.0}, reason="in no library"),
    TableRow("SegNeXt", "open", {"OA": 71.0}, reason="in no library"),
    TableRow("U-Net", "failed", reason="no memory"),
)
TABLE = PaperTable(replace(PRINTED, doubts=("rows disagree",)), ROWS, "smoke", "made-up scenes")


def test_mean_spread_and_interval_are_over_the_seeds() -> None:
    assert ROWS[0].mean("OA") == pytest.approx(61.0)
    assert ROWS[0].spread("OA") == pytest.approx(1.0)
    assert ROWS[0].interval("OA") == pytest.approx(4.3027 / 3**0.5, abs=1e-3)  # t of two degrees of freedom
    assert (ROWS[1].mean("mIoU(%)"), ROWS[1].spread("mIoU(%)"), ROWS[1].interval("mIoU(%)")) == (12.5, None, None)
    assert (ROWS[1].mean("OA"), ROWS[1].spread("OA")) == (None, None)


def test_markdown_csv_and_json_hold_the_same_figures(tmp_path: Path) -> None:
    markdown, table, plain = TABLE.write(tmp_path)
    assert [path.name for path in (markdown, table, plain)] == ["x-II-smoke.md", "x-II-smoke.csv", "x-II-smoke.json"]
    content = json.loads(plain.read_text())
    lines = list(csv.DictReader(table.open()))
    body = [line for line in markdown.read_text().splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(ROWS) * 2
    for row, line in zip(content["rows"], body, strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert cells[0] == row["row"]
        for at, (column, figure) in enumerate(row["figures"].items()):
            (written,) = [one for one in lines if (one["row"], one["column"]) == (row["row"], column)]
            for key in ("ours", "spread", "interval", "paper"):
                assert written[key] == ("" if figure[key] is None else str(figure[key]))
            assert (written["state"], written["scale"]) == (row["state"], "smoke")
            ours, paper = cells[1 + 2 * at], cells[2 + 2 * at]
            mark = "*" if figure["marked"] else ""
            assert paper == (NONE if figure["paper"] is None else f"{figure['paper']:.2f}{mark}")
            if row["state"] != "done":
                assert ours == row["state"]
            elif figure["ours"] is None:
                assert ours == "-"
            else:
                half = "" if figure["interval"] is None else f" ± {figure['interval']:.2f}"
                assert ours == f"{figure['ours']:.2f}{half}"


def test_json_says_what_is_comparable_and_gives_every_seed() -> None:
    content = TABLE.to_dict()
    assert content["comparable"] is False
    assert content["doubts"] == ["rows disagree"]
    assert content["rows"][0]["figures"]["mIoU(%)"]["seeds"] == {"0": 40.0, "1": 44.0, "2": 42.1235}
    assert content["rows"][1]["figures"]["OA"] == {
        "ours": None, "spread": None, "interval": None, "seeds": {}, "paper": None, "marked": False,
    }  # fmt: skip
    assert content["rows"][2]["paper_cannot_be_right"] == ["an arithmetic"]


def test_text_marks_a_smoke_run_and_lists_what_is_open_or_has_failed() -> None:
    text = TABLE.to_text()
    assert "SMOKE RUN" in text.splitlines()[1]
    assert "42.04 ± 4.97" in text
    names, whose = text.splitlines()[3:5]
    assert names.split() == ["mIoU(%)", "OA"]
    assert whose.split() == ["row", "ours", "paper", "ours", "paper"]
    assert names.index("mIoU(%)") + 7 == whose.index("paper") + 5
    assert "open: MFFENet; SegNeXt: in no library" in text
    assert "failed: U-Net: no memory" in text
    assert text.endswith("a warning")
    assert r"both: a \| note" in TABLE.to_markdown()


def test_the_arithmetic_is_printed_on_request() -> None:
    assert "86.53*" in TABLE.to_text()
    assert "--arithmetic" in TABLE.to_text()
    assert "an arithmetic" not in TABLE.to_text()
    asked = TABLE.to_text(arithmetic=True)
    assert "* KDA: an arithmetic" in asked
    assert "doubt: rows disagree" in asked


def test_a_full_run_carries_no_warning() -> None:
    table = PaperTable(PRINTED, ROWS[:1], "full", "the set", "released")
    assert "SMOKE" not in table.to_text() + table.to_markdown()
    assert "as released" in table.to_text()
    assert table.to_dict()["comparable"] is True


def test_our_own_mistakes_would_be_named() -> None:
    wrong = TableRow("ours", "done", {}, {3: {"mIoU(%)": 50.0}}, wrong_in_ours=("seed 3: mF1 90.00 is above 66.67",))
    text = PaperTable(PRINTED, (wrong,), "full", "the set").to_text()
    assert "OUR figures cannot be right: ours: seed 3: mF1 90.00 is above 66.67" in text


def test_cells_that_are_no_share_are_printed_as_they_are() -> None:
    row = TableRow("UAVid", "open", {"mIoU(%)": [[4096, 2160], [3840, 2160]], "OA": True}, reason="a set")
    assert "4096 x 2160 or 3840 x 2160" in PaperTable(PRINTED, (row,), "full", "").to_text().replace(",", "")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        TABLE.write(tmp_path / "file")
