"""The registry: every table of the five papers, by names such as ``ktda/II`` or ``ktda/2``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from geodistill.errors import UnknownNameError
from geodistill.papers import kda_tables, ktda_tables, maflnet_tables, metasegnet_tables, samrs_tables
from geodistill.papers.row import About, PaperRow

PAPERS = {
    "samrs": samrs_tables,
    "ktda": ktda_tables,
    "kda": kda_tables,
    "maflnet": maflnet_tables,
    "metasegnet": metasegnet_tables,
}
"""Each declares ``TABLES``, rows by number and label, and in ``ABOUT`` what each table is of."""

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        paper: The paper, a key of `PAPERS`.
        number: As printed, Roman or Arabic.
        about: What it is of.
        rows: Its rows by label.
    """

    paper: str
    number: str
    about: About
    rows: dict[str, PaperRow]

    @property
    def name(self) -> str:
        """``PAPER/NUMBER``."""
        return f"{self.paper}/{self.number}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns: those declared, and any other that a row has a figure for."""
        return tuple(dict.fromkeys([*self.about.columns, *(c for row in self.rows.values() for c in row.published)]))


@cache
def all_tables() -> dict[str, Table]:
    """Every declared table by its name, paper by paper in the order printed."""
    tables = (
        Table(paper, number, module.ABOUT[number], rows)
        for paper, module in PAPERS.items()
        for number, rows in module.TABLES.items()
    )
    return {table.name: table for table in tables}


def find_table(name: str) -> Table:
    """Find a table by ``PAPER/NUMBER``; the number may be Roman or Arabic, whichever the paper prints.

    Raises:
        UnknownNameError: There is no such paper or table; the message lists the known ones.
    """
    paper, _, number = name.strip().lower().partition("/")
    if paper not in PAPERS:
        raise UnknownNameError("paper", paper, PAPERS, "name a table as ktda/2; see 'geodistill reproduce --list'")
    tables = {table.number: table for table in all_tables().values() if table.paper == paper}
    number = number.upper()
    other = ROMAN[int(number) - 1] if number.isdecimal() and 1 <= int(number) <= len(ROMAN) else number
    if number in ROMAN and number not in tables:
        other = str(ROMAN.index(number) + 1)
    for printed in (number, other):
        if printed in tables:
            return tables[printed]
    known = [table.name for table in tables.values()]
    raise UnknownNameError("table", name, known, "see 'geodistill reproduce --list'")
