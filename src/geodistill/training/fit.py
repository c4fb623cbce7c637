"""`fit`: a recipe and a manifest become a trained Segmenter; an interrupted run continues where it stopped."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from geodistill.data.datamodule import DataModule
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import GeodistillWarning, RecipeError, output_error
from geodistill.lazy import load
from geodistill.methods.method import Method
from geodistill.methods.schema import BuildContext, Recipe
from geodistill.methods.task import Phase, SegmentationTask
from geodistill.outputs import check_outputs
from geodistill.training.build import build_method, cached_views, network_spec, open_caches, teacher_configs
from geodistill.training.callbacks import ProgressLine, SeedSteps, ValidationPictures
from geodistill.training.folder import (
    CHECKPOINTS,
    describe_inputs,
    held_run,
    named_files,
    prepare_run,
    refuse_other_folders,
    run_identity,
)
from geodistill.training.outcome import FitResult, save_outcome
from geodistill.training.resume import LOG_EVERY, Patience, ResumePoints, SafeCheckpointIO, saved_step
from geodistill.training.trial import one_value_error, try_batch_of_one


def fit(recipe: Recipe, out: Path | str, *, restart: bool = False, verbose: bool = False) -> FitResult:
    """Train a recipe.

    Leaves in ``out``: ``recipe.yaml``, ``checkpoints/``, ``logs/`` (CSV and TensorBoard), ``pictures/`` and
    ``segmenter/``; a distillation phase leaves ``encoder/`` as well, for ``network.encoder_weights``, and a run on
    several sets ``segmenters/`` with one for each. Called again on an unfinished run with the same recipe, it
    continues from the last resume point.

    Args:
        recipe: What to train; ``recipe.data.manifest`` names the data.
        out: Directory of the run.
        restart: Overwrite an earlier run in ``out``.
        verbose: Show library logs.

    Raises:
        RecipeError: ``out`` holds a run of another recipe, or a finished one, and ``restart`` is not given.
        TrainingError: A loss term is not finite.
        OutputError: ``out`` cannot be written.
    """
    started, run = time.monotonic(), Path(out)
    with quiet_libraries(verbose):
        lightning.seed_everything(recipe.trainer.seed, verbose=False)
        refuse_other_folders(run, restart)
        if not recipe.stages:
            raise RecipeError("trainer.max_steps 0 without a phase before the labels", "at least 1 step of either")
        data = make_data(recipe)
        _refuse_inputs(run, recipe, data)
        rows = (*data.manifest.rows("train"), *data.manifest.rows("val"))
        spec, note = network_spec(recipe, data.spec)
        sets = {name: replace(each, mean=spec.mean, std=spec.std) for name, each in data.sets.items()}
        method = build_method(recipe, BuildContext(spec, rows=rows, sets=sets, data_spec=data.spec))
        last = run / CHECKPOINTS / "last.ckpt"
        resumes = last.is_file() and not restart  # then the weights to begin with are long left behind
        start = (
            None
            if recipe.init is None or resumes
            else load("geodistill.training.warm_start:warm_start")(recipe.init, method, spec)
        )
        data.restart(unlabelled=method.uses_unlabelled())
        task = SegmentationTask(
            method,
            spec,
            recipe.optimizer,
            recipe.schedule,
            recipe.trainer.max_steps,
            recipe.trainer.gradient_norms_every,
            sets,
        )
        if not resumes:
            try_batch_of_one(task, method, data)
        with held_run(run):
            prepare_run(run, recipe, restart, lambda: describe_inputs(recipe, data))
            lines = [*data.notes, *([] if note is None else [note]), *([] if start is None else start.lines())]
            for line in lines + open_caches(teacher_configs(recipe), method.teachers, data, recipe.trainer.accelerator):
                rank_zero_only(print)(line, file=sys.stderr)
            return _train(run, recipe, method, task, data, started)


def _train(
    run: Path,
    recipe: Recipe,
    method: Method,
    task: SegmentationTask,
    data: DataModule,
    started: float,
) -> FitResult:
    """Run what is left of the phase and of the steps on labels, and save what was learnt."""
    last, identity = run / CHECKPOINTS / "last.ckpt", run_identity(recipe)
    start_step = saved_step(last, identity)  # the file is checked before anything else is done
    if method.phase is not None and not last.is_file():
        run_phase(method.phase, recipe, run, data)
        data.restart(unlabelled=method.uses_unlabelled())
    if "labels" not in recipe.stages:
        steps, minutes = recipe.phase_steps, (time.monotonic() - started) / 60
        return FitResult(run / "encoder", None, steps, steps, minutes)
    points = resume_points(recipe, run, validates=bool(data.manifest.rows("val")))
    trainer = make_trainer(recipe, run, start_step, points)
    run_trainer(trainer, task, data, last)
    return save_outcome(run, recipe, method, task, points, started)


def _refuse_inputs(run: Path, recipe: Recipe, data: DataModule) -> None:
    """Refuse a folder in which a run would write over what it reads.

    Raises:
        OutputError: It would.
    """
    inside = str(run.resolve())
    images = (path for row in data.manifest.entries for path in (row.image, row.mask) if path is not None)
    near = [path for path in images if str(path).startswith(inside)]  # of 100,000 images none may be looked up
    named = [path for paths in named_files(recipe).values() for path in paths]
    outputs = [run / "recipe.yaml", *(run / "segmenter" / name for name in (DESCRIPTION, WEIGHTS))]
    outputs += [run / "encoder" / name for name in ("config.json", "model.safetensors")]
    check_outputs(outputs, [*named, *near])


def make_data(recipe: Recipe) -> DataModule:
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


def run_phase(phase: Phase, recipe: Recipe, run: Path, data: DataModule) -> None:
    """Run what comes before the main training, or take its weights where it has been run already.

    It learns from images alone, so that it draws the unlabelled ones whatever the steps on labels do.
    """
    data.restart(unlabelled=True)
    identity = run_identity(recipe)
    checkpoint = run / CHECKPOINTS / f"{phase.name}.ckpt"
    step = saved_step(checkpoint, identity)
    phase.to(memory_format=torch.channels_last)
    config = recipe.trainer
    trainer = lightning.Trainer(
        **_machine(recipe),
        max_steps=phase.steps,
        limit_val_batches=0,
        logger=_loggers(run / "logs" / phase.name, step),
        callbacks=[
            ResumePoints(checkpoint.parent, phase.name, min(config.save_every_steps, phase.steps)),
            SeedSteps(config.seed),
            ProgressLine(f"{phase.name} {run.name}"),
        ],
    )
    run_trainer(trainer, phase, data, checkpoint)
    if step < phase.steps:
        trainer.save_checkpoint(checkpoint)
    if trainer.is_global_zero:
        phase.finish(run)


def run_trainer(
    trainer: lightning.Trainer, task: lightning.LightningModule, data: lightning.LightningDataModule, checkpoint: Path
) -> None:
    """Train from a resume point, where there is one, to the end.

    Raises:
        KeyboardInterrupt: The user stopped it.
    """
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
    except SystemExit as stopped:
        # Lightning ends the process on Ctrl-C; the command line has its own way to say so.
        raise KeyboardInterrupt from stopped
    except OSError as error:  # of the logs: pixels and checkpoints have their own errors
        raise output_error(checkpoint.parent.parent, error) from error
    except ValueError as error:
        if refusal := one_value_error(error):
            raise refusal from error
        raise


def resume_points(recipe: Recipe, run: Path, validates: bool) -> ResumePoints:
    """Return what saves the steps on labels.

    Args:
        recipe: What is trained.
        run: Directory of the run.
        validates: Whether there is a validation split; without one the last weights count as the best.
    """
    config = recipe.trainer
    every_look = min(config.val_every_steps, config.max_steps) if validates else None
    return ResumePoints(run / CHECKPOINTS, "last", config.save_every_steps, every_look)


def make_trainer(recipe: Recipe, run: Path, start_step: int, points: ResumePoints) -> lightning.Trainer:
    """Return Lightning's Trainer with checkpoints, early stop, CSV and TensorBoard logs and one progress line.

    Args:
        recipe: What is trained.
        run: Directory of the run.
        start_step: Step it resumes from; the logs of each call get a folder of their own.
        points: What saves it, and knows when it is validated.
    """
    config, validates = recipe.trainer, points.validated is not None
    callbacks: list[Callback] = [points, SeedSteps(config.seed), ProgressLine(f"fit {run.name}")]
    if validates and config.patience is not None:
        callbacks.append(Patience(config.patience))
    if validates and config.pictures:
        callbacks.append(ValidationPictures(run / "pictures", config.pictures))
    return lightning.Trainer(
        **_machine(recipe),
        max_steps=config.max_steps,
        val_check_interval=points.validated or config.max_steps,
        limit_val_batches=None if validates else 0,
        gradient_clip_val=recipe.optimizer.clip_norm,
        logger=_loggers(run / "logs", start_step),
        callbacks=callbacks,
    )


def _machine(recipe: Recipe) -> dict[str, Any]:
    """Return Lightning's arguments that hold for every phase: device, processes, precision, and no chatter."""
    config = recipe.trainer
    many = config.devices > 1
    return {
        "accelerator": config.accelerator,
        "devices": config.devices,
        "strategy": "ddp" if many else "auto",
        "sync_batchnorm": many and torch.cuda.is_available() and config.accelerator != "cpu",
        "precision": config.precision,
        "max_epochs": -1,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": LOG_EVERY,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [SafeCheckpointIO(run_identity(recipe))],
    }


def _loggers(folder: Path, start_step: int) -> list[Logger]:
    """Log to CSV and TensorBoard; each call of a resumed run has a folder of its own."""
    part = f"from_{start_step:06d}"
    return [CSVLogger(folder, "csv", part, flush_logs_every_n_steps=1), TensorBoardLogger(folder, "tensorboard", part)]


@contextmanager
def quiet_libraries(verbose: bool) -> Iterator[None]:
    """Hold back the libraries' notices and warnings for the length of a run."""
    if verbose:
        yield
        return
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "torch", "timm", "tensorboard", "huggingface_hub")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", GeodistillWarning)  # ours are for the user
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
