"""A paper's table beside our own runs of it: as text, Markdown, CSV and JSON, with what does not add up."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scipy.stats import t as student_t

from geodistill.files import write_text
from geodistill.papers.reproduce.row_costs import RowCost
from geodistill.papers.sanity import Complaint, complaints
from geodistill.papers.table import Column, Figure, Table
from geodistill.writing import csv_text

State = Literal["done", "open", "failed", "waiting", "left out"]
NONE = "-"
"""A cell that the paper leaves empty, or that we have no figure for."""
EXACT = 1e-6
"""Rounding error of our own figures, in per cent."""
MARK = "*"
"""Behind a printed figure that cannot be right."""


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        label: Its name in the paper.
        state: ``done``; ``open`` where it cannot be run; ``failed`` where its run ended with an error; ``waiting``
            while others run; or ``left out`` where it was not asked for.
        published: The printed figures by heading.
        seeds: Our figures by heading and seed; under metrics any others that the checks need.
        reason: Why it is open, or has failed.
        note: What to know about it.
        wrong_in_print: Which printed figures cannot be right together, by heading.
        wrong_in_ours: The same of our figures; anything here is a mistake in our arithmetic.
        built: What its network costs as it is built at full scale; ``None`` where it is not built.
    """

    label: str
    state: State
    published: Mapping[str, Figure] = field(default_factory=dict)
    seeds: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    wrong_in_print: Sequence[Complaint] = ()
    wrong_in_ours: Sequence[str] = ()
    built: RowCost | None = None

    def values(self, heading: str) -> list[float]:
        """Return our figures of a column, one per seed that has it."""
        return [figures[heading] for figures in self.seeds.values() if heading in figures]

    def mean(self, heading: str) -> float | None:
        """Return the mean over the seeds; ``None`` where there is none."""
        values = self.values(heading)
        return statistics.fmean(values) if values else None

    def spread(self, heading: str) -> float | None:
        """Return the standard deviation over the seeds (of a sample); ``None`` of fewer than two."""
        values = self.values(heading)
        return statistics.stdev(values) if len(values) > 1 else None

    def interval(self, heading: str) -> float | None:
        """Return half the width of the mean's 95 % interval by Student's t; ``None`` of fewer than two seeds."""
        spread, count = self.spread(heading), len(self.values(heading))
        return None if spread is None else float(student_t.ppf(0.975, count - 1)) * spread / math.sqrt(count)

    @property
    def marked(self) -> frozenset[str]:
        """Headings of the printed figures that cannot be right."""
        return frozenset(heading for complaint in self.wrong_in_print for heading in complaint.metrics)


def printed_complaints(table: Table, figures: Mapping[str, Figure]) -> list[Complaint]:
    """Return which printed figures of a row cannot be right together, by heading.

    Args:
        table: Their table.
        figures: By heading.
    """
    wrong = []
    for group in table.runs_of_a_row:
        numeric = {c.metric: float(v) for c in group if isinstance(v := figures.get(c.heading), int | float)}
        heads = {c.metric: c.heading for c in group}
        rounding = 0.5 * 10.0**-table.decimals
        for complaint in complaints(numeric, rounding, table.mean_classes):
            wrong.append(Complaint(tuple(heads[metric] for metric in complaint.metrics), complaint.text))
    return wrong


@dataclass(frozen=True)
class PaperTable:
    """A whole table.

    Attributes:
        table: What the paper prints.
        rows: Its rows with our figures.
        scale: ``smoke`` or ``full``.
        data: What was trained and scored on, in words.
        settings: Whether rows ran as the paper prints them or as the released code has them.
    """

    table: Table
    rows: tuple[TableRow, ...]
    scale: Literal["smoke", "full"]
    data: str
    settings: str = "printed"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns, and those of the figures that the text gives."""
        return (*self.table.columns, *self.table.text_columns)

    @property
    def warning(self) -> str:
        """What a smoke run has to say of itself; empty for a full run."""
        if self.scale == "full":
            return ""
        return "SMOKE RUN: tiny networks, few steps, made-up scenes. Ours are NOT comparable with the paper's figures."

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; our figures rounded to four digits, those that there are not ``None``."""
        rows = []
        for row in self.rows:
            figures = {
                column.heading: {
                    "ours": _rounded(row.mean(column.heading)),
                    "spread": _rounded(row.spread(column.heading)),
                    "interval": _rounded(row.interval(column.heading)),
                    "seeds": {str(s): _rounded(f[column.heading]) for s, f in row.seeds.items() if column.heading in f},
                    "paper": row.published.get(column.heading),
                    "marked": column.heading in row.marked,
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
                    "paper_cannot_be_right": [str(complaint) for complaint in row.wrong_in_print],
                    "ours_cannot_be_right": list(row.wrong_in_ours),
                    "built": None if row.built is None else row.built.to_dict(),
                }
            )
        return {
            "table": self.table.name,
            "title": self.table.about,
            "scale": self.scale,
            "settings": self.settings,
            "comparable": self.scale == "full",
            "data": self.data,
            "note": self.table.note,
            "doubts": list(self.table.doubts),
            "size": self.table.size,
            "rows": rows,
        }

    def to_text(self, arithmetic: bool = False) -> str:
        """Write the table for a terminal; with ``arithmetic`` it says below why marked figures cannot be right."""
        about = f"{self.table.name}: {self.table.about} ({self.scale}, as {self.settings}; {self.data})"
        top = [about, *([self.warning] if self.warning else []), ""]
        return "\n".join([*top, *self._aligned(self.rows), "", *self._remarks(arithmetic)])

    def progress(self) -> str:
        """Write the rows that are run, as far as they are, for a terminal."""
        return "\n".join(self._aligned([row for row in self.rows if row.state in ("done", "failed", "waiting")]))

    def _aligned(self, rows: Sequence[TableRow]) -> list[str]:
        built = self._built_heads
        cells = [["row", *["ours", "paper"] * len(self.columns), *built], *(self._cells(row) for row in rows)]
        widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
        above = [" " * widths[0]]
        for at, column in enumerate(self.columns):
            # A column's heading stands above ours and the paper's.
            short = len(column.heading) - (widths[1 + 2 * at] + 2 + widths[2 + 2 * at])
            widths[1 + 2 * at] += max(short, 0)
            above.append(column.heading.rjust(widths[1 + 2 * at] + 2 + widths[2 + 2 * at]))
        return ["  ".join(above)] + [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in cells
        ]

    def to_markdown(self) -> str:
        """Write the table in Markdown, with the same cells and remarks as on a terminal."""
        cells = [[_escaped(cell) for cell in line] for line in (self._head(), *map(self._cells, self.rows))]
        cells.insert(1, ["---"] + ["---:"] * (len(cells[0]) - 1))
        lines = [f"# {self.table.name}: {self.table.about}", ""]
        lines += [f"Scale: {self.scale}. Settings: as {self.settings}. Data: {self.data}.", ""]
        if self.warning:
            lines += [f"**{self.warning}**", ""]
        lines += [f"| {' | '.join(line)} |" for line in cells]
        return "\n".join([*lines, "", *(f"* {_escaped(remark)}" for remark in self._remarks())]) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write ``PAPER-NUMBER-SCALE`` as ``.md``, ``.csv`` (one line per row and column) and ``.json``.

        Raises:
            OutputError: A file cannot be written.
        """
        texts = (self.to_markdown(), csv_text(self._lines()), json.dumps(self.to_dict(), indent=2) + "\n")
        paths = [folder / name for name in result_names(self.table.name, self.scale)]
        for path, text in zip(paths, texts, strict=True):
            write_text(path, text)
        return paths

    @property
    def _built_heads(self) -> list[str]:
        """Headings of what networks cost, where any row's is built."""
        return ["built, M", f"G at {self.table.size} px"] if any(row.built for row in self.rows) else []

    def _head(self) -> list[str]:
        figures = [f"{column.heading}, {whose}" for column in self.columns for whose in ("ours", "paper")]
        return ["row", *figures, *self._built_heads]

    def _cells(self, row: TableRow) -> list[str]:
        cells = [row.label]
        for heading in (column.heading for column in self.columns):
            mean, half = row.mean(heading), row.interval(heading)
            ours = NONE if mean is None else f"{mean:.2f}" + ("" if half is None else f" ± {half:.2f}")
            mark = MARK if heading in row.marked else ""
            shown = _figure(row.published[heading], self.table.decimals) if heading in row.published else NONE
            cells += [row.state if mean is None and row.state != "done" else ours, shown + mark]
        if self._built_heads:
            cells += [NONE] * 2 if row.built is None else [f"{row.built.parameters:.2f}", f"{row.built.gflops:.1f}"]
        return cells

    def _lines(self) -> Iterator[Sequence[Any]]:
        """Yield the CSV's lines: the figures of `to_dict`."""
        yield (
            *("row", "column", "ours", "spread", "interval", "seeds", "paper", "marked"),
            *("state", "scale", "reason", "note"),
        )
        for row in self.to_dict()["rows"]:
            for column, figure in row["figures"].items():
                seeds = " ".join(f"{seed}={value}" for seed, value in figure["seeds"].items())
                cells = (figure["ours"], figure["spread"], figure["interval"], seeds, figure["paper"], figure["marked"])
                yield (row["row"], column, *cells, row["state"], self.scale, row["reason"], row["note"])

    def _remarks(self, arithmetic: bool = False) -> list[str]:
        """Return what stands below the table: rows without figures, notes, what cannot be right."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.state in ("open", "failed"):
                reasons.setdefault((row.state, row.reason), []).append(row.label)
        remarks = [f"{state}: {'; '.join(labels)}: {reason}" for (state, reason), labels in reasons.items()]
        remarks += [f"{row.label}: {row.note}" for row in self.rows if row.note]
        if arithmetic:
            remarks += [f"{MARK} {row.label}: {one}" for row in self.rows for one in row.wrong_in_print]
            remarks += [f"doubt: {doubt}" for doubt in self.table.doubts]
        elif any(row.wrong_in_print for row in self.rows) or self.table.doubts:
            remarks.append(f"{MARK} cannot be right as printed; --arithmetic says why, and what else is doubtful")
        wrong = [f"{row.label}: {complaint}" for row in self.rows for complaint in row.wrong_in_ours]
        remarks += [f"OUR figures cannot be right: {complaint}" for complaint in wrong]
        return remarks + ([self.table.note] if self.table.note else [])


def result_names(table: str, scale: str) -> list[str]:
    """Return the names of the files that a table is written to."""
    return [f"{table.replace('/', '-')}-{scale}{end}" for end in (".md", ".csv", ".json")]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _figure(value: Figure, decimals: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        joint = " x " if all(isinstance(part, int) for part in value) else " or "
        return joint.join(_figure(part, decimals) for part in value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")
