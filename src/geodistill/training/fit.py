"""`fit`: a recipe and a data set become a trained Segmenter; an interrupted run continues where it stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only

from geodistill.data.datamodule import DataModule
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import RecipeError, printable
from geodistill.files import check_outputs
from geodistill.lazy import load
from geodistill.methods.method import BuildContext, Method, no_context
from geodistill.methods.schema import Recipe
from geodistill.methods.task import Phase, SegmentationTask
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec
from geodistill.training import folder
from geodistill.training.build import build_method, cached_views, network_spec, open_caches, teacher_configs
from geodistill.training.recipe import recipe_dict
from geodistill.training.resume import ResumePoints, read_checkpoint, saved_step
from geodistill.training.trainer import check_accelerator, make_trainer, quiet_training, run_trainer


@dataclass(frozen=True)
class FitResult:
    """What a run leaves.

    Attributes:
        segmenter: Directory of the Segmenter; of the encoder where there were no steps on labels.
        miou: Validation mIoU in 0..1 of the Segmenter, or ``None`` without a validation split.
        step: Step its weights are from.
        steps: Steps trained in all.
        minutes: Wall time of this call in minutes.
    """

    segmenter: Path
    miou: float | None
    step: int
    steps: int
    minutes: float


def fit(
    recipe: Recipe,
    out: Path | str,
    *,
    data: DataModule | None = None,
    restart: bool = False,
    verbose: bool = False,
    plan: Sequence[str] = (),
) -> FitResult:
    """Train a recipe.

    Leaves in ``out``: ``recipe.yaml``, ``checkpoints/``, ``logs/`` (CSV and TensorBoard), ``pictures/`` and
    ``segmenter/``; a distillation phase leaves ``encoder/`` as well, for ``network.encoder_weights``, and a run on
    several sets ``segmenters/`` with one for each. Called again on an unfinished run with the same recipe, it
    continues from the last resume point.

    Args:
        recipe: What to train; ``recipe.data.manifest`` names the data.
        out: Directory of the run.
        data: Datasets of tensors to train on instead, as `DataModule.of_datasets` makes them; the recipe's ``data`` is
            then that of the module.
        restart: Overwrite an earlier run in ``out``.
        verbose: Show library logs.
        plan: Lines to show when the run begins, see `plan_recipe`.

    Raises:
        RecipeError: ``out`` holds a run of another recipe, or a finished one, and ``restart`` is not given; or the
            recipe asks for what needs a manifest.
        TrainingError: A loss term is not finite.
        OutputError: ``out`` cannot be written.
    """
    started, run = time.monotonic(), Path(out)
    with quiet_training(verbose):
        folder.refuse_other_folders(run, restart)
        check_accelerator(recipe.trainer)
        if not recipe.stages:
            raise RecipeError("trainer.max_steps 0 without a phase before the labels", "at least 1 step of either")
        if data is not None:
            recipe = replace(recipe, data=data.config)
            _refuse_without_manifest(recipe)
        elif recipe.data.batch_size == "auto":
            recipe = load("geodistill.training.batch_size:with_batch_size")(recipe, run, restart)
        lightning.seed_everything(recipe.trainer.seed, verbose=False)
        if data is None:
            data = open_data(recipe)
        _refuse_inputs(run, recipe, data)
        resumes = (run / folder.CHECKPOINTS / "last.ckpt").is_file() and not restart
        method, task, notes = prepare(recipe, data, begins=not resumes)
        if not plan and recipe.data.unlabelled and method.phase is None and not method.uses_unlabelled():
            notes.append("images without labels: left aside, as no loss term learns from them")
        if not resumes and data.config.samples == 1 and not data.sets:  # several sets are at least as many images
            load("geodistill.training.trial:try_batch_of_one")(task, method, data)
        with folder.held_run(run):
            folder.prepare_run(run, recipe, restart, lambda: folder.describe_inputs(recipe, data))
            caches = open_caches(teacher_configs(recipe), method.teachers, data, recipe.trainer.accelerator)
            for line in [*plan, *notes, *caches]:
                rank_zero_only(print)(printable(line), file=sys.stderr)  # it may hold names of classes
            return _train(run, recipe, method, task, data, started)


def prepare(recipe: Recipe, data: DataModule, begins: bool = True) -> tuple[Method, SegmentationTask, list[str]]:
    """Build the method of a recipe for its data, and the task of the steps on labels, whose draws begin.

    Args:
        recipe: What to train.
        data: Its data.
        begins: Whether the run begins, with the weights of ``recipe.init`` where it names any, and does not go on.

    Returns:
        Method, task, and what a user should know before the first step, one line each.

    Raises:
        GeodistillError: Parts do not fit each other, or something is not available.
    """
    spec, note = network_spec(recipe, data.spec, begins)
    sets = {name: replace(each, mean=spec.mean, std=spec.std) for name, each in data.sets.items()}
    statistics = data.manifest.statistics
    pixels = () if statistics is None else statistics.class_pixels.get("train", ())
    context = BuildContext(spec, rows=data.rows, sets=sets, class_pixels=pixels, data_spec=data.spec)
    method = build_method(recipe, context)
    _refuse_uncalibrated(recipe, data, method)
    notes = [*data.notes, *method.notes, *([] if note is None else [note])]
    if recipe.init is not None and begins:  # else the weights to begin with are long left behind
        notes += load("geodistill.training.warm_start:warm_start")(recipe.init, method, spec).lines()
    _restart_data(data, recipe, method)
    return method, _make_task(recipe, method, spec, sets), notes


def _make_task(recipe: Recipe, method: Method, spec: Spec, sets: Mapping[str, Spec]) -> SegmentationTask:
    """Return the task of a recipe's steps on labels.

    Args:
        recipe: What to train.
        method: Built for it.
        spec: Of the network: classes, bands and what its input is normalised by.
        sets: The same of each data set by name, where there are several.

    Raises:
        RecipeError: The encoder cannot stand still, or a teacher lacks the averaged weights.
    """
    config, data = recipe.trainer, recipe.data
    mixing = load("geodistill.data.mix_images:Mixing")(data.mix, data.mix_kind) if data.mix else None
    average = None
    if config.ema is not None or config.average_last is not None:
        kinds = load("geodistill.nn.averaging:choose_average")
        average = kinds(config.ema, config.ema_warmup, config.average_last, config.save_every_steps)
    return SegmentationTask(
        method,
        spec,
        recipe.optimizer.for_batch(data.samples * config.devices * config.accumulate),
        recipe.schedule,
        config.max_steps,
        config.gradient_norms_every,
        sets,
        average=average,
        mixing=mixing,
    )


def _restart_data(data: DataModule, recipe: Recipe, method: Method) -> None:
    """Begin the draws of a recipe's steps on labels."""
    batches = recipe.trainer.max_steps * recipe.trainer.accumulate
    data.restart(method.uses_unlabelled(), method.objective.wants_plain, batches)


def open_data(recipe: Recipe) -> DataModule:
    """Return the recipe's data, in a few views of each sample where a teacher's outputs are kept.

    Where no step is on labels, masks are not read and unlabelled images will do.
    """
    return DataModule(
        recipe.data,
        seed=recipe.trainer.seed,
        views=cached_views(recipe),
        labels="labels" in recipe.stages,
        processes=recipe.trainer.devices,
    )


def _refuse_without_manifest(recipe: Recipe) -> None:
    """Refuse what datasets of tensors cannot serve.

    Raises:
        RecipeError: The recipe asks for it.
    """
    if cached_views(recipe) is not None:
        raise RecipeError("teacher.cache with datasets of tensors", "a manifest, whose views can be kept")
    if recipe.trainer.devices > 1:
        raise RecipeError(f"trainer.devices {recipe.trainer.devices} with datasets of tensors", "a manifest, or 1")
    if recipe.data.batch_size == "auto":
        raise RecipeError("data.batch_size auto with datasets of tensors", "a manifest, or a number")


def _refuse_uncalibrated(recipe: Recipe, data: DataModule, method: Method) -> None:
    """Refuse a temperature that cannot be fitted, before anything is trained.

    Raises:
        RecipeError: There is nothing to fit it to, or the network takes more than images.
    """
    if not recipe.trainer.calibrate:
        return
    if data.sets or not data.manifest.rows("val"):
        raise RecipeError("trainer.calibrate without validation images", "one data set with a val split")
    if method.context is not no_context:
        raise RecipeError(f"trainer.calibrate with {recipe.method}, which reads places", "a network of images alone")


def _refuse_inputs(run: Path, recipe: Recipe, data: DataModule) -> None:
    """Refuse a folder in which a run would write over what it reads.

    Raises:
        OutputError: It would.
    """
    inside = str(run.resolve())
    images = (path for row in data.manifest.entries for path in (row.image, row.mask) if path is not None)
    near = [path for path in images if str(path).startswith(inside)]  # of 100,000 images none may be looked up
    named = [path for paths in folder.named_files(recipe).values() for path in paths]
    outputs = [run / "recipe.yaml", *(run / "segmenter" / name for name in (DESCRIPTION, WEIGHTS))]
    outputs += [run / "encoder" / name for name in ("config.json", "model.safetensors")]
    check_outputs(outputs, [*named, *near])


def _train(
    run: Path, recipe: Recipe, method: Method, task: SegmentationTask, data: DataModule, started: float
) -> FitResult:
    """Run what is left of the phase and of the steps on labels, and save what was learnt."""
    checkpoints, identity = run / folder.CHECKPOINTS, folder.run_identity(recipe, run)
    last = checkpoints / "last.ckpt"
    start_step = saved_step(last, identity)  # the file is checked before anything else is done
    if method.phase is not None and not last.is_file():
        _run_phase(method.phase, recipe, run, data)
        _restart_data(data, recipe, method)
    if "labels" not in recipe.stages:
        steps, minutes = recipe.phase_steps, (time.monotonic() - started) / 60
        return FitResult(run / "encoder", None, steps, steps, minutes)
    config = recipe.trainer
    # Without a validation split the last weights count as the best.
    validated = min(config.val_every_steps, config.max_steps) if data.manifest.rows("val") else None
    points = ResumePoints(checkpoints, "last", config.save_every_steps, validated)
    trainer = make_trainer(recipe, run, start_step, points, callbacks=method.callbacks)
    run_trainer(trainer, task, data, last)
    for line in method.objective.lines():
        rank_zero_only(print)(printable(line), file=sys.stderr)
    return _save_outcome(run, recipe, method, task, data, points, started)


def _run_phase(phase: Phase, recipe: Recipe, run: Path, data: DataModule) -> None:
    """Run what comes before the main training, or take its weights where it has been run already.

    It learns from images alone, so that it draws the unlabelled ones whatever the steps on labels do.
    """
    data.restart(unlabelled=True)
    checkpoint = run / folder.CHECKPOINTS / f"{phase.name}.ckpt"
    step = saved_step(checkpoint, folder.run_identity(recipe, run))
    phase.to(memory_format=torch.channels_last)
    points = ResumePoints(checkpoint.parent, phase.name, min(recipe.trainer.save_every_steps, phase.steps))
    trainer = make_trainer(recipe, run, step, points, phase)
    run_trainer(trainer, phase, data, checkpoint)
    if step < phase.steps:
        trainer.save_checkpoint(checkpoint)
    if trainer.is_global_zero:
        phase.finish(run)


def _save_outcome(
    run: Path,
    recipe: Recipe,
    method: Method,
    task: SegmentationTask,
    data: DataModule,
    points: ResumePoints,
    started: float,
) -> FitResult:
    """Write the best weights, or the last where nothing was validated, as a Segmenter directory.

    Raises:
        ArtifactError: The checkpoint of the best weights was altered.
        OutputError: A Segmenter cannot be written.
    """
    trainer = task.trainer
    averaged = task.averaged is not None
    weights, score, step, set_miou = task.network_weights(averaged=averaged), None, trainer.global_step, task.set_miou
    if points.best is not None:
        saved = read_checkpoint(points.folder / points.best.name, folder.run_identity(recipe, run))
        averaged, score, step = points.best.averaged, points.best.score, int(saved["global_step"])
        weights = task.network_weights(saved["state_dict"], averaged)
        set_miou = saved["set_miou"]
    weights = method.complete(weights)
    minutes = (time.monotonic() - started) / 60
    sources = recipe.data.sources()
    provenance = {
        "recipe": recipe_dict(recipe),
        "manifest": ", ".join(source.manifest for source in sources.values()),
        "scores": {"validation_miou": score},
        "step": step,
        **({"weights": "averaged"} if averaged else {}),
        **({"notes": lines} if (lines := method.objective.lines()) else {}),
        "versions": {name: version(name) for name in ("geodistill", "torch", "timm", "segmentation-models-pytorch")},
    }
    parts = (method.name, method.arguments, task.spec, weights, recipe.data.crop, provenance)
    segmenter = Segmenter.from_network(*parts, recipe.trainer.predict_scales)
    if trainer.is_global_zero:
        if recipe.trainer.calibrate:
            calibrate = load("geodistill.training.calibration:calibrate")
            calibrate(segmenter, data.whole_val_dataloader(), task.device)
        if "" not in sources:  # they have names: each gets a Segmenter
            save_segmenters = load("geodistill.training.set_segmenters:save_set_segmenters")
            save_segmenters(run / "segmenters", segmenter, sources, task.sets, set_miou)
        segmenter.save(run / "segmenter")
    return FitResult(run / "segmenter", score, step, trainer.global_step, minutes)
