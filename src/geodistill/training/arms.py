"""Several ways of training on one data set, at an equal budget and over several seeds: which pays here?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.data.manifest import Manifest
from geodistill.description import DESCRIPTION
from geodistill.errors import DataError, RecipeError
from geodistill.evaluation.evaluate import place_counts
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.verdict import ArmRun, Verdict, compare_runs
from geodistill.files import write_json
from geodistill.lazy import load
from geodistill.methods.schema import Recipe
from geodistill.reading import read_object
from geodistill.training import folder
from geodistill.training.batch_size import with_batch_size
from geodistill.training.fit import fit, open_data
from geodistill.training.recipe import load_recipe
from geodistill.training.student_plan import accelerator_of, plan_recipe, start_line
from geodistill.training.trainer import check_accelerator


@dataclass(frozen=True)
class ArmsOptions:
    """What is trained and how it is scored.

    Attributes:
        manifest: The data set, for all arms.
        seeds: Each arm is trained with each.
        steps: Optimiser steps of each run, those before the labels among them; the first arm's where not given.
        minutes: Wall time after which every run ends, besides; no limit where not given.
        split: What is scored.
        device: What all train on and are scored on, ``cpu``, ``cuda`` ...; ``auto`` leaves training to the recipes.

    Raises:
        RecipeError: There are no seeds, or one repeats, or a budget is not above 0, or the device is one of several.
    """

    manifest: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int | None = None
    minutes: float | None = None
    split: str = "test"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds {list(self.seeds)}", "one or more, each once")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise RecipeError(f"{self.steps} steps, {self.minutes} minutes", "more than 0")
        if self.device.partition(":")[2] not in ("", "0"):  # training takes the first of its kind
            mend = "choose one of several with CUDA_VISIBLE_DEVICES"
            raise RecipeError(f"device {self.device!r} to train on", "a kind of device, such as cuda", mend)


def compare_arms(
    arms: Sequence[str], out: Path, options: ArmsOptions, say: Callable[[str], None] | None = None
) -> Verdict:
    """Train each arm with each seed, score it, and compare; called again, it goes on where it was stopped.

    Leaves in ``out`` a run for each arm and seed, with what was counted in ``counts.json``, and
    ``verdict.json`` and ``verdict.png``.

    Args:
        arms: Recipes, by file or shipped name; the first is what the others are compared with.
        out: Directory of the runs.
        options: Data and budget.
        say: Takes a line for each run that begins or ends.

    Raises:
        RecipeError: There are fewer than two arms, or two of one name, or a budget is too small for an arm, or this
            machine lacks the device.
        DataError: The data cannot be trained on or scored.
        OutputError: ``out`` cannot be written.
    """
    names = [Path(arm).stem for arm in arms]
    if len(arms) < 2 or len(set(names)) < len(names):
        raise RecipeError(f"the arms {', '.join(arms)}", "two or more recipes of different names")
    manifest = Manifest.load(options.manifest)
    manifest.some_rows(options.split)
    given: dict[str, Any] = {"data.manifest": str(options.manifest), **accelerator_of(options.device)}
    if options.minutes is not None:
        given["trainer.max_hours"] = options.minutes / 60
    read = [load_recipe(arm, given, idle=True) for arm in arms]
    steps = options.steps or read[0].phase_steps + read[0].trainer.max_steps
    plans = {
        name: _plan_within(arm, given, steps, recipe.phase_steps)
        for name, arm, recipe in zip(names, arms, read, strict=True)
    }
    recipes = {name: recipe for name, (recipe, _) in plans.items()}
    starts = {name: lines[0] if lines else start_line(recipe) for name, (recipe, lines) in plans.items()}
    for name, recipe in recipes.items():
        if not all(folder.is_finished(out / f"{name}-{seed}", recipe) for seed in options.seeds):
            check_accelerator(recipe.trainer)
    runs: dict[str, list[ArmRun]] = {name: [] for name in names}
    say = say or (lambda line: None)
    for name, line in starts.items():
        say(f"{name}, {line}")
    for seed in options.seeds:  # arms in turn, so that a slow hour of the machine slows all
        for name, recipe in recipes.items():
            say(f"{name}, seed {seed}: {steps:,} steps")
            planned = ("schedule.warmup_steps",) if plans[name][1] else ()  # cut otherwise by an earlier version
            runs[name].append(_run(recipe, out / f"{name}-{seed}", seed, manifest, options, say, planned))
            say(f"{name}, seed {seed}: done in {runs[name][-1].minutes:.1f} minutes")
    budget = f"{steps:,} steps each" + ("" if options.minutes is None else f", at most {options.minutes:g} minutes")
    classes = range(0 if manifest.legend is None else len(manifest.legend))
    verdict = replace(compare_runs(runs, classes, budget), starts=starts)
    write_json(out / "verdict.json", verdict.to_dict())
    load("geodistill.evaluation.verdict_picture:verdict_picture")(verdict, out / "verdict.png")
    return verdict


def _plan_within(arm: str, given: Mapping[str, Any], steps: int, before: int) -> tuple[Recipe, list[str]]:
    """Plan an arm with its steps on labels cut or drawn out to the budget, which other settings follow from."""
    if steps <= before:
        raise RecipeError(f"{steps} steps for a recipe with {before} before the labels", "more than those")
    return plan_recipe(arm, {**given, "trainer.max_steps": steps - before})


def seconds_before(run: Path, clock: Path) -> float:
    """Return how long the calls that were stopped took up to the resume point that a run goes on from, or to its end.

    What they did behind it is done again, and counts then.

    Args:
        run: Directory of the run.
        clock: Written as the last of those calls began: the seconds of the calls before it. Without it there was one
            call, which began as it wrote the recipe.
    """
    points = [path for path in (run / folder.CHECKPOINTS).glob("*.ckpt") if not path.name.startswith("best-")]
    points += run.glob(f"segmenter/{DESCRIPTION}")
    begun = clock if clock.is_file() else run / folder.RECIPE
    if not points or not begun.is_file():
        return 0.0
    seconds = read_object(clock).get("seconds") if begun == clock else 0.0
    if not isinstance(seconds, int | float):
        raise DataError(f"{clock} with other values", "the seconds of a run so far", f"remove it and {run}")
    # By the clock of the file system, whatever that of this machine.
    return seconds + max(*(path.stat().st_mtime - begun.stat().st_mtime for path in points), 0.0)


_RECOUNT = "remove it, and call again: the run stays, and is scored again"


def _run(
    recipe: Recipe,
    run: Path,
    seed: int,
    manifest: Manifest,
    options: ArmsOptions,
    say: Callable[[str], None],
    planned: Sequence[str],
) -> ArmRun:
    """Train and score, as far as that is not done on the images and masks as they are now.

    A finished run may have other values of ``planned`` keys.
    """
    kept, clock = run / "counts.json", run.with_name(f"{run.name}.clock.json")
    recipe = replace(recipe, trainer=replace(recipe.trainer, seed=seed))
    finished = folder.is_finished(run, recipe)
    if finished or kept.is_file():
        if recipe.data.batch_size == "auto":
            recipe = with_batch_size(recipe, run, restart=False)
        folder.refuse_other_run(
            run, recipe, lambda: folder.describe_inputs(recipe, open_data(recipe)), "name another --out", planned
        )
    if not kept.is_file():
        seconds = seconds_before(run, clock)
        if not finished:
            write_json(clock, {"seconds": seconds})
            seconds += 60 * fit(recipe, run).minutes
        # Stamps of a copied run may all be one; arms are compared by their times.
        write_json(kept, {"minutes": max(seconds, 1.0) / 60, "counts": {}})
        clock.unlink(missing_ok=True)
    try:
        about = read_object(kept)
    except DataError as error:
        raise DataError(error.received, error.expected, _RECOUNT) from error
    stamps = json.dumps(folder.image_stamps(manifest.rows(options.split)))
    scored = {"split": options.split, "images": hashlib.sha256(stamps.encode()).hexdigest()[:16]}
    if not about.get("counts") or {key: about.get(key) for key in scored} != scored:
        if about.get("counts") and about.get("split") == options.split:
            say(f"{run.name}: scored again, as images or masks of {options.split} may have changed")
        counts = place_counts(run, manifest, options.split, EvaluateOptions(device=options.device))
        about |= {**scored, "counts": {place: matrix.tolist() for place, matrix in counts.items()}}
        write_json(kept, about)
    try:
        matrices = {place: np.array(matrix, np.int64) for place, matrix in about["counts"].items()}
        return ArmRun(seed, float(about["minutes"]), matrices)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{kept} with other values", "what was counted", _RECOUNT) from error
