"""A label run that kills its own process at a chosen point, as SIGKILL from outside would.

Points are such as ``journal:2`` (in the middle of the second record), ``mask:3`` (in the middle of the third mask
file), ``account:1`` (before the account is written) or ``end:1`` (after the account, before the journal is closed).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detection_sets import settings_of
from geodistill import journal
from geodistill.label import assemble, build_labels, output_folder, pixels

TILED = {"tile": 48, "overlap": 16, "share": 0.6, "empty": "keep"}


def die_at(point: str, out: Path) -> None:
    """Make this process kill itself at a point."""
    place, _, number = point.partition(":")
    left = [int(number)]

    def due() -> bool:
        left[0] -= 1
        return left[0] < 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if due():
                die()
            return function(*args, **kwargs)

        return wrapped

    if place == "journal":
        whole = journal.encode

        def half_line(record: Any) -> bytes:
            line = whole(record)
            if due():
                with (out / output_folder.JOURNAL).open("ab") as file:
                    file.write(line[: len(line) // 2])
                die()
            return line

        journal.encode = half_line
    elif place == "mask":
        save = pixels.Image.Image.save

        def half_file(picture: Any, path: Path, format: str) -> None:
            save(picture, path, format=format)
            if due():
                os.truncate(path, path.stat().st_size // 2)
                die()

        pixels.Image.Image.save = half_file  # type: ignore[assignment]
    elif place == "account":
        assemble.write_legend = before(assemble.write_legend)
    elif place == "end":
        build_labels.finish_run = before(build_labels.finish_run)


def build_and_die(source: Path, out: Path, point: str) -> None:
    """Label a set and kill this process on the way."""
    die_at(point, out)
    build_labels.build(settings_of(source, **TILED), out)


def build_in_two(source: Path, out: Path) -> None:
    """Label a set in two processes."""
    build_labels.build(settings_of(source, **TILED), out, work=build_labels.WorkerOptions(workers=2))
