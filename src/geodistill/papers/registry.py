"""The registry: every table of the five papers and our own, by names such as ``ktda/II`` or ``ktda/2``.

A paper's tables are a file of ``papers/tables``. What each part of it means:

* ``run``: what every row of a table runs, where the row does not say otherwise;
* ``use``: parts named at the head of the file, laid under what the row says itself;
* ``set``: recipe keys of a row's own run; ``first``: of the first run of the row, the one before it where there is one;
  ``every``: of all its runs; a value ``{printed: ..., released: ...}`` is one for each of the two settings;
* ``baseline``: the network of a supervised baseline, which takes data, optimiser, schedule and trainer from the run of
  its table;
* ``figures``: as printed, in the order of the columns; ``text``: figures of the paper's text, by metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from geodistill.errors import UnknownNameError, check_name
from geodistill.papers.table import Column, PaperRow, Step, Table
from geodistill.reading import parse_yaml

PAPERS = ("samrs", "ktda", "kda", "maflnet", "metasegnet", "ours")
"""The papers in the order of the documentation, and the tables that no paper prints."""

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
BASELINE = "supervised-folder"
"""Recipe of a baseline, whose sections other than the network its table's own run gives."""

_MERGED = ("set", "first", "every", "text")


@cache
def all_tables() -> dict[str, Table]:
    """Return every table by its name, paper by paper in the order printed."""
    tables = [table for paper in PAPERS for table in _read(paper)]
    return {table.name: table for table in tables}


def find_table(name: str) -> Table:
    """Find a table by ``PAPER/NUMBER``; the number may be Roman or Arabic, whichever the paper prints.

    Raises:
        UnknownNameError: There is no such paper or table; the message lists the known ones.
    """
    paper, _, number = name.strip().lower().partition("/")
    check_name("paper", paper, PAPERS, "name a table as ktda/2; see 'geodistill reproduce --list'")
    tables = {table.number.upper(): table for table in all_tables().values() if table.paper == paper}
    number = number.upper()
    other = ROMAN[int(number) - 1] if number.isdecimal() and 1 <= int(number) <= len(ROMAN) else number
    if number in ROMAN and number not in tables:
        other = str(ROMAN.index(number) + 1)
    for printed in (number, other):
        if printed in tables:
            return tables[printed]
    known = [table.name for table in tables.values()]
    raise UnknownNameError("table", name, known, "see 'geodistill reproduce --list'")


def prompt_figures() -> dict[str, tuple[float, float]]:
    """Return SAMRS's mIOU_I and mIOU_P in per cent by prompt (Table 1)."""
    table = all_tables()["samrs/1"]
    heads = [column.heading for column in table.columns]
    return {row.prompt: (row.figures[heads[0]], row.figures[heads[1]]) for row in table.rows.values()}  # type: ignore[misc]


def _read(paper: str) -> list[Table]:
    text = (resources.files("geodistill.papers") / "tables" / f"{paper}.yaml").read_text(encoding="utf-8")
    content = parse_yaml(text, f"{paper}.yaml")
    parts = content.get("parts", {})
    return [_table(paper, str(number), dict(table), parts) for number, table in content["tables"].items()]


def _table(paper: str, number: str, given: dict[str, Any], parts: Mapping[str, Any]) -> Table:
    columns = tuple(_column(heading, metric) for heading, metric in given.pop("columns").items())
    run, rows = given.pop("run", {}), given.pop("rows")
    built = {str(label): _row(str(label), row, columns, run, parts) for label, row in rows.items()}
    for key in ("classes", "doubts"):
        given[key] = tuple(given.get(key, ()))
    return Table(paper, number, columns=columns, rows=built, **given)


def _column(heading: str, metric: str | dict[str, Any]) -> Column:
    return Column(heading, metric) if isinstance(metric, str) else Column(heading, metric["metric"], metric["set"])


def _row(
    label: str, declared: dict[str, Any], columns: tuple[Column, ...], run: Mapping[str, Any], parts: Mapping[str, Any]
) -> PaperRow:
    """Return a row with what its table and the parts that it names say under what it says itself."""
    printed = declared.get("figures", [None] * len(columns))
    figures = {c.heading: f for c, f in zip(columns, printed, strict=True) if f is not None}
    shown = {key: declared[key] for key in ("open", "note", "prompt", "text") if key in declared}
    if "open" in declared or "prompt" in declared:
        return PaperRow(label, declared.get("is", ""), figures, **shown)
    named = [parts[name] for name in declared.get("use", ())]
    if "baseline" in declared:
        table, network = _merge(run), dict(declared["baseline"])
        like = Step(table["recipe"], table["every"] | table["set"])
        recipe = network.pop("recipe", BASELINE)
        keys = {f"network.{key}": value for key, value in network.items()} | declared.get("set", {})
        return PaperRow(label, declared.get("is", ""), figures, recipe=recipe, overrides=keys, like=like, **shown)
    spec = _merge(run, *named, declared)
    steps = spec.get("before", [])
    overrides = spec["every"] | spec["set"] | ({} if steps else spec["first"])
    before = tuple(
        Step(s["recipe"], spec["every"] | spec["first"], s["into"], s["part"], tuple(s.get("sets", ()))) for s in steps
    )
    return PaperRow(
        label, declared.get("is", ""), figures, recipe=spec["recipe"], overrides=overrides, before=before, **shown
    )


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay declarations over each other: mappings of keys are merged, anything else is the last one's."""
    merged: dict[str, Any] = {key: {} for key in _MERGED}
    for layer in layers:
        for key, value in layer.items():
            merged[key] = merged[key] | value if key in _MERGED else value
    return merged
