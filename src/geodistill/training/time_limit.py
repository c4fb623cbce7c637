"""The end of a run by the clock."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning


class TimeLimit(lightning.Callback):
    """Ends a run once its steps have taken so many hours, in all calls together."""

    def __init__(self, hours: float) -> None:
        self._limit, self._before, self._began = hours * 3600, 0.0, time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the run where its time is over, for every process at the same step and never amid a step's batches."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        over = self._taken() >= self._limit
        if trainer.strategy.reduce_boolean_decision(over, all=False) and not trainer.should_stop:
            trainer.should_stop = True
            if trainer.is_global_zero:
                print(f"trainer.max_hours is over at step {trainer.global_step:,}", file=sys.stderr)

    def _taken(self) -> float:
        return self._before + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds taken so far."""
        return {"seconds": self._taken()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self._before = float(state_dict["seconds"])
