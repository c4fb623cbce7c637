"""A table's row as runs: what is trained, on what, after what, and the name that equal runs share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.schema import Recipe
from geodistill.papers.registry import Table
from geodistill.papers.reproduce.smoke import smoke_overrides
from geodistill.papers.row import PaperRow, Step
from geodistill.training.recipe import list_recipes, load_recipe, recipe_dict, recipe_keys

T = TypeVar("T")


@dataclass(frozen=True)
class Prerequisite:
    """A run that another needs.

    Attributes:
        step: What of it goes where.
        run: The run.
    """

    step: Step
    run: TrainingRun


@dataclass(frozen=True)
class TrainingRun:
    """One training.

    Attributes:
        name: Name of the shipped recipe.
        recipe: The recipe with all overrides, and without any path: of data, of weights that another run leaves.
        sets: The data sets it learns.
        before: The runs that it needs first.
        key: Hash of all that decides what it learns; equal runs have equal keys.
    """

    name: str
    recipe: Recipe
    sets: tuple[str, ...]
    before: tuple[Prerequisite, ...]
    key: str

    @property
    def folder(self) -> str:
        """Name of its directory."""
        return f"{self.name}-seed{self.recipe.trainer.seed}-{self.key}"


@dataclass(frozen=True)
class Planner:
    """Makes runs of rows.

    Attributes:
        scale: ``smoke`` or ``full``.
        identities: What a data set's name stands for, by name: goes into the keys.
        overrides: Keys set for every run whose recipe has them, by the user.
    """

    scale: str
    identities: Mapping[str, Any]
    overrides: Mapping[str, str]

    def run(self, table: Table, row: PaperRow, seed: int) -> TrainingRun:
        """Return a row's run, with those it needs.

        Raises:
            RecipeError: A value does not fit its field.
            UnknownNameError: A recipe or key is unknown.
        """
        before = []
        for step in row.before:
            sets = step.sets or (table.about.dataset,)
            before.append(Prerequisite(step, self._make(step.recipe, step.overrides, sets, seed, ())))
        return self._make(row.recipe, row.overrides, (table.about.dataset,), seed, tuple(before))

    def _make(
        self,
        name: str,
        overrides: Mapping[str, Any],
        sets: tuple[str, ...],
        seed: int,
        before: tuple[Prerequisite, ...],
    ) -> TrainingRun:
        flags = as_flags(overrides)
        if self.scale == "smoke":
            flags += as_flags(smoke_overrides(load_row(name, tuple(flags)), len(sets)))
        recipe = load_row(name, tuple(flags))
        flags += [f"--{key}={value}" for key, value in self.overrides.items() if _takes(recipe, key)]
        recipe = load_row(name, tuple(flags))
        recipe = replace(recipe, trainer=replace(recipe.trainer, seed=seed))
        for earlier in before:
            recipe = put(recipe, earlier.step.into, None)
        decides = {
            "recipe": recipe_dict(recipe),
            "data": [self.identities[one] for one in sets],
            "before": [(b.step.into, b.step.part, b.run.key) for b in before],
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return TrainingRun(name, recipe, sets, before, digest[:12])


def as_flags(overrides: Mapping[str, Any]) -> list[str]:
    """Write recipe keys and values as flags."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value, default=list)}"
        for key, value in overrides.items()
    ]


def _takes(recipe: Recipe, key: str) -> bool:
    """Whether a user's override is for this run: a phase that it does not have keeps its 0 steps."""
    if key not in known_keys(recipe):
        return False
    if key not in ("trainer.max_steps", "losses.phase.steps"):
        return True
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return bool(value)


def known_keys(recipe: Recipe) -> set[str]:
    """Return the keys that a recipe of this kind has."""
    return set(recipe_keys(type(recipe)))


def put(recipe: T, key: str, value: Any) -> T:
    """Return a copy of a (nested) dataclass with one dotted field replaced."""
    first, _, rest = key.partition(".")
    if not rest:
        return replace(recipe, **{first: value})  # type: ignore[type-var]
    inner = getattr(recipe, first)
    if not is_dataclass(inner) or isinstance(inner, type):
        raise RecipeError(f"{key} of a recipe without {first}", f"a recipe with {first}")
    return replace(recipe, **{first: put(inner, rest, value)})  # type: ignore[type-var]


def why_open(row: PaperRow, *, read: bool = True) -> str:
    """Say why a row cannot be run; empty where it can.

    Args:
        row: The row.
        read: Read its recipes with its overrides as well, which takes a moment each.
    """
    if row.open or row.prompt:
        return row.open
    for name, overrides in [*((step.recipe, step.overrides) for step in row.before), (row.recipe, row.overrides)]:
        if name not in list_recipes():
            return f"recipe {name} is not shipped"
        try:
            if read:
                load_row(name, tuple(as_flags(overrides)))
        except (RecipeError, UnknownNameError) as error:
            return str(error)
    return ""


@cache
def load_row(name: str, flags: tuple[str, ...]) -> Recipe:
    """Read a shipped recipe with flags, once for all rows and tables that have the same.

    Raises:
        RecipeError: A value does not fit its field.
        UnknownNameError: The recipe or a key is unknown.
    """
    return load_recipe(name, flags)


def parse_overrides(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` texts.

    Raises:
        RecipeError: One has another form.
    """
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.removeprefix("--").partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {pair}", "KEY=VALUE, such as trainer.max_steps=100")
        overrides[key] = value
    return overrides
