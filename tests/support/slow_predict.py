"""`predict` with a tiny network, as slow as asked for, in processes that tests can kill.

Also a script: ``python slow_predict.py RASTER MAP JSON``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forked import begin
from geodistill.cli.terminal import quiet_libraries
from geodistill.errors import GeodistillError
from geodistill.inference.checkpoint import work_folder
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from tiny import ContextNetwork, tiny_networks, tiny_segmenter

TILE = 32


def job(source: Path, path: Path, seconds: float, flags: dict[str, Any], told: Path | None = None) -> None:
    """Map one raster; tell the error if there is one, and how many windows the network has seen.

    With the flag ``hang`` it stops for good where the file of that layer would get its final name; with ``until`` the
    network waits for a file before its first window.
    """
    torch.set_num_threads(1)
    hang, until, rename = flags.pop("hang", None), flags.pop("until", None), Path.replace

    def slow_rename(self: Path, target: Path) -> Path:
        if hang is not None and self.name == f"{hang}.tif":
            self.with_suffix(".hanging").touch()
            time.sleep(600)
        return rename(self, target)

    Path.replace = slow_rename  # type: ignore[method-assign,assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = 0
    plain = ContextNetwork.forward

    def slow(self: ContextNetwork, image: Tensor) -> object:
        nonlocal seen
        while until is not None and not until.exists():
            time.sleep(0.01)
        seen += image.shape[0]
        time.sleep(seconds)
        return plain(self, image)

    ContextNetwork.forward = slow  # type: ignore[assignment,method-assign]
    options = PredictOptions(device="cpu", backend="torch", batch=2, **flags)
    lines = []
    with tiny_networks():
        try:
            predict(tiny_segmenter("context", tile=TILE), [source], path, options)
        except GeodistillError as error:
            lines.append(str(error))
    lines.append(str(seen))
    if told is None:
        print("\n".join(lines))
    else:
        told.write_text("\n".join(lines))


def start(
    source: Path,
    path: Path,
    seconds: float = 0.0,
    *,
    told: str = "told",
    **flags: Any,
) -> BaseProcess:
    """Start a process that maps a raster; what it ``told`` comes to ``MAP.told`` in the raster's folder."""
    lines = source.parent / f"{path.parent.name}-{path.name}.{told}"
    return begin(job, source, path, seconds, flags, lines)


def run(source: Path, path: Path, **flags: Any) -> list[str]:
    """Map a raster in a process of its own and give the lines it tells."""
    process = start(source, path, **flags)
    process.join(120)
    assert process.exitcode == 0
    return (source.parent / f"{path.parent.name}-{path.name}.told").read_text().splitlines()


def kill(process: BaseProcess) -> None:
    """Kill a process that must still be at work."""
    assert process.is_alive(), "it had ended already"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def rows_in_journal(path: Path) -> int:
    """Say how many rows of windows are finished."""
    journals = list(work_folder(path).glob("*.jsonl"))
    return sum(journal.read_bytes().count(b"\n") for journal in journals)


def wait_for_rows(process: BaseProcess, path: Path, rows: int) -> None:
    """Wait until so many are, while the process still runs."""
    deadline = time.monotonic() + 120
    while rows_in_journal(path) < rows and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.is_alive()


if __name__ == "__main__":
    with quiet_libraries():  # as the command line has it: libtiff prints on a full disk
        job(Path(sys.argv[1]), Path(sys.argv[2]), 0, json.loads(sys.argv[3]))
