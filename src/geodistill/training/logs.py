"""What a run shows of itself: CSV whose rows outlive a kill, TensorBoard, and pictures of each validation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from numpy.typing import NDArray

from geodistill.data.sample import Batch
from geodistill.files import atomic_path
from geodistill.lazy import load
from geodistill.methods.task import SegmentationTask


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
            draw = load("geodistill.evaluation.figures:prediction_grid")
            for position, (name, spec) in enumerate(pl_module.sets.items()):
                if rows := self._rows.get(position):
                    images, truths, predictions = ([row[i] for row in rows] for i in range(3))
                    path = self._folder / name / f"step_{trainer.global_step:06d}.png"
                    draw(images, truths, predictions, spec.legend, path)
        self._rows = {}
