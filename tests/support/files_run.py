"""Run commands of geodistill, a JSON list of them on standard input, and print which files of the package each ran.

A file counts where at least one of its functions is called; what runs when a file is imported does not count. Large
libraries are imported before anything is noted: under a trace that takes twice as long.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning  # noqa: F401
import segmentation_models_pytorch  # noqa: F401

import geodistill
from geodistill.cli import main

ROOT = str(Path(geodistill.__file__).parent)
_FUNCTION = 1
"""Flag of code that has local variables of its own: no module and no class body."""


class FilesRun:
    """The files of the package whose functions are called while it is on."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def __enter__(self) -> FilesRun:
        threading.settrace(self._note)
        sys.settrace(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call; where it returns nothing, Python tells neither lines nor the return."""
        code = frame.f_code
        if not code.co_flags & _FUNCTION or not code.co_filename.startswith(ROOT):
            return
        if code.co_filename not in self.files and not _imports(frame):
            self.files.add(code.co_filename)


def _imports(frame: FrameType) -> bool:
    """Whether a call is part of the import of a file of the package."""
    caller = frame.f_back
    while caller is not None:
        if caller.f_code.co_name == "<module>" and caller.f_code.co_filename.startswith(ROOT):
            return True
        caller = caller.f_back
    return False


if __name__ == "__main__":
    counts = []
    for command in json.load(sys.stdin):
        with FilesRun() as run:
            status = main(command)
        if status:
            sys.exit(f"failed: {command}")
        counts.append(sorted(str(Path(file).relative_to(ROOT)) for file in run.files))
    print(f"\n{json.dumps(counts)}")
