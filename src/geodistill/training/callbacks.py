"""What happens beside the training steps: one calm progress line, and a grid of validation pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from geodistill.data.sample import Batch
from geodistill.evaluation.figures import prediction_grid
from geodistill.methods.task import SegmentationTask


class SeedSteps(lightning.Callback):
    """Seeds dropout and drop-path by step and process, so that a resumed run repeats an uninterrupted one.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed this step."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.global_step) * 4096 + trainer.global_rank)


class ProgressLine(lightning.Callback):
    """One line for the whole training phase: steps, loss and the last validation mIoU; silent off a terminal.

    Args:
        description: Words at the start of the line.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the line where the run starts or resumes."""
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc=self._description,
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
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ValidationPictures(lightning.Callback):
    """Writes ``pictures/step_N.png`` at every validation: image, truth and prediction of the first samples.

    Where there are several sets, each has a folder of its name for them.

    Args:
        folder: Where the pictures go.
        count: Samples in the grid.
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
            for position, (name, spec) in enumerate(pl_module.sets.items()):
                if rows := self._rows.get(position):
                    images, truths, predictions = (_column(rows, i) for i in range(3))
                    path = self._folder / name / f"step_{trainer.global_step:06d}.png"
                    prediction_grid(images, truths, predictions, spec.legend, path)
        self._rows = {}


def _column(rows: Sequence[tuple[NDArray[Any], ...]], index: int) -> list[NDArray[Any]]:
    return [row[index] for row in rows]
