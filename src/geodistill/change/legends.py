"""Two legends brought to one, by names and by what the user says of names that differ."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, RecipeError, UnknownNameError, listed
from geodistill.spec import IGNORE_INDEX, Legend

UNCHANGED = "unchanged"
"""Name of the first class of a map of changes."""

_GREY = (225, 225, 225)
_OF_BEFORE = 0.35
"""Share of the class before in the colour of a change."""


@dataclass(frozen=True)
class CommonClasses:
    """Classes that two maps share.

    Attributes:
        legend: The classes.
        before: ``(256,)`` uint8: common class of each class of the first map; `IGNORE_INDEX` stays.
        after: Likewise for the second.
    """

    legend: Legend
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


def parse_renames(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``OLD=NEW`` pairs.

    Raises:
        RecipeError: One is something else, or a name stands twice.
    """
    renames: dict[str, str] = {}
    for pair in pairs:
        old, sign, new = pair.partition("=")
        if not old or not sign or not new or old in renames:
            raise RecipeError(f"--map {pair}", "OLD=NEW, each OLD once, such as 'trees=forest'")
        renames[old] = new
    return renames


def common_classes(before: Legend, after: Legend, renames: Mapping[str, str]) -> CommonClasses:
    """Return the classes of two maps under their names in the second one.

    Args:
        before: Classes of the first map.
        after: Classes of the second.
        renames: New name by old name, for classes of either map; several may become one.

    Raises:
        UnknownNameError: An old name is in neither legend.
        DataError: A class is in one of them only.
    """
    for old in renames:
        if old not in before.names and old not in after.names:
            raise UnknownNameError("class", old, {*before.names, *after.names})
    ours, theirs = ([renames.get(name, name) for name in legend.names] for legend in (before, after))
    lone, other = ([n for n in dict.fromkeys(a) if n not in b] for a, b in ((ours, theirs), (theirs, ours)))
    if lone or other:
        raise DataError(
            f"the first map alone has {listed(lone) or 'no class'}, the second alone {listed(other) or 'no class'}",
            "the same classes in both",
            f"say which is which with --map {_proposal(lone, other, theirs)}",
        )
    names = list(dict.fromkeys(theirs))
    colours = [after.colours[theirs.index(name)] for name in names]
    tables = [np.full(256, IGNORE_INDEX, np.uint8) for _ in range(2)]
    for table, mapped in zip(tables, (ours, theirs), strict=True):
        table[: len(mapped)] = [names.index(name) for name in mapped]
    return CommonClasses(Legend(tuple(names), tuple(colours)), *tables)


def _proposal(lone: Sequence[str], other: Sequence[str], known: Sequence[str]) -> str:
    """Return pairs that would bring the legends together, by names that are alike; a guess to be looked at."""
    folded = {name.casefold(): name for name in (*known, *other)}
    pairs = []
    for name in lone:
        near = difflib.get_close_matches(name.casefold(), [n.casefold() for n in other] or list(folded), 1, 0.5)
        pairs.append(f"'{name}={folded[near[0]] if near else 'NEW'}'")
    pairs += [f"'{name}=NEW'" for name in other if not any(pair.endswith(f"={name}'") for pair in pairs)]
    return " ".join(pairs[:8])


def change_legend(classes: Legend, pairs: Sequence[tuple[int, int]]) -> Legend:
    """Return the legend of a map of changes: `UNCHANGED`, then each change that occurs.

    Raises:
        DataError: There are more than a map of bytes can hold.
    """
    if len(pairs) >= IGNORE_INDEX:
        raise DataError(
            f"{len(pairs)} kinds of change", f"at most {IGNORE_INDEX - 1}", "put classes together with --map OLD=NEW"
        )
    names = [f"{classes.names[a]} to {classes.names[b]}" for a, b in pairs]
    # Of maps of changes "x" may become "y to z", and "x to y" become "z".
    quoted = [f"{classes.names[a]!r} to {classes.names[b]!r}" for a, b in pairs]
    names = [quote if names.count(name) > 1 else name for name, quote in zip(names, quoted, strict=True)]
    # Most of what a place has become, and some of what it was: shades of one hue cannot be told apart.
    colours = []
    for old, new in pairs:
        both = zip(classes.colours[old], classes.colours[new], strict=True)
        shade = tuple(round(_OF_BEFORE * before + (1 - _OF_BEFORE) * after) for before, after in both)
        while shade in colours or shade == _GREY:
            shade = ((shade[0] + 1) % 256, *shade[1:])
        colours.append(shade)
    return Legend((UNCHANGED, *names), (_GREY, *((c[0], c[1], c[2]) for c in colours)))
