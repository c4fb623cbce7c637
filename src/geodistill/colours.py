"""Colours of classes: how they are written, and where none are given."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from geodistill.errors import DataError, shown

Colour = tuple[int, int, int]


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


def hexadecimal(colour: Colour) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def default_colours(count: int) -> tuple[Colour, ...]:
    """Return ``count`` well separated colours (golden-angle hues), for legends that name none."""
    colours: list[Colour] = []
    for i in range(count):
        r, g, b = colorsys.hsv_to_rgb((i * 0.618034 + 0.08) % 1.0, 0.55 + 0.3 * (i % 2), 0.9 - 0.25 * (i % 3))
        colours.append((round(255 * r), round(255 * g), round(255 * b)))
    return tuple(colours)
