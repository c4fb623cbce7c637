"""A table while its rows are run: what is entered so far, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geodistill.papers.reproduce.planner import TrainingRun
from geodistill.papers.reproduce.result_table import EXACT, PaperTable, State, TableRow, printed_complaints
from geodistill.papers.reproduce.row_costs import built_costs
from geodistill.papers.reproduce.row_recipe import Settings
from geodistill.papers.reproduce.row_scores import Scale
from geodistill.papers.sanity import complaints
from geodistill.papers.table import Table


@dataclass
class Board:
    """The table while its rows are run.

    Attributes:
        table: What is run.
        out: Where it is written.
        scale: ``smoke`` or ``full``.
        settings: As printed or as released.
        data: What is trained and scored on, in words.
        reasons: Why a row cannot be run, by label.
        labels: Rows that are run.
        figures: Ours by row, seed and heading.
        wrong: What cannot be right in them, by row.
        failed: Why a row ended without its figures.
        twins: Rows of the very same run, by row.
    """

    table: Table
    out: Path
    scale: Scale
    settings: Settings
    data: str
    reasons: Mapping[str, str]
    labels: Sequence[str]
    figures: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    twins: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, label: str, seed: int, group: int, figures: Mapping[str, float]) -> None:
        """Enter a run's figures, by metric, into the columns that it fills."""
        columns = [*self.table.runs_of_a_row[group], *(self.table.text_columns if group == 0 else ())]
        row = self.figures.setdefault(label, {}).setdefault(seed, {})
        row |= {column.heading: figures[column.metric] for column in columns if column.metric in figures}
        wrong = complaints(figures, EXACT, () if self.scale == "smoke" else self.table.mean_classes)
        self.wrong.setdefault(label, []).extend(f"seed {seed}: {complaint}" for complaint in wrong)

    def write(self) -> PaperTable:
        """Write the table as it stands; return it."""
        rows = tuple(self._row(label) for label in self.table.rows)
        now = PaperTable(self.table, rows, self.scale, self.data, self.settings)
        now.write(self.out)
        return now

    def _row(self, label: str) -> TableRow:
        row = self.table.rows[label]
        same = f"the same run as {', '.join(self.twins[label])}" if self.twins.get(label) else ""
        state: State = "left out"
        if self.reasons[label]:
            state = "open"
        elif label in self.failed:
            state = "failed"
        elif label in self.figures:
            state = "done"
        elif label in self.labels:
            state = "waiting"
        return TableRow(
            label,
            state,
            self.table.printed(row),
            self.figures.get(label, {}),
            self.reasons[label] or self.failed.get(label, ""),
            "; ".join(filter(None, (row.note, same))),
            printed_complaints(self.table, row.figures),
            self.wrong.get(label, []),
            built_costs().get((self.table.name, label), {}).get(self.settings),
        )


class Clock:
    """Estimates how long the rest of a table takes, from how long its runs took so far.

    Args:
        runs: All runs that are still to be trained; equal ones count once.
    """

    def __init__(self, runs: Iterable[TrainingRun]) -> None:
        self._waiting = {run.key: run.work for run in runs}
        self._work = self._seconds = 0.0

    def finished(self, run: TrainingRun, seconds: float) -> None:
        """Take a run and those before it off what is left."""
        done = sum(self._waiting.pop(one.key, 0.0) for one in run.chain())
        if done:
            self._work, self._seconds = self._work + done, self._seconds + seconds

    def __str__(self) -> str:
        if not self._waiting or not self._work:
            return ""
        minutes = sum(self._waiting.values()) * self._seconds / self._work / 60
        return f", about {minutes / 60:.1f} h left" if minutes >= 90 else f", about {max(minutes, 1):.0f} min left"
