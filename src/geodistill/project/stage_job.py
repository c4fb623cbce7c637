"""What a stage is handed when it is run, and what it hands back."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from geodistill.project.fingerprints import Fingerprints, stamp_file
from geodistill.project.planning import StagePlan, result_of
from geodistill.project.project_file import ProjectFile, is_hub_id, typed_values
from geodistill.project.stage_table import KINDS, key_types, kind_of
from geodistill.project.wiring import SIGN, WiredStage


@dataclass(frozen=True)
class StageResult:
    """What a finished stage says of itself.

    Attributes:
        summary: One line for people.
        facts: Figures, JSON-ready.
    """

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageJob:
    """A stage to be run.

    Attributes:
        project: The project.
        wired: All its stages.
        plan: What becomes of this one.
        fingerprints: Of files from outside, with the recipes as they were read.
        resumes: Whether the folder holds a part of this result, or all of it but what was removed.
    """

    project: ProjectFile
    wired: Mapping[str, WiredStage]
    plan: StagePlan
    fingerprints: Fingerprints
    resumes: bool

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.plan.stage.entry.name

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return self.project.out / self.name

    @property
    def was_recorded(self) -> bool:
        """Whether it has been done once."""
        return self.plan.record is not None

    def is_as_recorded(self, file: str) -> bool:
        """Whether a file of its folder has the content that it had when the stage was last done."""
        before = None if self.plan.record is None else self.plan.record.outputs.get(file)
        return before is not None and stamp_file(self.folder / file)[2] == before[2]

    @cached_property
    def values(self) -> dict[str, Any]:
        """Its settings, each of the type of its key; of a stage of training, those that are no recipe's."""
        kind = kind_of(self.name)
        types, settings = key_types(kind), self.plan.stage.settings
        known = settings if not KINDS[kind].is_fit else {key: settings[key] for key in types if key in settings}
        return typed_values(known, types, self.name)

    def of_options(self, options: type[Any], but: Container[str] = ()) -> dict[str, Any]:
        """Return those of the values that are fields of a dataclass."""
        known = {name for name in options.__dataclass_fields__ if name not in but}
        return {key: value for key, value in self.values.items() if key in known}

    def place(self, value: str) -> str:
        """Return the path or address that a value names: another stage's result, or one from outside."""
        if value.startswith(SIGN):
            return result_of(self.project, self.wired, value.removeprefix(SIGN))
        return self.project.resolve(value)

    def places(self, value: str | tuple[str, ...]) -> list[str]:
        """Return the paths of one value or several."""
        return [self.place(item) for item in ([value] if isinstance(value, str) else value)]

    def model(self) -> str:
        """Return the model that it takes: the run of another stage, a path, or a hub id as it is written."""
        value = str(self.plan.stage.settings["model"])
        if value.startswith(SIGN) and not self.wired[value.removeprefix(SIGN)].entry.given:
            return str(self.project.out / value.removeprefix(SIGN))
        path = self.place(value)
        return path if value.startswith(SIGN) or Path(path).exists() or not is_hub_id(value) else value
