"""What is to be run, and why: decided for every stage before any runs, so that ``--dry`` can say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geodistill.errors import OutputError, UnknownNameError
from geodistill.files import check_folder
from geodistill.lazy import load
from geodistill.project.fingerprints import Fingerprints
from geodistill.project.project_file import ProjectFile, is_hub_id
from geodistill.project.stage_keys import KeyParts, key_parts
from geodistill.project.stage_records import StageRecord, changed_output, read_record, started_as
from geodistill.project.stage_table import KINDS, kind_of
from geodistill.project.wiring import WiredStage

MOVED = "the project was copied or moved"

State = Literal["given", "unchanged", "left out", "perhaps", "resumes", "runs"]
"""What becomes of a stage; ``perhaps``: it runs unless what it takes comes out as it was."""


@dataclass(frozen=True)
class StagePlan:
    """What becomes of a stage.

    Attributes:
        stage: The stage.
        state: What becomes of it.
        reason: Why.
        parts: What its key is made of; ``None`` where it is left out.
        key: Its key.
        record: What is written down of it, where it was done.
    """

    stage: WiredStage
    state: State
    reason: str
    parts: KeyParts | None
    key: str
    record: StageRecord | None = None

    def __str__(self) -> str:
        said = "didn't change, skipping" if self.state == "unchanged" else self.state
        return f"{self.stage.entry.name:<12} {said}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True)
class Selection:
    """The stages that are asked for; all where nothing is said.

    Attributes:
        until: Stop behind this one: it, and all that it takes.
        start: Begin with this one: it, and all that takes from it; what it takes is used as it is.
        only: This one alone; what it takes is used as it is.
    """

    until: str | None = None
    start: str | None = None
    only: str | None = None

    def names(self, wired: Mapping[str, WiredStage]) -> set[str]:
        """Return the names of the stages asked for.

        Raises:
            UnknownNameError: There is no such stage.
        """
        for name in (self.until, self.start, self.only):
            if name is not None and name not in wired:
                raise UnknownNameError("stage", name, wired)
        chosen = set(wired)
        if self.until is not None:
            chosen &= _before(self.until, wired)
        if self.start is not None:
            chosen &= {name for name in wired if self.start in _before(name, wired)}
        return chosen & {self.only} if self.only is not None else chosen


def _before(name: str, wired: Mapping[str, WiredStage]) -> set[str]:
    """Return a stage and all that must be done before it."""
    reached, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += [*wired[one].needs, *wired[one].after]
    return reached


def make_plan(
    project: ProjectFile, wired: Mapping[str, WiredStage], selection: Selection, fingerprints: Fingerprints
) -> dict[str, StagePlan]:
    """Return what becomes of every stage, in the order in which they run.

    Raises:
        DataError: An input is not there.
        OutputError: An output was altered by hand, what a stage takes is not done, or results would lie in an input.
        GeodistillError: A setting cannot be used.
    """
    chosen = selection.names(wired)
    plans: dict[str, StagePlan] = {}
    for name, stage in wired.items():
        record = read_record(project.out, name)
        if name not in chosen and not stage.entry.given:
            users = [other for other in chosen if name in wired[other].needs]
            if users and record is None:
                raise OutputError(f"stage {name}, which {users[0]} takes, is not done", "its result", f"run {name} too")
            if users and record is not None and (changed := changed_output(project.out, name, record)):
                raise OutputError(f"stage {name}, which {users[0]} takes: {changed}", "", f"run {name} too")
            plans[name] = StagePlan(stage, "left out", "", None, record.key if record else "", record)
            continue
        keys = {before: plan.key for before, plan in plans.items()}
        parts = key_parts(project, stage, keys, fingerprints)
        check_folder(project.out, [project.resolve(file) for file, digest in parts.files.items() if digest])
        if stage.entry.given:
            plans[name] = StagePlan(stage, "given", stage.entry.given, parts, parts.key)
            continue
        key = _key(project.out, parts, record)
        state, reason = _decide(project, stage, parts, key, record, plans)
        plans[name] = StagePlan(stage, state, reason, parts, key, record)
    return plans


def _key(out: Path, parts: KeyParts, record: StageRecord | None) -> str:
    """Return the key of a stage: where its result is of a version that watched less, the one that it has."""
    if record is not None:
        forms = (parts,) if record.besides else (parts, *parts.former)
        return record.key if record.parts in [form.written for form in forms] else parts.key
    begun = started_as(out, parts.stage)[0]
    return begun if begun in [each.key for each in parts.former] else parts.key


def _decide(
    project: ProjectFile,
    stage: WiredStage,
    parts: KeyParts,
    key: str,
    record: StageRecord | None,
    plans: Mapping[str, StagePlan],
) -> tuple[State, str]:
    name = stage.entry.name
    if record is None:
        begun, _, where = started_as(project.out, name)
        if begun == key and where in ("", project.where):
            return "resumes", "it was stopped"
        if begun == key:
            return "runs", f"{MOVED} while it was not done"
        return "runs", "it was begun with other settings, inputs or versions" if begun else "it is not done yet"
    changed = changed_output(project.out, name, record)
    if record.key != key:
        runs = [need for need in stage.needs if plans[need].state in ("runs", "resumes")]
        return "runs", parts.difference(record.parts) if not runs else f"{', '.join(runs)} runs"
    for need in stage.needs:
        now = plans[need].record
        if now is not None and record.taken.get(need, now.digest) != now.digest:
            return "runs", f"{need} has come out otherwise since"
    if changed is not None:
        return "runs", changed
    moved = KINDS[stage.entry.kind].moved
    if moved and load(moved)(project, stage.settings, project.out / name):
        return "runs", MOVED
    again = [need for need in stage.needs if plans[need].state in ("runs", "resumes", "perhaps")]
    if again:
        *others, last = again
        named = f"{', '.join(others)} and {last} come" if others else f"{last} comes"
        return "perhaps", f"unless {named} out as before"
    return "unchanged", ""


def result_of(project: ProjectFile, wired: Mapping[str, WiredStage], name: str) -> str:
    """Return the path of what other stages take of one."""
    entry = wired[name].entry
    if entry.given:
        path = project.resolve(entry.given)
        return entry.given if KINDS[entry.kind].is_fit and is_hub_id(entry.given) and not Path(path).exists() else path
    return str(project.out / name / KINDS[kind_of(name)].result)
