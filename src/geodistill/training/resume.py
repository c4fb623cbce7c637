"""Checkpoints: when a run is saved, and how a file is written and read back.

All that a validation changes is in the resume point after it. A file is written beside its place and renamed, and never
read back altered.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from geodistill.errors import ArtifactError, DataError
from geodistill.files import atomic_path
from geodistill.nn.weights import UNREADABLE, load_reason

MONITOR = "val/miou"
"""What says which weights are the best."""

AVERAGED = "val/miou_ema"
"""The same of the averaged weights, where there are any."""

LOG_EVERY = 10
"""Steps between two rows of the training logs."""


@dataclass(frozen=True)
class Best:
    """The best validation so far: after how many optimiser steps, its mIoU in 0..1, and of which weights."""

    step: int
    score: float
    averaged: bool = False

    @property
    def name(self) -> str:
        """Name of the file that holds its weights."""
        return f"best-{self.step:06d}.ckpt"


class ResumePoints(Checkpoint):
    """Writes a run's checkpoints: ``NAME.ckpt`` to go on from, and the weights of the best validation.

    The last step is validated in any case, so that what its weights are worth is known.

    A step that is validated is saved after its validation, never before it. A run killed in between goes on from the
    point before, and comes to the same validation again. The best weights have their step in the file's name, and the
    former best goes once a resume point names the new one, so that at any moment the last resume point is whole:

        step 8 validated, better than 4:  write best-000008  ->  write last (names 8)  ->  remove best-000004
        killed before "write last":       last names 4, best-000004 is there; step 8 comes again

    Args:
        folder: Where they are written.
        name: The resume point's.
        every: Steps between two resume points.
        validated: Steps between two validations; ``None`` where there are none.

    Attributes:
        best: The best validation so far.
    """

    def __init__(self, folder: Path, name: str, every: int, validated: int | None = None) -> None:
        self.folder, self._path = folder, folder / f"{name}.ckpt"
        self._every, self.validated = every, validated
        self._row: dict[str, float] = {}
        self._done = 0
        self.best: Best | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the row of the step that a run resumes from, which was still to come when that was saved."""
        self._done = trainer.global_step
        if self._row:
            for logger in trainer.loggers:
                logger.log_metrics(self._row, trainer.global_step - 1)
            self._row = {}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a resume point where one is due and no validation comes first; ask for one of the last step."""
        step = trainer.global_step
        if step == self._done:
            return  # amid the batches of a step, whose gradients no checkpoint holds
        self._done = step
        if self.validated and step >= trainer.max_steps:
            trainer.should_stop = True  # Lightning validates where a run is to stop
        validates = self.validated is not None and (trainer.should_stop or step % self.validated == 0)
        if step % self._every == 0 and not validates:
            if step % LOG_EVERY == 0:  # Lightning logs this step after its callbacks
                self._row = _row(trainer.logged_metrics, trainer.current_epoch)
            trainer.save_checkpoint(self._path)
            self._row = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the weights where they are the best, and write a resume point that says so.

        Raises:
            DataError: There was nothing to score.
        """
        scores = _scores(trainer)
        score = max(scores)
        if math.isnan(score):
            raise DataError("the validation images hold no labelled pixel", "labels to choose the best weights by")
        if self.best is None or score > self.best.score:
            self.best = Best(trainer.global_step, score, averaged=scores[0] < score)
            trainer.save_checkpoint(self.folder / self.best.name, weights_only=True)
        trainer.save_checkpoint(self._path)
        if trainer.is_global_zero:
            for path in self.folder.glob("best-*.ckpt"):
                if self.best is not None and path.name != self.best.name:
                    path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation, and the row still to be logged."""
        return {"best": None if self.best is None else asdict(self.best), "row": dict(self._row)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self.best = None if state_dict["best"] is None else Best(**state_dict["best"])
        self._row = dict(state_dict["row"])


class Patience(lightning.Callback):
    """Stops a run after so many validations without a better one of either weights, also where it was killed then."""

    def __init__(self, looks: int) -> None:
        self._looks, self._best, self._waited = looks, -math.inf, 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop a run whose patience had ended before it was saved."""
        if self._waited >= self._looks:
            trainer.should_stop = True

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count the validations since the best one."""
        score = max(_scores(trainer))
        self._waited = 0 if score > self._best else self._waited + 1
        self._best = max(score, self._best)
        self.on_train_start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and how many validations it was ago."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self._best, self._waited = float(state_dict["best"]), int(state_dict["waited"])


def _scores(trainer: lightning.Trainer) -> list[float]:
    """Return the last validation's mIoU of the weights, and of the averaged ones where there are any."""
    metrics = trainer.callback_metrics
    return [float(metrics[name]) for name in (MONITOR, AVERAGED) if name in metrics]


def _row(metrics: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if not name.startswith("val/")} | {"epoch": epoch}


RUN = "geodistill_run"
"""Key of a checkpoint that says which run it is of."""

MEND = "put a copy of it back, or begin again with --restart"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes and reads all that Lightning saves.

    Lightning's own goes by way of the system's temporary folder, so that on another file system a kill or a full disk
    leaves an empty file in the place of the only resume point. A checkpoint of another ``run`` is refused.
    """

    def __init__(self, run: str) -> None:
        self._run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; what was there stays until the new one is whole.

        Raises:
            OutputError: It cannot be written.
        """
        with atomic_path(path, "checkpoint") as part, part.open("wb") as file:
            sink = _Sink(file)
            try:
                torch.save({**checkpoint, RUN: self._run}, sink)  # type: ignore[arg-type]
            except RuntimeError as error:
                # torch's writer tells of its own confusion, not of the disk's or of a person's Ctrl-C.
                stopped = error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else None
                raise sink.error or stopped or error  # noqa: B904 - its own context
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            ArtifactError: As `read_checkpoint`.
        """
        return read_checkpoint(path, self._run)


class _Sink:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BufferedWriter) -> None:
        self._file = file
        self.error: OSError | KeyboardInterrupt | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except (OSError, KeyboardInterrupt) as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def read_checkpoint(path: Path | str, run: str, mmap: bool = False) -> dict[str, Any]:
    """Return what a checkpoint holds, after its checksums were compared.

    Args:
        path: A file that `SafeCheckpointIO` wrote.
        run: What the run is known by.
        mmap: Leave the tensors on disk.

    Raises:
        ArtifactError: It is missing, cut short, altered, no checkpoint or of another run.
    """
    try:
        # torch does not compare the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
        if altered is not None:
            raise zipfile.BadZipFile(f"{altered} is altered")
        data: Any = torch.load(path, weights_only=True, mmap=mmap, map_location="cpu")
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"checkpoint {path} cannot be used ({load_reason(error)})", "the file as fit wrote it", MEND
        ) from error
    if not isinstance(data, dict) or not isinstance(data.get("global_step"), int):
        raise ArtifactError(f"{path} is no checkpoint of fit", "the file as fit wrote it", MEND)
    if data.get(RUN) != run:
        raise ArtifactError(f"checkpoint {path} is of another run", "the file as fit wrote it", MEND)
    return data


def saved_step(path: Path, run: str) -> int:
    """Return the optimiser steps done at a checkpoint; 0 where there is none.

    Raises:
        ArtifactError: As `read_checkpoint`.
    """
    return int(read_checkpoint(path, run, mmap=True)["global_step"]) if path.is_file() else 0
