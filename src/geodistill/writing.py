"""Text to be read: numbers as JSON has them, CSV whose cells no spreadsheet takes for a formula, and aligned tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from geodistill.errors import one_line, printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet computes."""


def json_number(value: float) -> float | None:
    """Return a figure as JSON has it: ``None`` where it is not finite."""
    return float(value) if math.isfinite(value) else None


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, lines ending in a line feed; every text goes through `plain_cell`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([plain_cell(value) for value in row] for row in rows)
    return text.getvalue()


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines whose columns are aligned, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines


def plain_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows as it is.

    Text that would be a formula gets an apostrophe in front, which spreadsheets hide, and control characters become
    escapes. Numbers stay, written as text too.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(_FORMULA) and not _is_number(value):
        value = f"'{value}"
    return printable(value)


def plot_label(text: str) -> str:
    """Return text as matplotlib can draw any, on one line: control characters as escapes, dollar signs as such."""
    return one_line(text).replace("$", r"\$")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
