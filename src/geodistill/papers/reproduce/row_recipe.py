"""A row's recipe: the shipped one, its preset, what it shares with its table's method, and the row's own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.method import find_method
from geodistill.methods.schema import Recipe
from geodistill.papers.table import PaperRow, Step
from geodistill.training.recipe import as_flags, list_recipes, load_recipe, recipe_dict, recipe_keys

T = TypeVar("T")

Settings = Literal["printed", "released"]

SHARED = ("data", "optimizer", "schedule", "trainer")
"""Sections of a recipe that a baseline takes over from its table's own run."""


def row_flags(step: Step, like: Step | None = None, settings: Settings = "printed") -> list[str]:
    """Return the flags that make a shipped recipe the run of a row.

    Args:
        step: The recipe, and the row's own keys.
        like: The run whose shared sections it takes over.
        settings: The preset, of a method that has it.
    """
    flags = preset_flags(step.recipe, settings)
    if like is not None:
        theirs = load_row(like.recipe, tuple(row_flags(like, None, settings)))
        known = set(recipe_keys(type(load_row(step.recipe, ()))))
        shared = {f"{name}.{key}": value for name in SHARED for key, value in recipe_dict(theirs)[name].items()}
        flags += as_flags({key: value for key, value in shared.items() if key in known})
    chosen = {key: value[settings] if isinstance(value, dict) else value for key, value in step.overrides.items()}
    return flags + as_flags(chosen)


def preset_flags(recipe: str, settings: Settings) -> list[str]:
    """Return the flag of a preset, where the recipe's method has one of that name."""
    return [f"--preset={settings}"] if settings in find_method(load_row(recipe, ()).method).presets else []


def known_keys(recipe: Recipe) -> set[str]:
    """Return the keys that a recipe of this kind has."""
    return set(recipe_keys(type(recipe)))


def value_of(recipe: Recipe, key: str) -> Any:
    """Return a recipe's value of a dotted key; ``None`` where a part on the way is not there."""
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value


def put(recipe: T, key: str, value: Any) -> T:
    """Return a copy of a (nested) dataclass with one dotted field replaced."""
    first, _, rest = key.partition(".")
    if not rest:
        return replace(recipe, **{first: value})  # type: ignore[type-var]
    inner = getattr(recipe, first)
    if not is_dataclass(inner) or isinstance(inner, type):
        raise RecipeError(f"{key} of a recipe without {first}", f"a recipe with {first}")
    return replace(recipe, **{first: put(inner, rest, value)})  # type: ignore[type-var]


def why_open(row: PaperRow, *, read: bool = True, settings: Settings = "printed") -> str:
    """Say why a row cannot be run; empty where it can.

    Args:
        row: The row.
        read: Read its recipes with its overrides as well, which takes a moment each.
        settings: As `Planner` has them.
    """
    if row.open or row.prompt:
        return row.open
    for step, like in [*((step, None) for step in row.before), (Step(row.recipe, row.overrides), row.like)]:
        if step.recipe not in list_recipes():
            return f"recipe {step.recipe} is not shipped"
        try:
            if read:
                load_row(step.recipe, tuple(row_flags(step, like, settings)))
        except (RecipeError, UnknownNameError) as error:
            return str(error)
    return ""


@cache
def load_row(name: str, flags: tuple[str, ...], idle: bool = False) -> Recipe:
    """Read a shipped recipe with flags, once for all rows and tables that have the same; ``idle`` as in `load_recipe`.

    Raises:
        RecipeError: A value does not fit its field.
        UnknownNameError: The recipe or a key is unknown.
    """
    return load_recipe(name, flags, idle=idle)


def idle_among(name: str, flags: Sequence[str], more: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of ``more`` that do nothing beside the others and a row's own flags, each with the reason."""
    idle = load_row(name, (*flags, *as_flags(more)), idle=True).idle_keys()
    return {key: idle[key] for key in more if key in idle}


def working_flags(name: str, flags: Sequence[str], more: Mapping[str, Any]) -> list[str]:
    """Return as flags what of ``more``, which is meant for many rows, does something beside a row's own."""
    idle = idle_among(name, flags, more)
    return as_flags({key: value for key, value in more.items() if key not in idle})


def parse_overrides(pairs: Sequence[str], rows: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Read ``KEY=VALUE`` texts, and ``ROW:KEY=VALUE`` for the runs of one row alone.

    Args:
        pairs: The texts.
        rows: Labels of the table's rows.

    Returns:
        Values by key, by the row's label; those of every row under the empty label.

    Raises:
        RecipeError: One has another form.
    """
    overrides: dict[str, dict[str, str]] = {"": {}}
    for pair in pairs:
        row = next((label for label in rows if pair.startswith(f"{label}:")), "")
        key, equals, value = pair.removeprefix(f"{row}:" if row else "").removeprefix("--").partition("=")
        if not equals or not key or ":" in key:
            raise RecipeError(f"--set {pair}", "KEY=VALUE, such as trainer.max_steps=100, or ROW:KEY=VALUE")
        overrides.setdefault(row, {})[key] = value
    return overrides
