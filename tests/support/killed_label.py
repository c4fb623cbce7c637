"""A label run that kills its own process at a chosen point, as SIGKILL from outside would; run as a script.

Arguments: folder of the set, folder of the results, then points such as ``journal:2`` (in the middle of the second
record), ``mask:3`` (in the middle of the third mask file), ``account:1`` (before the account is written) or
``end:1`` (after the account, before the journal is closed). Each point gets a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detection_sets import settings_of
from geodistill import journal
from geodistill.label import assemble, labelling, ledger, pixels

TILED = {"tile": 48, "overlap": 16, "share": 0.6, "empty": "keep"}


def die_at(point: str) -> None:
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
                paths = list(Path(sys.argv[2]).glob(f"*/{ledger.JOURNAL}"))
                newest = max(paths, key=lambda path: path.stat().st_mtime_ns)
                with newest.open("ab") as file:
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
        labelling.finish_run = before(labelling.finish_run)


def main() -> None:
    """Run once for each point and print how each process ended."""
    source, results = Path(sys.argv[1]), Path(sys.argv[2])
    for point in sys.argv[3:]:
        process = os.fork()
        if not process:
            die_at(point)
            labelling.build(settings_of(source, **TILED), results / point.replace(":", "-"))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        print(point, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
