"""The number of prompts at once: the least that is clearly fastest on a made-up device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geodistill.label.segmenters import chunks
from geodistill.label.segmenters.chunks import choose_chunk

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that moves only where a test moves it."""
    now = [0.0]
    monkeypatch.setattr(chunks.time, "process_time", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 1.0, 2: 3.0, 4: 8.0, 8: 20.0}, 1),
        ({1: 1.0, 2: 1.2, 4: 1.6, 8: 2.4}, 8),
        ({1: 1.0, 2: 1.2, 4: 2.4, 8: 9.0}, 2),
        ({1: 1.0, 2: 1.95, 4: 3.9, 8: 7.8}, 1),
        ({1: 1.0, 2: 1.95, 4: 2.0, 8: 4.0}, 4),
    ],
    ids=["small is fast", "large is fast", "in between", "a hair is chance", "a step that brings nothing"],
)
def test_the_clearly_fastest_size_is_taken(
    seconds: dict[int, float], expected: int, clock: Callable[[float], None]
) -> None:
    assert choose_chunk(lambda size: clock(seconds[size]), CPU) == expected


def test_a_first_slow_run_does_not_count(clock: Callable[[float], None]) -> None:
    runs: list[int] = []

    def decode(size: int) -> None:
        clock(100.0 if not runs else 1.0 * size * (1.5 if size > 1 else 1))
        runs.append(size)

    assert choose_chunk(decode, CPU) == 1


def test_a_size_beyond_the_memory_is_not_taken(clock: Callable[[float], None]) -> None:
    def decode(size: int) -> None:
        if size > 2:
            raise torch.OutOfMemoryError("out of memory")
        clock(1.0)

    assert choose_chunk(decode, CPU) == 2
