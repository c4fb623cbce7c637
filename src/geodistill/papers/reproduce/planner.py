"""A table's row as runs: what is trained, on what, after what, and the name that equal runs share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geodistill.methods.schema import Recipe
from geodistill.papers.reproduce.row_recipe import (
    Settings,
    idle_among,
    known_keys,
    load_row,
    put,
    row_flags,
    value_of,
    working_flags,
)
from geodistill.papers.reproduce.smoke import smoke_overrides
from geodistill.papers.table import PaperRow, Step, Table
from geodistill.training.recipe import recipe_dict


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
        idle: What the user set and does nothing in it, each key with the reason.
    """

    name: str
    recipe: Recipe
    sets: tuple[str, ...]
    before: tuple[Prerequisite, ...]
    key: str
    idle: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def folder(self) -> str:
        """Name of its directory."""
        return f"{self.name}-seed{self.recipe.trainer.seed}-{self.key}"

    def chain(self) -> Iterator[TrainingRun]:
        """Yield the runs that it needs first, then itself."""
        for before in self.before:
            yield from before.run.chain()
        yield self

    @property
    def work(self) -> float:
        """How long it takes beside others: pixels that its steps see."""
        recipe = self.recipe
        return float((recipe.trainer.max_steps + recipe.phase_steps) * recipe.data.samples * recipe.data.crop**2)


@dataclass(frozen=True)
class Planner:
    """Makes runs of rows.

    Attributes:
        scale: ``smoke`` or ``full``.
        identities: What a data set's name stands for, by name: goes into the keys.
        overrides: Keys set for every run whose recipe has them, by the user.
        row_overrides: The same of one row's runs, by its label.
        settings: Whether rows run as the paper prints them or as the released code has them.
    """

    scale: str
    identities: Mapping[str, Any]
    overrides: Mapping[str, str] = field(default_factory=dict)
    row_overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Settings = "printed"

    def run(
        self, table: Table, row: PaperRow, seed: int, column_overrides: Mapping[str, Any] | None = None
    ) -> TrainingRun:
        """Return a row's run, with those it needs.

        Args:
            table: The row's table.
            row: The row.
            seed: The seed of every run.
            column_overrides: Recipe keys of the columns that the run fills.

        Raises:
            RecipeError: A value does not fit its field.
            UnknownNameError: A recipe or key is unknown.
        """
        chosen = dict(self.overrides) | dict(self.row_overrides.get(row.label, {}))
        before = []
        for step in row.before:
            sets = step.sets or (table.dataset,)
            before.append(Prerequisite(step, self._make(step, None, sets, seed, chosen, ())))
        last = Step(row.recipe, dict(row.overrides) | dict(column_overrides or {}))
        return self._make(last, row.like, (table.dataset,), seed, chosen, tuple(before))

    def _make(
        self,
        step: Step,
        like: Step | None,
        sets: tuple[str, ...],
        seed: int,
        chosen: Mapping[str, str],
        before: tuple[Prerequisite, ...],
    ) -> TrainingRun:
        flags = row_flags(step, like, self.settings)
        if self.scale == "smoke":
            flags += working_flags(step.recipe, flags, smoke_overrides(load_row(step.recipe, tuple(flags)), len(sets)))
        recipe = load_row(step.recipe, tuple(flags))
        taken = {key: value for key, value in chosen.items() if _takes(recipe, key)}
        idle = idle_among(step.recipe, flags, taken)
        flags += working_flags(step.recipe, flags, taken)
        recipe = load_row(step.recipe, tuple(flags))
        recipe = replace(recipe, trainer=replace(recipe.trainer, seed=seed))
        for earlier in before:
            recipe = put(recipe, earlier.step.into, None)
        decides = {
            "recipe": recipe_dict(recipe),
            "data": [self.identities[one] for one in sets],
            "before": [(b.step.into, b.step.part, b.run.key) for b in before],
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return TrainingRun(step.recipe, recipe, sets, before, digest[:12], idle)


def _takes(recipe: Recipe, key: str) -> bool:
    """Whether a user's override is for this run: a key that its recipe has; a missing phase keeps its 0 steps."""
    if key not in known_keys(recipe):
        return False
    if key not in ("trainer.max_steps", "losses.phase.steps"):
        return True
    return bool(value_of(recipe, key))
