"""The stages that train and score: `sep`, `teacher`, `adapt`, `distil`, which are all `fit`, and `evaluate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from geodistill.errors import TrainingError
from geodistill.project.stage_job import StageJob, StageResult
from geodistill.project.stage_recipe import in_full, overrides_of, resolved_recipe
from geodistill.project.stage_table import KINDS, kind_of
from geodistill.project.wiring import SIGN, recipe_file

if TYPE_CHECKING:
    from geodistill.methods.schema import Recipe


def run_fit(job: StageJob) -> StageResult:
    """Train a recipe, or take up what is left of a run.

    Raises:
        GeodistillError: As `geodistill.training.fit.fit`.
    """
    recipe, plan = stage_recipe(job)
    result = job.folder / KINDS[kind_of(job.name)].result
    finished = job.resumes and result.is_dir()
    if not finished or job.was_recorded:  # else it was stopped between its last file and its record
        # A result with a file gone is no run that could be continued.
        _fit(recipe, job.folder, restart=finished)
    facts: dict[str, Any] = {"seed": recipe.trainer.seed, "recipe": job.values["recipe"], "steps": recipe.phase_steps}
    facts |= {"plan": plan} if plan else {}
    if "labels" not in recipe.stages:
        return StageResult(f"an encoder, after {recipe.phase_steps} steps", facts)
    from geodistill.description import load_description

    provenance = load_description(result)["provenance"]
    score = provenance["scores"]["validation_miou"]
    facts |= {"validation_miou": score, "best_step": provenance["step"], "steps": recipe.trainer.max_steps}
    said = "no validation split" if score is None else f"validation mIoU {100 * score:.2f}"
    return StageResult(f"{said} at step {provenance['step']} of {recipe.trainer.max_steps}", facts)


def stage_recipe(job: StageJob) -> tuple[Recipe, list[str]]:
    """Return the recipe of a stage, files and other stages' results in full, and how ``student`` was adapted.

    Raises:
        RecipeError: A value cannot be used.
    """
    from geodistill.training.student_plan import accelerator_of, plan_recipe

    project, stage = job.project, job.plan.stage
    recipe = resolved_recipe(project, stage, job.fingerprints)
    files = {key: full for key, value in recipe.items() if (full := in_full(project, key, value)) != value}
    results = {key: _with_results(job, value) for key, value in (overrides_of(stage) | files).items()}
    placed = accelerator_of(job.values.get("device", "auto"))
    return plan_recipe(recipe_file(project, stage.entry), placed | results)


def _with_results(job: StageJob, value: Any) -> Any:
    """Return a value with the path of a stage's result in place of its name."""
    if isinstance(value, list):
        return [_with_results(job, item) for item in value]
    return job.place(value) if isinstance(value, str) and value.startswith(SIGN) else value


def _fit(recipe: Recipe, run: Path, restart: bool) -> None:
    from geodistill.training.fit import fit
    from geodistill.training.recipe import recipe_dict

    if recipe.trainer.devices == 1:
        fit(recipe, run, restart=restart)
        return
    # Lightning starts the other processes by this process's own command line, so that has to be `fit`.
    file = run.parent / "done" / f"{run.name}.recipe.yaml"
    file.write_text(yaml.safe_dump(recipe_dict(recipe), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "geodistill", "fit", str(file), "--out", str(run)]
    status = subprocess.run([*command, *(["--restart"] if restart else [])], check=False).returncode
    if status:
        raise TrainingError(f"training in {run} ended with status {status}", "", "see the lines above")


def run_evaluate(job: StageJob) -> StageResult:
    """Score a model on a split.

    Raises:
        GeodistillError: As `geodistill.evaluation.evaluate.evaluate`.
    """
    from geodistill.evaluation.evaluate import evaluate
    from geodistill.evaluation.evaluate_options import EvaluateOptions

    values = dict(job.values)
    split = values.get("split", "test")
    options = EvaluateOptions(**job.of_options(EvaluateOptions), subset=values.get("classes"))
    scores = evaluate(job.model(), job.place(values["data"]), split, job.folder, options)
    facts = {key: value for key, value in scores.to_dict().items() if key != "confusion"}
    return StageResult(f"mIoU {100 * scores.miou:.2f} on {split}, overall accuracy {100 * scores.oa:.2f}", facts)
