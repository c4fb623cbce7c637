"""What stands in a legend file for a class: its name, its colour, its mask value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geodistill.errors import DataError, listed, shown

Colour = tuple[int, int, int]

LISTS = ("names", "colours", "values", "ignore_values", "ignore_colours")
"""Fields of `geodistill.spec.Legend` that are lists."""


def read_classes(data: Any, path: str) -> dict[str, Any]:
    """Return what a legend file holds, as arguments of `geodistill.spec.Legend`; ``path`` is for the messages.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(data, Mapping) or "classes" not in data:
        raise DataError(f"legend {path}", "a mapping with the key 'classes'")
    if unknown := set(data) - {"classes", "ignore"}:
        raise DataError(f"legend {path} with keys {listed(sorted(map(str, unknown)))}", "'classes' and 'ignore'")
    classes = data["classes"]
    if not isinstance(classes, list | dict):
        raise DataError(f"legend {path}, classes", "a list of names or a mapping from name to colour or value")
    names = [class_name(name, path) for name in classes]
    ignore = [] if data.get("ignore") is None else data["ignore"]
    if not isinstance(ignore, list):
        raise DataError(f"legend {path}, ignore: {shown(ignore)}", f"a list, such as 'ignore: [{shown(ignore)}]'")
    try:
        entries = [legend_entry(value) for value in (classes.values() if isinstance(classes, dict) else ())]
        ignored = [legend_entry(value) for value in ignore]
        return {
            "names": tuple(names),
            "colours": all_or_none([e[0] for e in entries], "colours"),
            "values": all_or_none([e[1] for e in entries], "values"),
            "ignore_colours": tuple(colour for colour, _ in ignored if colour is not None),
            "ignore_values": tuple(value for _, value in ignored if value is not None),
        }
    except DataError as error:
        raise DataError(f"legend {path}: {error.received}", error.expected, error.mend) from error


def read_lists(data: Any) -> dict[str, Any]:
    """Return what a legend's own JSON form holds, as arguments of `geodistill.spec.Legend`.

    Raises:
        DataError: It is something else.
    """
    known = {*LISTS, "nearest"}
    if not isinstance(data, Mapping) or set(data) - known or "names" not in data:
        raise DataError(f"legend {shown(data)}", f"a mapping with keys among {', '.join(sorted(known))}")
    lists = {key: data.get(key, ()) for key in LISTS}
    if not_lists := [key for key, value in lists.items() if not isinstance(value, list | tuple)]:
        raise DataError(f"legend with {not_lists[0]} {shown(lists[not_lists[0]])}", "a list")
    return {
        "names": tuple(lists["names"]),
        "colours": tuple(map(parse_colour, lists["colours"])),
        "values": tuple(map(mask_value, lists["values"])),
        "ignore_values": tuple(map(mask_value, lists["ignore_values"])),
        "ignore_colours": tuple(map(parse_colour, lists["ignore_colours"])),
        "nearest": data.get("nearest", False) is True,
    }


def parse_colour(text: str | Sequence[int]) -> Colour:
    """Read ``"#rrggbb"`` or three integers in 0..255 as a colour.

    Raises:
        DataError: The text is not such a colour.
    """
    if isinstance(text, str):
        digits = text.removeprefix("#")
        try:
            values = [int(digits[i : i + 2], 16) for i in (0, 2, 4)] if len(digits) == 6 else []
        except ValueError:
            values = []
    else:
        values = [v for v in text if type(v) is int] if isinstance(text, Sequence) and len(text) == 3 else []
    if len(values) != 3 or not all(0 <= v <= 255 for v in values):
        raise DataError(f"colour {shown(text)}", "'#rrggbb' or three integers in 0..255")
    return (values[0], values[1], values[2])


def class_name(name: Any, path: str) -> str:
    """Return a class's name as a legend file has it, for the messages about ``path``.

    Raises:
        DataError: It is something else.
    """
    if isinstance(name, str | int | float) and not isinstance(name, bool):
        return str(name)
    if isinstance(name, Mapping):
        expected = "a mapping from name to colour or value, such as 'classes: {Water: {colour: \"#50e3c2\"}}'"
        raise DataError(f"legend {path} with an entry {shown(name)} in a list of names", expected)
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
