"""Runs of `fit` in processes of their own that kill themselves (SIGKILL) at a chosen write of a checkpoint."""

from __future__ import annotations

import csv
import errno
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from forked import begin
from geodistill.methods.schema import Recipe
from geodistill.training import resume
from geodistill.training.fit import fit

MOMENTS = ("before", "in", "after")
"""Before a checkpoint is written, once it is written beside the file and not renamed, and just after."""


def _fit(recipe: Recipe, run: Path, write: int, moment: str) -> None:
    """Train, and die at the ``write``-th checkpoint."""
    count, save, replace = [0], resume.SafeCheckpointIO.save_checkpoint, Path.replace

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

    resume.SafeCheckpointIO.save_checkpoint = dying_save  # type: ignore[method-assign]
    Path.replace = dying_replace  # type: ignore[method-assign,assignment]
    fit(recipe, run)


def fit_killed(recipe: Recipe, run: Path, write: int, moment: str) -> bool:
    """Train in a process that dies at its ``write``-th checkpoint, from 1; says whether it came to that."""
    process = begin(_fit, recipe, run, write, moment)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def fit_without_temporary_files(recipe: Recipe, run: Path, temporary: Path) -> None:
    """Train where the folder of temporary files is another, and full."""

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    for name in ("mkstemp", "NamedTemporaryFile", "TemporaryFile"):
        setattr(tempfile, name, none)
    fit(recipe, run)


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
