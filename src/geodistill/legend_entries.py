"""What stands in a legend file for a class: its name, its colour, its mask value."""

from __future__ import annotations

import math
from typing import Any

from geodistill.colours import Colour, parse_colour
from geodistill.errors import DataError, listed, shown


def class_name(name: Any, path: str) -> str:
    """Return a class's name as a legend file has it, for the messages about ``path``.

    Raises:
        DataError: It is something else.
    """
    if isinstance(name, str | int | float) and not isinstance(name, bool):
        return str(name)
    # YAML reads no, off and null as values.
    raise DataError(f"legend {path} with a class called {shown(name)}", "a name", "put it in quotes")


def legend_entry(value: Any) -> tuple[Colour | None, int | None]:
    """Return colour and mask value of a class, each ``None`` where it is not given.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, dict):
        if unknown := set(value) - {"colour", "color", "value"}:
            raise DataError(f"entry with {listed(sorted(map(str, unknown)))}", "'colour' and 'value'")
        colour, number = value.get("colour", value.get("color")), value.get("value")
        return (None if colour is None else parse_colour(colour)), (None if number is None else mask_value(number))
    if isinstance(value, str | list):
        return parse_colour(value), None
    return (None, None) if value is None else (None, mask_value(value))


def mask_value(value: Any) -> int:
    """Return a whole number that stands for a class in mask files.

    Raises:
        DataError: It is something else.
    """
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not whole or int(value) != value:
        raise DataError(f"entry {shown(value)}", "a colour '#rrggbb' or a whole number as mask value")
    return int(value)


def all_or_none(items: list[Any], what: str) -> tuple[Any, ...]:
    """Return the items where all are given, nothing where none is.

    Raises:
        DataError: It is something else.
    """
    given = [item for item in items if item is not None]
    if given and len(given) != len(items):
        raise DataError(f"{what} of {len(given)} of {len(items)} classes", "all classes or none")
    return tuple(given)
