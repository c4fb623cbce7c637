"""A paper's table beside our own runs of it: as text, Markdown, CSV and JSON, with what does not add up."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geodistill.papers.sanity import complaints, heading
from geodistill.raster import atomic_path
from geodistill.writing import csv_text

State = Literal["done", "open", "left out"]
UNKNOWN = "not known"
EXACT = 1e-6
"""Rounding error of our own figures, in per cent."""


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        label: Its name in the paper.
        state: ``done``, ``open`` where it cannot be run, or ``left out`` where it was not asked for.
        published: Known published figures by column.
        seeds: Our figures by column and seed; beside the table's columns any that the checks need.
        reason: Why it is open.
        note: What to know about it.
    """

    label: str
    state: State
    published: Mapping[str, float] = field(default_factory=dict)
    seeds: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    reason: str = ""
    note: str = ""

    def values(self, column: str) -> list[float]:
        """Return our figures of a column, one per seed that has it."""
        return [figures[column] for figures in self.seeds.values() if column in figures]

    def mean(self, column: str) -> float | None:
        """Return the mean over the seeds; ``None`` where there is none."""
        values = self.values(column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Return the standard deviation over the seeds (of a sample); ``None`` of fewer than two."""
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else None

    def wrong_in_print(self) -> list[str]:
        """Return which published figures cannot be right together."""
        return complaints(self.published)

    def wrong_in_ours(self) -> list[str]:
        """Return the same of our figures; anything here is a mistake in our arithmetic."""
        return [
            f"seed {s}: {complaint}" for s, figures in self.seeds.items() for complaint in complaints(figures, EXACT)
        ]


@dataclass(frozen=True)
class PaperTable:
    """A whole table.

    Attributes:
        name: Such as ``ktda/II``.
        title: What its rows compare.
        columns: Its columns.
        rows: Its rows as printed.
        scale: ``smoke`` or ``full``.
        data: What was trained and scored on, in words.
        note: What to know before comparing figures.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    scale: Literal["smoke", "full"]
    data: str
    note: str = ""

    @property
    def warning(self) -> str:
        """What a smoke run has to say of itself; empty for a full run."""
        if self.scale == "full":
            return ""
        return "SMOKE RUN: tiny networks, few steps, made-up scenes. Ours are NOT comparable with the paper's figures."

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; figures rounded to four digits, unknown ones ``None``."""
        rows = []
        for row in self.rows:
            figures = {
                column: {
                    "ours": _rounded(row.mean(column)),
                    "spread": _rounded(row.spread(column)),
                    "seeds": {
                        str(s): _rounded(figures[column]) for s, figures in row.seeds.items() if column in figures
                    },
                    "paper": _rounded(row.published.get(column)),
                }
                for column in self.columns
            }
            rows.append(
                {
                    "row": row.label,
                    "state": row.state,
                    "reason": row.reason,
                    "figures": figures,
                    "note": row.note,
                    "paper_cannot_be_right": row.wrong_in_print(),
                    "ours_cannot_be_right": row.wrong_in_ours(),
                }
            )
        return {
            "table": self.name,
            "title": self.title,
            "scale": self.scale,
            "comparable": self.scale == "full",
            "data": self.data,
            "note": self.note,
            "rows": rows,
        }

    def to_text(self) -> str:
        """Write the table for a terminal."""
        cells = [["row", *["ours", "paper"] * len(self.columns)], *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
        above = [" " * widths[0]]
        for at, column in enumerate(self.columns):
            # A column's heading stands above ours and the paper's.
            short = len(heading(column)) - (widths[1 + 2 * at] + 2 + widths[2 + 2 * at])
            widths[1 + 2 * at] += max(short, 0)
            above.append(heading(column).rjust(widths[1 + 2 * at] + 2 + widths[2 + 2 * at]))
        table = ["  ".join(above)] + [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in cells
        ]
        top = [f"{self.name}: {self.title} ({self.scale}; {self.data})", *([self.warning] if self.warning else []), ""]
        return "\n".join([*top, *table, "", *self._remarks()])

    def to_markdown(self) -> str:
        """Write the table in Markdown, with the same cells and remarks as on a terminal."""
        cells = [[_escaped(cell) for cell in line] for line in (self._head(), *map(self._cells, self.rows))]
        cells.insert(1, ["---"] + ["---:"] * (len(cells[0]) - 1))
        lines = [f"# {self.name}: {self.title}", "", f"Scale: {self.scale}. Data: {self.data}.", ""]
        if self.warning:
            lines += [f"**{self.warning}**", ""]
        lines += [f"| {' | '.join(line)} |" for line in cells]
        return "\n".join([*lines, "", *(f"* {_escaped(remark)}" for remark in self._remarks())]) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write ``PAPER-NUMBER-SCALE`` as ``.md``, ``.csv`` (one line per row and column) and ``.json``.

        Raises:
            OutputError: A file cannot be written.
        """
        paths = [folder / name for name in result_names(self.name, self.scale)]
        with atomic_path(paths[0]) as part:
            part.write_text(self.to_markdown(), encoding="utf-8")
        with atomic_path(paths[1]) as part:
            part.write_text(csv_text(self._lines()), encoding="utf-8", newline="")
        with atomic_path(paths[2]) as part:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return paths

    def _head(self) -> list[str]:
        return ["row", *(f"{heading(column)}, {whose}" for column in self.columns for whose in ("ours", "paper"))]

    def _cells(self, row: TableRow) -> list[str]:
        cells = [row.label]
        for column in self.columns:
            mean, spread, known = row.mean(column), row.spread(column), row.published.get(column)
            ours = "-" if mean is None else f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
            cells += [row.state if row.state != "done" else ours, UNKNOWN if known is None else _figure(known)]
        return cells

    def _lines(self) -> Iterator[Sequence[Any]]:
        """Yield the CSV's lines: the figures of `to_dict`."""
        yield ("row", "column", "ours", "spread", "seeds", "paper", "state", "scale", "reason", "note")
        for row in self.to_dict()["rows"]:
            for column, figure in row["figures"].items():
                seeds = " ".join(f"{seed}={value}" for seed, value in figure["seeds"].items())
                cells = (figure["ours"], figure["spread"], seeds, figure["paper"])
                yield (row["row"], column, *cells, row["state"], self.scale, row["reason"], row["note"])

    def _remarks(self) -> list[str]:
        """Return what stands below the table: open rows, notes, what cannot be right."""
        remarks = [f"open: {row.label}: {row.reason}" for row in self.rows if row.state == "open"]
        remarks += [f"{row.label}: {row.note}" for row in self.rows if row.note]
        remarks += [
            f"the paper's figures cannot be right: {row.label}: {complaint}"
            for row in self.rows
            for complaint in row.wrong_in_print()
        ]
        wrong = [f"{row.label}: {complaint}" for row in self.rows for complaint in row.wrong_in_ours()]
        remarks += [f"OUR figures cannot be right: {complaint}" for complaint in wrong]
        if not wrong and any("miou" in figures for row in self.rows for figures in row.seeds.values()):
            remarks.append(
                "our figures pass the checks: F1 = 2 IoU / (1 + IoU), background IoU <= OA, mF1 within bounds"
            )
        return remarks + ([self.note] if self.note else [])


def result_names(table: str, scale: str) -> list[str]:
    """Return the names of the files that a table is written to."""
    return [f"{table.replace('/', '-')}-{scale}{end}" for end in (".md", ".csv", ".json")]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")
