"""``reproduce --list``: every table, its rows with their printed figures, the data it needs, and what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geodistill.data.catalog.declarations import CATALOG
from geodistill.papers.registry import all_tables
from geodistill.papers.reproduce.result_table import printed_complaints
from geodistill.papers.reproduce.row_costs import RowCost, built_costs
from geodistill.papers.reproduce.row_recipe import why_open
from geodistill.papers.table import Figure, PaperRow, Table


@dataclass(frozen=True)
class ListedRow:
    """One row.

    Attributes:
        label: Its name.
        describes: What it is.
        runs: The recipes that are run, in order.
        open: Why it cannot be run; empty where it can.
        published: The printed figures by heading.
        marked: Headings of those that cannot be right, with the arithmetic.
        built: What its network costs at the table's size, by settings; empty where it is not built.
    """

    label: str
    describes: str
    runs: tuple[str, ...]
    open: str
    published: dict[str, Figure]
    marked: dict[str, list[str]]
    built: dict[str, RowCost]

    @property
    def summary(self) -> str:
        """Why it is open, or what it runs and builds."""
        if self.open:
            return f"open: {self.open}"
        costs = dict.fromkeys(map(str, self.built.values()))
        return ", then ".join(self.runs) + (f" ({'; as released '.join(costs)})" if costs else "")


@dataclass(frozen=True)
class ListedTable:
    """One table.

    Attributes:
        table: What the paper prints.
        data: Names of the sets that a full run needs.
        source: Where its own set can be downloaded.
        rows: Its rows.
    """

    table: Table
    data: tuple[str, ...]
    source: str
    rows: tuple[ListedRow, ...]

    @property
    def runnable(self) -> int:
        """How many rows can be run."""
        return sum(not row.open for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        rows = [
            {
                "row": row.label,
                "is": row.describes,
                "runs": list(row.runs),
                "open": row.open,
                "published": row.published,
                "marked": row.marked,
                "built": {settings: cost.to_dict() for settings, cost in row.built.items()},
            }
            for row in self.rows
        ]
        return {
            "name": self.table.name,
            "title": self.table.about,
            "columns": {column.heading: column.metric for column in self.table.columns},
            "data": list(self.data),
            "source": self.source,
            "doubts": list(self.table.doubts),
            "runnable": self.runnable,
            "size": self.table.size,
            "rows": rows,
        }

    def to_text(self) -> str:
        """Write the table's lines."""
        can = f"{self.runnable} of {len(self.rows)} rows can be run"
        can += f", networks at {self.table.size} px" if any(row.built for row in self.rows) else ""
        lines = [
            f"{self.table.name}: {self.table.about}",
            f"  {can}; data: {', '.join(self.data)} ({self.source})",
            f"  columns: {', '.join(column.heading for column in self.table.columns)}",
        ]
        width = max(len(row.label) for row in self.rows)
        for row in self.rows:
            lines.append(f"    {row.label:<{width}}  {row.summary}")
        return "\n".join(lines)


def list_tables(names: Sequence[str] = ()) -> list[ListedTable]:
    """List all tables, or some of them by name."""
    return [_listed(table) for name, table in all_tables().items() if not names or name in names]


def _listed(table: Table) -> ListedTable:
    scored = [table.scored_set] if table.scored_set else []
    steps = [one for row in table.rows.values() for step in row.before for one in step.sets]
    data = tuple(dict.fromkeys([table.dataset, *scored, *steps]))
    rows = tuple(_listed_row(table, row) for row in table.rows.values())
    return ListedTable(table, data, CATALOG[table.dataset].source, rows)


def _listed_row(table: Table, row: PaperRow) -> ListedRow:
    marked: dict[str, list[str]] = {}
    for complaint in printed_complaints(table, row.figures):
        for heading in complaint.metrics:
            marked.setdefault(heading, []).append(complaint.text)
    runs = ("label ablate",) if row.prompt else tuple(filter(None, (*(s.recipe for s in row.before), row.recipe)))
    built = built_costs().get((table.name, row.label), {})
    return ListedRow(row.label, row.describes, runs, why_open(row, read=False), dict(row.figures), marked, built)
