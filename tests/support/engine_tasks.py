"""Functions that workers in other processes can import."""

from __future__ import annotations

import os
import time
from pathlib import Path

from geodistill.errors import DataError, UnknownNameError


def square(value: int) -> int:
    return value * value


def refuse_three(value: int) -> int:
    if value == 3:
        raise DataError("item 3", "another", "leave it out")
    return value


def refuse_three_and_rest(value: int) -> int:
    """As `refuse_three`, with time to hear of the refusal while the items after it are worked on."""
    if value > 3:
        time.sleep(0.05)
    return refuse_three(value)


def refuse_name(value: int) -> int:
    raise UnknownNameError("number", str(value), ["one", "two"])


def defect(value: int) -> int:
    return value // 0


def tell(item: tuple[Path, int, float]) -> tuple[int, int]:
    """Note the process that works on the item, as ``<folder>/<item>.<try>``, wait, and give item and process."""
    folder, value, seconds = item
    attempt = len(list(folder.glob(f"{value}.*")))
    (folder / f"{value}.{attempt}").write_text(str(os.getpid()))
    time.sleep(seconds if attempt == 0 else 0)
    return value, os.getpid()


def die(item: tuple[Path, int]) -> int:
    """End the process on item 1, each time."""
    folder, value = item
    if value == 1:
        (folder / f"try-{len(list(folder.iterdir()))}").touch()
        os._exit(1)
    return value


def threads(_: int) -> str:
    return os.environ["OMP_NUM_THREADS"]
