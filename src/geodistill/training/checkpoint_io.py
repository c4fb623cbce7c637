"""Checkpoints on disk: written beside the file and renamed, and never read back altered."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from geodistill.errors import ArtifactError
from geodistill.files import atomic_path
from geodistill.nn.weights import UNREADABLE, load_reason

RUN = "geodistill_run"
"""Key of a checkpoint that says which run it is of."""

MEND = "put a copy of it back, or begin again with --restart"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes and reads all that Lightning saves.

    Lightning's own goes by way of the system's temporary folder, so that on another file system a kill or a full disk
    leaves an empty file in the place of the only resume point.

    Args:
        run: What the run is known by; a checkpoint of another is refused.
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
                # torch's writer tells of its own confusion, not of the disk's.
                raise sink.error or error from error
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
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
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
