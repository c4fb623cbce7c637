"""A grid of validation pictures at every validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
from numpy.typing import NDArray

from geodistill.data.sample import Batch
from geodistill.evaluation.figures import prediction_grid
from geodistill.methods.task import SegmentationTask


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
            for position, (name, spec) in enumerate(pl_module.sets.items()):
                if rows := self._rows.get(position):
                    images, truths, predictions = ([row[i] for row in rows] for i in range(3))
                    path = self._folder / name / f"step_{trainer.global_step:06d}.png"
                    prediction_grid(images, truths, predictions, spec.legend, path)
        self._rows = {}
