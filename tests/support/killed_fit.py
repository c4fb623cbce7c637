"""Runs of `fit` in processes of their own that kill themselves (SIGKILL) at a chosen write of a checkpoint."""

from __future__ import annotations

import csv
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geodistill.methods.schema import Recipe
from geodistill.training import resume
from geodistill.training.fit import fit

MOMENTS = ("before", "in", "after")
"""Before a checkpoint is written, once it is written beside the file and not renamed, and just after."""


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked process; gives its status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            work()
            status = 0
        finally:  # a child must never come back into pytest
            if status:
                traceback.print_exc()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fit_killed(recipe: Recipe, run: Path, write: int, moment: str) -> bool:
    """Train in a process that dies at its ``write``-th checkpoint, from 1; says whether it came to that."""

    def work() -> None:
        patch, count = pytest.MonkeyPatch(), [0]
        save, replace = resume.SafeCheckpointIO.save_checkpoint, Path.replace

        def dying_replace(self: Path, target: Any) -> Path:
            if moment == "in" and count[0] == write and Path(target).suffix == ".ckpt":
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        def dying_save(self: Any, *args: Any, **options: Any) -> None:
            count[0] += 1
            if moment == "before" and count[0] == write:
                os.kill(os.getpid(), signal.SIGKILL)
            save(self, *args, **options)
            if moment == "after" and count[0] == write:
                os.kill(os.getpid(), signal.SIGKILL)

        patch.setattr(resume.SafeCheckpointIO, "save_checkpoint", dying_save)
        patch.setattr(Path, "replace", dying_replace)
        fit(recipe, run)

    status = in_child(work)
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def left(run: Path) -> dict[str, Any]:
    """All that a finished run is to be the same in: the Segmenter's bytes, pictures, and log rows by step."""
    files = [*(run / "segmenter").glob("*.*"), *(run / "encoder").glob("*.*"), *(run / "pictures").rglob("*.png")]
    rows: dict[tuple[str, int, str], str] = {}
    for path in sorted((run / "logs").rglob("metrics.csv")):
        phase = path.relative_to(run / "logs").parts[0]
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows |= {(phase, int(row["step"]), name): value for name, value in row.items() if value}
    return {str(file.relative_to(run)): file.read_bytes() for file in files} | {"rows": rows}
