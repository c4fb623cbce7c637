"""How many prompts a network answers at once: measured on the device in use, because no rule holds for all.

On two processor cores one at a time is fastest (larger intermediate results fall out of the cache), on a GPU hundreds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

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
