"""Logs of a run: CSV whose rows outlive a kill, and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from geodistill.files import atomic_path


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
