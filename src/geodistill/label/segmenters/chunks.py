"""How many prompts a network answers at once: measured on the device in use, because no rule holds for all.

On two processor cores one at a time is fastest (larger intermediate results fall out of the cache), on a GPU hundreds.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from geodistill.errors import OutputError, output_error
from geodistill.reading import read_text

SIZES = {"cpu": (1, 2, 4, 8), "other": (1, 4, 16, 64, 256)}
"""What is tried, from small to large."""
GAIN = 0.9
"""A larger size must take less than this share of the time, so that chance does not choose."""
REPEATS = 2


def choose_chunk(decode: Callable[[int], object], device: torch.device) -> int:
    """Find the number of prompts at once that takes the least time a prompt.

    Args:
        decode: Answers so many prompts.
        device: Where it does so.
    """
    best, least = 1, float("inf")
    for size in SIZES.get(device.type, SIZES["other"]):
        try:
            seconds = _seconds(lambda size=size: decode(size), device) / size  # type: ignore[misc]
        except torch.OutOfMemoryError:
            break
        if seconds < GAIN * least:
            best, least = size, seconds
        elif seconds > least / GAIN:
            break
    return best


def settled_chunk(path: Path, measure: Callable[[], int]) -> int:
    """Give the number that a file holds; where there is no file, measure and write it.

    The number changes the last bits of a network's answers, so a run that is continued, and every worker of a run,
    must use the same one. Of several workers that measure at once, the first to write decides for all.

    Args:
        path: The file; made whole or not at all.
        measure: Finds the number.

    Raises:
        OutputError: The file cannot be written, or is not as it was written.
    """
    if not path.exists():
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        try:
            number = str(measure())
            part.write_text(f"{number} {_crc(number)}\n", encoding="ascii")
            with suppress(FileExistsError):
                os.link(part, path)
        except OSError as error:
            raise output_error(path, error) from error
        finally:
            part.unlink(missing_ok=True)
    number, _, told = read_text(path, 100, OutputError).strip().partition(" ")
    if told != _crc(number) or not number.isdecimal() or not int(number):
        raise OutputError(f"{path} is not as it was written", "the number that this run began with", "use a new folder")
    return int(number)


def _crc(number: str) -> str:
    return f"{zlib.crc32(number.encode()):08x}"


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Give the least time of a few runs, after one that warms up.

    On a processor it is the time the process had of it, which other processes' work does not change.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(1 + REPEATS):
        start = clock()
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append(clock() - start)
    return min(times[1:])
