"""Lightning's Trainer as runs use it: device, precision, the seed of each step, and what a run shows of itself."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from numpy.typing import NDArray
from tqdm import tqdm

from geodistill.data.sampling import Batch
from geodistill.engine import shows_progress
from geodistill.errors import GeodistillWarning, RecipeError, one_line, output_error
from geodistill.files import atomic_path
from geodistill.lazy import load
from geodistill.methods.schema import Recipe, TrainerConfig
from geodistill.methods.task import Phase, SegmentationTask
from geodistill.training.folder import run_identity
from geodistill.training.resume import LOG_EVERY, Patience, ResumePoints, SafeCheckpointIO


class SeedSteps(lightning.Callback):
    """Seeds dropout and drop-path by step and process, so that a resumed run repeats an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed this step."""
        seed = (self._seed * 1_000_003 + trainer.global_step) * 4096 + trainer.global_rank
        torch.manual_seed(seed + (batch_idx % trainer.accumulate_grad_batches << 48))


class ProgressLine(lightning.Callback):
    """One line for the whole training phase: steps, loss and the last validation mIoU; silent off a terminal."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the line where the run starts or resumes."""
        if trainer.is_global_zero and shows_progress():
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc=one_line(self._description),
                unit="step",
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the line on."""
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
            if trainer.global_step % 10 == 0:
                self._bar.set_postfix({k: f"{float(v):.3f}" for k, v in trainer.progress_bar_metrics.items()})

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the line."""
        self.on_train_end(trainer, pl_module)


@contextmanager
def quiet_training(verbose: bool) -> Iterator[None]:
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


def make_trainer(
    recipe: Recipe,
    run: Path,
    start_step: int,
    points: ResumePoints,
    phase: Phase | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> lightning.Trainer:
    """Return the Trainer of the steps on labels, or of a phase before them, which is not validated.

    The logs (CSV and TensorBoard) of each call get a folder of their own, by the step that it resumes from.
    """
    config, validates = recipe.trainer, points.validated is not None
    name, logs = ("fit", run / "logs") if phase is None else (phase.name, run / "logs" / phase.name)
    # What decides whether the run stops comes before what looks at that; Lightning puts what saves last.
    patience = [Patience(config.patience)] if validates and config.patience is not None else []
    callbacks = [*patience, *callbacks, points, SeedSteps(config.seed), ProgressLine(f"{name} {run.name}")]
    if phase is None and config.max_hours is not None:
        callbacks.append(load("geodistill.training.time_limit:TimeLimit")(config.max_hours))
    if validates and config.pictures:
        callbacks.append(ValidationPictures(run / "pictures", config.pictures))
    many, batches = config.devices > 1, config.accumulate if phase is None else 1
    return lightning.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=choose_strategy(config.devices, freezes=phase is None and recipe.optimizer.freeze > 0),
        sync_batchnorm=many and torch.cuda.is_available() and config.accelerator != "cpu",
        precision=choose_precision(config.precision, config.accelerator),
        max_steps=config.max_steps if phase is None else phase.steps,
        max_epochs=-1,
        val_check_interval=batches * (points.validated or config.max_steps) or 1,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        accumulate_grad_batches=batches,
        gradient_clip_val=recipe.optimizer.clip_norm if phase is None else None,
        logger=run_loggers(logs, start_step),
        log_every_n_steps=LOG_EVERY,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO(run_identity(recipe, run))],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def choose_strategy(processes: int, freezes: bool) -> str:
    """Return Lightning's name for how so many processes share a step.

    Args:
        processes: That train together.
        freezes: Whether parameters stand still for a while: the processes then look at every step which have gradients
            to sum, where else they would wait for all. It costs time, so that other runs do not.
    """
    if processes == 1:
        return "auto"
    return "ddp_find_unused_parameters_true" if freezes else "ddp"


def one_value_error(error: ValueError) -> RecipeError | None:
    """Return the error of a batch norm that got one value, in the user's words; ``None`` for any other."""
    if "Expected more than 1 value per channel" not in str(error):
        return None
    return RecipeError(
        "data.batch_size 1 with a network that normalises over the batch",
        "at least 2: of one image's map of 1 x 1 there is no deviation",
        "set data.batch_size 2 or more, or another network.architecture",
    )


def check_accelerator(config: TrainerConfig) -> None:
    """Refuse an accelerator, or more of them, than this machine has, before anything is built for it.

    Raises:
        RecipeError: It has none such, or fewer.
    """
    usable = {name: known["accelerator"] for name, known in AcceleratorRegistry.items()}
    usable = {name: kind for name, kind in usable.items() if kind.is_available()}
    gpus = [name for name in ("cuda", "mps") if name in usable]
    names = sorted({"auto", *usable, *(["gpu"] if gpus else [])})
    if config.accelerator not in names:
        raise RecipeError(f"trainer.accelerator {config.accelerator!r} on this machine", f"one of {', '.join(names)}")
    name = gpus[0] if gpus and config.accelerator in ("auto", "gpu") else config.accelerator
    if config.devices < 1:
        raise RecipeError(f"trainer.devices {config.devices}", "at least 1")
    if name in gpus and config.devices > (most := usable[name].auto_device_count()):  # a CPU takes any number
        raise RecipeError(f"trainer.devices {config.devices} on this machine", f"at most {most}, its GPUs")


Mixed = Literal["32-true", "bf16-mixed", "16-mixed"]
"""Lightning's names."""


def choose_precision(asked: Literal["auto"] | Mixed, accelerator: str) -> Mixed:
    """Return what was asked, or for ``auto`` bfloat16 where the device is faster in it, else 32 bits.

    Weights, their gradients' sums and the loss terms stay in 32 bits under ``bf16-mixed``, and a checkpoint of either
    precision resumes in the other.

    Args:
        asked: As the recipe says.
        accelerator: The recipe's: ``auto`` is a GPU where there is one.
    """
    if asked != "auto":
        return asked
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if accelerator in ("auto", "cpu") and cpu_has_bfloat16_tiles() else "32-true"


def cpu_has_bfloat16_tiles() -> bool:
    """Return whether this processor has a unit for matrices of bfloat16 (AMX).

    With AVX512_BF16 alone a step of a U-Net took a fifth longer than in 32 bits (docs/measured.md).
    """
    return bool(torch.cpu._is_amx_tile_supported())


class _Rows(ExperimentWriter):
    """Writes rows; a new column means to write all of them again, which Lightning does over the only copy."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames)
            writer.writeheader()
            writer.writerows(rows)


class RowLogger(CSVLogger):
    """Lightning's CSV logger, a row on the disk for each call."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes rows."""
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return self._experiment


def run_loggers(folder: Path, start_step: int) -> list[Logger]:
    """Return loggers to CSV and TensorBoard; each call of a resumed run has a folder of its own."""
    part = f"from_{start_step:06d}"
    return [RowLogger(folder, "csv", part, flush_logs_every_n_steps=1), TensorBoardLogger(folder, "tensorboard", part)]


class ValidationPictures(lightning.Callback):
    """Writes ``pictures/step_N.png`` at every validation: image, truth and prediction of the first samples.

    Where there are several sets, each has a folder of its name for them.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._rows: dict[int, list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]] = {}

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples and their predictions."""
        rows = self._rows.setdefault(int(batch["set"][0]) if "set" in batch else 0, [])
        missing = self._count - len(rows)
        if missing > 0 and trainer.is_global_zero:
            rows += zip(
                batch["image"][:missing].cpu().numpy(),
                batch["mask"][:missing].cpu().numpy().astype(np.uint8),
                outputs[:missing].cpu().numpy().astype(np.uint8),
                strict=True,
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the grid, one for each set."""
        if isinstance(pl_module, SegmentationTask):
            draw = load("geodistill.evaluation.pictures:prediction_grid")
            for position, (name, spec) in enumerate(pl_module.sets.items()):
                if rows := self._rows.get(position):
                    images, truths, predictions = ([row[i] for row in rows] for i in range(3))
                    path = self._folder / name / f"step_{trainer.global_step:06d}.png"
                    draw(images, truths, predictions, spec.legend, path, spec.bands)
        self._rows = {}
