"""The registry: every table of the five papers, by names such as ``ktda/II`` or ``ktda/2``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from geodistill.errors import UnknownNameError
from geodistill.recipes.row import About, Row

MODULES: dict[str, tuple[str, ...]] = {
    "samrs": ("samrs_tables",),
    "ktda": ("ktda_tables",),
    "kda": ("kda_tables",),
    "maflnet": ("maflnet_tables",),
    "metasegnet": ("metasegnet_comparison_tables", "metasegnet_tables"),
}
"""Modules of this package by paper. Each declares ``TABLES``, rows by number and label; where two have a row of one
label, the first one's counts. ``ABOUT`` says what a table is of, for all modules of the paper."""

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        paper: The paper, a key of `MODULES`.
        number: As printed, Roman or Arabic.
        about: What it is of.
        rows: Its rows by label.
    """

    paper: str
    number: str
    about: About
    rows: dict[str, Row]

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
    found: dict[str, Table] = {}
    for paper, names in MODULES.items():
        about: dict[str, About] = {}
        rows: dict[str, dict[str, Row]] = {}
        for name in names:
            full = f"geodistill.recipes.{name}"
            if find_spec(full) is None:
                continue
            module: Any = import_module(full)
            about = getattr(module, "ABOUT", {}) | about
            for number, held in module.TABLES.items():
                rows[number] = rows.get(number, {}) | {k: v for k, v in held.items() if k not in rows.get(number, {})}
        found |= {f"{paper}/{number}": Table(paper, number, about[number], held) for number, held in rows.items()}
    return found


def find_table(name: str) -> Table:
    """Find a table by ``PAPER/NUMBER``; the number may be Roman or Arabic, whichever the paper prints.

    Raises:
        UnknownNameError: There is no such paper or table; the message lists the known ones.
    """
    paper, _, number = name.strip().lower().partition("/")
    if paper not in MODULES:
        raise UnknownNameError("paper", paper, MODULES, "name a table as ktda/2; see 'geodistill reproduce --list'")
    tables = {table.number: table for table in all_tables().values() if table.paper == paper}
    number = number.upper()
    other = ROMAN[int(number) - 1] if number.isdecimal() and 1 <= int(number) <= len(ROMAN) else number
    if number in ROMAN and number not in tables:
        other = str(ROMAN.index(number) + 1)
    for wanted in (number, other):
        if wanted in tables:
            return tables[wanted]
    known = [table.name for table in tables.values()]
    raise UnknownNameError("table", name, known, "see 'geodistill reproduce --list'")
