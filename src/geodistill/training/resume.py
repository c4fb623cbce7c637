"""When a run is saved, and what of it: everything that a validation changes is in the resume point after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from geodistill.errors import DataError

MONITOR = "val/miou"
"""What says which weights are the best."""

LOG_EVERY = 10
"""Steps between two rows of the training logs."""


@dataclass(frozen=True)
class Best:
    """The best validation so far.

    Attributes:
        step: Optimiser steps done.
        score: Its mIoU in 0..1.
    """

    step: int
    score: float

    @property
    def name(self) -> str:
        """Name of the file that holds its weights."""
        return f"best-{self.step:06d}.ckpt"


class ResumePoints(Checkpoint):
    """Writes a run's checkpoints: ``NAME.ckpt`` to go on from, and the weights of the best validation.

    A step that is validated is saved after its validation, never before it. A run killed in between goes on from the
    point before, and comes to the same validation again. The best weights have their step in the file's name, and the
    former best goes once a resume point names the new one, so that at any moment the last resume point is whole.

    Args:
        folder: Where they are written.
        name: The resume point's.
        every: Steps between two resume points.
        validated: Steps between two validations; ``None`` where there are none.

    Attributes:
        folder: As given.
        validated: As given.
        best: The best validation so far.
    """

    def __init__(self, folder: Path, name: str, every: int, validated: int | None = None) -> None:
        self.folder, self._path = folder, folder / f"{name}.ckpt"
        self._every, self.validated = every, validated
        self._row: dict[str, float] = {}
        self.best: Best | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the row of the step that a run resumes from, which was still to come when that was saved."""
        if self._row:
            for logger in trainer.loggers:
                logger.log_metrics(self._row, trainer.global_step - 1)
            self._row = {}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a resume point where one is due and no validation comes first."""
        step = trainer.global_step
        if step % self._every == 0 and not (self.validated and step % self.validated == 0):
            if step % LOG_EVERY == 0:  # Lightning logs this step after its callbacks
                self._row = _row(trainer.logged_metrics, trainer.current_epoch)
            trainer.save_checkpoint(self._path)
            self._row = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the weights where they are the best, and write a resume point that says so.

        Raises:
            DataError: There was nothing to score.
        """
        score = float(trainer.callback_metrics[MONITOR])
        if math.isnan(score):
            raise DataError("the validation images hold no labelled pixel", "labels to choose the best weights by")
        if self.best is None or score > self.best.score:
            self.best = Best(trainer.global_step, score)
            trainer.save_checkpoint(self.folder / self.best.name, weights_only=True)
        trainer.save_checkpoint(self._path)
        if trainer.is_global_zero:
            for path in self.folder.glob("best-*.ckpt"):
                if self.best is not None and path.name != self.best.name:
                    path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation, and the row still to be logged."""
        best = None if self.best is None else {"step": self.best.step, "score": self.best.score}
        return {"best": best, "row": dict(self._row)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self.best = None if state_dict["best"] is None else Best(**state_dict["best"])
        self._row = dict(state_dict["row"])


class Patience(EarlyStopping):
    """Stops a run after so many validations without a better one, also where it was killed just then.

    Args:
        looks: How many.
    """

    def __init__(self, looks: int) -> None:
        super().__init__(MONITOR, mode="max", patience=looks)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop a run whose patience had ended before it was saved."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _row(metrics: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if not name.startswith("val/")} | {"epoch": epoch}
