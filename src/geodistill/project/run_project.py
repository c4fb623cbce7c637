"""Run a project: what changed and what depends on it, each stage recorded when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geodistill.errors import GeodistillError, OutputError, RecipeError
from geodistill.extras import installed_versions
from geodistill.files import check_outputs, check_suffix
from geodistill.folders import hold_folder, sweep
from geodistill.lazy import load
from geodistill.project.fingerprints import MEMO, Fingerprints
from geodistill.project.planning import MOVED, Selection, StagePlan, make_plan
from geodistill.project.project_file import ProjectFile, read_project
from geodistill.project.run_summary import write_summary
from geodistill.project.stage_job import StageJob, StageResult
from geodistill.project.stage_records import (
    FOLDER,
    StageRecord,
    begin_stage,
    stamp_outputs,
    write_record,
)
from geodistill.project.stage_table import KINDS
from geodistill.project.wiring import WiredStage, wire

OTHERWISE = "what it takes has come out otherwise"

_SHOWN = ("label", "teacher", "distil", "evaluate", "predict")
"""Kinds of stages that a page can be about."""

_PACKAGES = ("geodistill", "torch", "lightning", "timm", "rasterio", "numpy", "onnx")


def run_project(
    path: Path | str,
    selection: Selection | None = None,
    *,
    dry: bool = False,
    report: Path | str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the stages of a project that changed, and those that depend on them.

    Args:
        path: The project file.
        selection: The stages that are asked for; all by default.
        dry: Say what would run, and why; nothing is run or written.
        report: A page, ``.html``, about all results, written at the end.
        say: Is called with every line for people.

    Returns:
        What ``run.json`` holds; of a dry run, what becomes of each stage.

    Raises:
        BusyError: Another run is at work in the project's folder.
        GeodistillError: The file, a setting, an input or a stage's work is not right; what is done stays done.
    """
    project = read_project(path)
    wired = wire(project)
    if report is not None:
        _check_page(project, wired, Path(report))
    memo = project.out / FOLDER / MEMO
    if dry:
        plans = make_plan(project, wired, selection or Selection(), Fingerprints(memo))
        for plan in plans.values():
            say(str(plan))
        return {name: {"state": plan.state, "reason": plan.reason} for name, plan in plans.items()}
    with hold_folder(project.out, "run"):
        sweep(project.out / FOLDER, locked=True)
        fingerprints = Fingerprints(memo)
        plans = make_plan(project, wired, selection or Selection(), fingerprints)
        fingerprints.save()
        begun = time.monotonic()
        for plan in list(plans.values()):
            try:
                _run_stage(project, wired, plan, plans, fingerprints, say)
            except GeodistillError as error:
                write_summary(project, plans, time.monotonic() - begun, failed=(plan.stage.entry.name, str(error)))
                raise
        summary = write_summary(project, plans, time.monotonic() - begun)
        if report is not None:
            load("geodistill.project.map_stages:write_page")(project, wired, report)
        return summary


def _check_page(project: ProjectFile, stages: Mapping[str, WiredStage], page: Path) -> None:
    """Look at a page's place before anything runs.

    Raises:
        OutputError: It has another suffix, is the project file, or lies in a stage's folder.
        RecipeError: No stage leaves anything that it could show.
    """
    if not any(stage.entry.kind in _SHOWN for stage in stages.values()):
        raise RecipeError(f"a report of {project.path}", f"a stage that it could show: {', '.join(_SHOWN)}")
    check_suffix(page, load("geodistill.report.page:PAGES"))
    check_outputs([page], [project.path])
    for name in stages:
        if (project.out / name).resolve() in page.resolve().parents:
            raise OutputError(f"{page} lies in the folder of stage {name}", "another place", "choose another --report")


def _run_stage(
    project: ProjectFile,
    wired: Mapping[str, WiredStage],
    plan: StagePlan,
    plans: dict[str, StagePlan],
    fingerprints: Fingerprints,
    say: Callable[[str], None],
) -> None:
    """Run a stage where its plan says so, and put what became of it in ``plans``.

    Raises:
        GeodistillError: Its work cannot be done.
    """
    name, kind = plan.stage.entry.name, KINDS[plan.stage.entry.kind]
    taken = {need: _digest(plans[need]) for need in plan.stage.needs}
    if plan.state == "perhaps" and plan.record is not None:
        same = dict(plan.record.taken) == taken
        plan = replace(plan, state="unchanged", reason="") if same else replace(plan, state="runs", reason=OTHERWISE)
    plans[name] = plan
    say(str(plan))
    if plan.parts is None:
        return
    if plan.state == "unchanged" and plan.record is not None and not plan.record.besides:
        # It is of a version that watched less: from now on it is watched as this one does it.
        write_record(project.out, name, replace(plan.record, parts=plan.parts.written, besides=True))
    if plan.state not in ("runs", "resumes"):
        return
    started = time.monotonic()
    resumes = begin_stage(project.out, name, plan.key, taken, plan.record, project.where)
    outcome: StageResult = load(kind.run)(StageJob(project, wired, plan, fingerprints, resumes))
    record = StageRecord(
        key=plan.key,
        parts=asdict(plan.parts),
        outputs=stamp_outputs(project.out, name, plan.record),
        taken=taken,
        facts=outcome.facts,
        seconds=round(time.monotonic() - started, 2),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=installed_versions(*_PACKAGES),
        summary=outcome.summary,
        where=project.where,
        besides=True,
    )
    if (before := plan.record) is not None and (plan.reason == MOVED or record.content == before.content):
        record = replace(record, stands_for=before.digest)
    write_record(project.out, name, record)
    say(f"{name:<12} done in {record.seconds:.1f} s: {outcome.summary}")
    plans[name] = replace(plan, record=record)


def _digest(plan: StagePlan) -> str:
    return plan.key if plan.record is None else plan.record.digest
