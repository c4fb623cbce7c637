"""``reproduce --list``: every table, its rows, what data it needs, and whether it can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geodistill.data.catalog.declarations import CATALOG
from geodistill.papers.registry import Table, all_tables
from geodistill.papers.reproduce.planner import why_open
from geodistill.papers.row import PaperRow
from geodistill.papers.sanity import heading


@dataclass(frozen=True)
class ListedRow:
    """One row.

    Attributes:
        label: Its name.
        runs: The recipes that are run, in order.
        open: Why it cannot be run; empty where it can.
    """

    label: str
    runs: tuple[str, ...]
    open: str


@dataclass(frozen=True)
class ListedTable:
    """One table.

    Attributes:
        name: Such as ``ktda/II``.
        title: What its rows compare.
        columns: Its columns.
        data: Names of the sets that a full run needs.
        source: Where its own set can be downloaded.
        rows: Its rows.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    data: tuple[str, ...]
    source: str
    rows: tuple[ListedRow, ...]

    @property
    def runnable(self) -> int:
        """How many rows can be run."""
        return sum(not row.open for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self) | {"runnable": self.runnable}

    def to_text(self) -> str:
        """Write the table's lines."""
        lines = [
            f"{self.name}: {self.title}",
            f"  {self.runnable} of {len(self.rows)} rows can be run; data: {', '.join(self.data)} ({self.source})",
            f"  columns: {', '.join(heading(column) for column in self.columns)}",
        ]
        width = max(len(row.label) for row in self.rows)
        for row in self.rows:
            lines.append(f"    {row.label:<{width}}  {f'open: {row.open}' if row.open else ', then '.join(row.runs)}")
        return "\n".join(lines)


def list_tables(names: Sequence[str] = ()) -> list[ListedTable]:
    """List the tables of the five papers, or some of them by name."""
    return [_listed(table) for name, table in all_tables().items() if not names or name in names]


def _runs(row: PaperRow) -> tuple[str, ...]:
    if row.prompt:
        return ("label ablate",)
    return (*(step.recipe for step in row.before), row.recipe) if row.recipe else ()


def _listed(table: Table) -> ListedTable:
    scored = [table.about.scored_set] if table.about.scored_set else []
    sets = [
        table.about.dataset,
        *scored,
        *(one for row in table.rows.values() for step in row.before for one in step.sets),
    ]
    rows = tuple(ListedRow(label, _runs(row), why_open(row, read=False)) for label, row in table.rows.items())
    data = tuple(dict.fromkeys(sets))
    return ListedTable(table.name, table.about.title, table.columns, data, CATALOG[table.about.dataset].source, rows)
