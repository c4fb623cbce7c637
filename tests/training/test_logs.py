"""Rows of the CSV log are there after a kill, whenever a column comes in."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from geodistill.training.trainer import run_loggers


class Killed(BaseException):
    pass


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "from_000000" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_kill_while_a_column_is_added_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = run_loggers(tmp_path, 0)
    for step in range(3):
        rows.log_metrics({"loss": float(step)}, step)

    def killed(self: Path, target: Path) -> None:
        raise Killed

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        rows.log_metrics({"miou": 0.5}, 3)
    assert [row["loss"] for row in rows_of(tmp_path)] == ["0.0", "1.0", "2.0"]


def test_a_column_more(tmp_path: Path) -> None:
    rows, _ = run_loggers(tmp_path, 0)
    rows.log_metrics({"loss": 1.0}, 0)
    rows.log_metrics({"miou": 0.5}, 1)
    assert rows_of(tmp_path) == [
        {"loss": "1.0", "miou": "", "step": "0"},
        {"loss": "", "miou": "0.5", "step": "1"},
    ]
