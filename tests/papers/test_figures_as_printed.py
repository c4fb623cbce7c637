"""Every printed figure: compared with the transcription of the papers where that is at hand, counted everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodistill.papers.registry import PAPERS, all_tables, find_table
from geodistill.papers.reproduce.result_table import printed_complaints
from geodistill.papers.table import numbers

PRINTED = [paper for paper in PAPERS if paper != "ours"]

COUNTS = {
    "ktda": {"I": 5, "II": 12, "III": 15, "IV": 15, "V": 24, "VI": 24},
    "kda": {"I": 6, "II": 35, "III": 48, "IV": 30},
    "maflnet": {"1": 208, "2": 208, "3": 12},
    "metasegnet": {"I": 100, "II": 89, "III": 88, "IV": 3, "V": 12, "VI": 4},
    "samrs": {"1": 30, "2": 68, "3": 223, "4": 272, "5": 18, "6": 18},
}
"""Figures that each table prints, counted in the papers."""


@pytest.fixture(scope="module", params=PRINTED)
def transcribed(request: pytest.FixtureRequest) -> tuple[str, list[dict[str, Any]]]:
    """A paper and its tables, transcribed by hand."""
    folder = Path(os.environ.get("GEODISTILL_SHARED", "")) / "papers" / "tables"
    if "GEODISTILL_SHARED" not in os.environ or not folder.is_dir():
        pytest.skip("GEODISTILL_SHARED names no folder with papers/tables, the papers' tables as transcribed")
    content = yaml.safe_load((folder / f"{request.param}.yaml").read_text(encoding="utf-8"))
    return request.param, content["tables"]


def flat(cell: object) -> Iterator[float]:
    """Yield the numerals of a transcribed cell."""
    if isinstance(cell, dict | list):
        for part in cell.values() if isinstance(cell, dict) else cell:
            yield from flat(part)
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        yield cell


def test_the_figures_are_all_there() -> None:
    assert sum(sum(tables.values()) for tables in COUNTS.values()) == 1567
    assert {paper: sum(tables.values()) for paper, tables in COUNTS.items()} == {
        "samrs": 629, "ktda": 95, "kda": 119, "maflnet": 428, "metasegnet": 296,
    }  # fmt: skip
    counted: dict[str, dict[str, int]] = {}
    for table in all_tables().values():
        figures = [figure for row in table.rows.values() for figure in row.figures.values()]
        counted.setdefault(table.paper, {})[table.number] = sum(len(list(numbers(one))) for one in figures)
    assert counted.pop("ours") == {"kda-phase-1": 0, "metasegnet-parts": 0, "metasegnet-zone": 0, "samrs-upernet": 0}
    assert counted == COUNTS


def test_every_figure_is_as_transcribed(transcribed: tuple[str, list[dict[str, Any]]]) -> None:
    paper, tables = transcribed
    assert [f"{paper}/{table['id']}" for table in tables] == [
        name for name in all_tables() if name.startswith(f"{paper}/")
    ]
    for table in tables:
        ours = find_table(f"{paper}/{table['id']}")
        assert sum(len(list(flat(row["values"]))) for row in table["rows"]) == COUNTS[paper][str(table["id"])]
        labels = [re.sub(r"\s*\[[^\]]*\]|\s‡+", "", str(row["row"])).replace("\u00d7", "x") for row in table["rows"]]
        assert list(ours.rows) == labels
        for label, row in zip(labels, table["rows"], strict=True):
            printed = {heading: cell for heading, cell in row["values"].items() if cell is not None}
            found = ours.rows[label].figures
            assert set(found) == set(printed), f"{ours.name} {label}"
            for heading, cell in printed.items():
                same = list(numbers(found[heading])) == list(flat(cell)) if list(flat(cell)) else found[heading] == cell
                assert same, f"{ours.name} {label} {heading}"


def test_class_figures_that_misfit_are_marked(transcribed: tuple[str, list[dict[str, Any]]]) -> None:
    """The transcription lists every class whose F1 is not that of its IoU, and every mean that is not its classes'."""
    paper, tables = transcribed
    for table in tables:
        ours = find_table(f"{paper}/{table['id']}")
        misfits = [*table.get("f1_iou_misfits", []), *table.get("mean_misfits", [])]
        if misfits:
            named = {re.sub(r"\[[^\]]*\]", "", one["row"]) for one in misfits}
            marked = {label for label, row in ours.rows.items() if printed_complaints(ours, row.figures)}
            assert marked == named
        for one in table.get("f1_iou_misfits", []):
            row = ours.rows[re.sub(r"\[[^\]]*\]", "", one["row"])]
            wrong = {heading for complaint in printed_complaints(ours, row.figures) for heading in complaint.metrics}
            assert {f"{one['class']} F1", f"{one['class']} IoU"} <= wrong


@pytest.mark.parametrize(
    ("table", "label", "text"),
    [
        ("kda/II", "KDA(Ours)", "background IoU of 102.30"),
        ("kda/IV", "UNet-Head", "above OA 72.34"),
        ("ktda/VI", "HRCloudNet", "mF1 71.36 is above 60.64"),
        ("maflnet/1", "MAFLNet-T", "IoU impervious surface 93.30 is an F1 of 96.53, not of 94.47"),
        ("maflnet/2", "RS3Mamba", "F1 of 95.89, not of 96.93"),
        ("metasegnet/I", "MANet", "not the mean of its classes, 62.16"),
        ("metasegnet/I", "SegFormer", "not the mean of its classes, 67.56"),
        ("metasegnet/II", "FTransUNet", "not the mean of its classes, 92.74"),
        ("metasegnet/II", "EaNet", "class F1 that make 83.09"),
        ("metasegnet/III", "RS³Mamba", "not the mean of its classes, 46.86"),
        ("samrs/3", "ST-UNet, \u2013, ResNet-50", "not the mean of its classes, 75.97"),
        ("samrs/4", "FactSeg, IMP, ResNet-50", "not the mean of its classes, 62.50"),
    ],
)
def test_known_misprints_are_marked_with_their_arithmetic(table: str, label: str, text: str) -> None:
    found = find_table(table)
    assert any(text in str(complaint) for complaint in printed_complaints(found, found.rows[label].figures))


@pytest.mark.parametrize(
    ("table", "right"),
    [
        ("ktda/V", 8), ("ktda/VI", 4), ("maflnet/1", 6), ("maflnet/2", 13), ("maflnet/3", 4), ("metasegnet/I", 8),
        ("metasegnet/III", 10), ("samrs/3", 31), ("samrs/4", 15),
    ],
)  # fmt: skip
def test_rows_that_keep_the_arithmetic_are_not_marked(table: str, right: int) -> None:
    found = find_table(table)
    assert sum(not printed_complaints(found, row.figures) for row in found.rows.values()) == right
