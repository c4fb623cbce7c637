"""Text to be read: numbers as JSON has them, CSV whose cells no spreadsheet takes for a formula, and aligned tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from geodistill.errors import one_line, printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet computes, in letters of double width too."""

_QUOTED = frozenset(',;"\t\r\n')
"""What a cell stands in quotes for: separators of any country's spreadsheet."""


def json_number(value: float) -> float | None:
    """Return a figure as JSON has it: ``None`` where it is not finite."""
    return float(value) if math.isfinite(value) else None


def share_decimals(whole: float) -> int:
    """Return decimals that show a hundred-thousandth of a whole, and a hundredth up to 100,000."""
    return max(2, 5 - math.ceil(math.log10(whole))) if 0 < whole <= 1e5 else 0


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, lines ending in a line feed; every text goes through `plain_cell`."""
    return "".join(f"{','.join(map(_written, row))}\n" for row in rows)


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
    if (value.startswith(_FORMULA) or value.strip().startswith(_FORMULA)) and not _is_number(value):
        value = f"'{value}"
    return printable(value)


def markup_text(text: str) -> str:
    """Return text as HTML shows it, in attributes too: no markup, and control characters as escapes."""
    return escape(printable(text))


def plot_label(text: str) -> str:
    """Return text as matplotlib can draw any, on one line: control characters as escapes, dollar signs as such."""
    return one_line(text).replace("$", r"\$")


def _written(value: Any) -> str:
    text = "" if value is None else str(plain_cell(value))
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.intersection(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
