"""The number of prompts at once: the least that is clearly fastest on a made-up device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from geodistill.errors import OutputError
from geodistill.label.segmenters import sam as chunks
from geodistill.label.segmenters.sam import choose_chunk, settled_chunk

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


def test_a_settled_number_is_measured_once(tmp_path: Path) -> None:
    measured = [4, 8]
    file = tmp_path / ".chunk"
    assert settled_chunk(file, lambda: measured.pop(0)) == 4
    assert settled_chunk(file, lambda: measured.pop(0)) == 4
    assert measured == [8]
    assert [path.name for path in tmp_path.iterdir()] == [".chunk"]


def test_of_two_that_measure_at_once_the_first_to_write_decides(tmp_path: Path) -> None:
    file = tmp_path / ".chunk"

    def slow() -> int:
        settled_chunk(file, lambda: 2)
        return 16

    assert settled_chunk(file, slow) == 2


def test_a_number_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        settled_chunk(tmp_path / "missing" / ".chunk", lambda: 1)
