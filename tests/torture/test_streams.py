"""Outputs that nobody reads or that are full, and commands asked to end."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from torture.cases import CASES, WHOLE, Case
from torture.forks import LIMIT, Child, start
from torture.test_kills import finish, judge
from torture.trials import (
    MOST_TRIES,
    Book,
    Boxes,
    classify,
    count,
    differences,
    files_of,
    half_written,
    leftovers,
    watch,
)

FAST = [name for name, case in CASES.items() if not case.slow]


@pytest.mark.parametrize("name", FAST)
def test_a_reader_that_went_away(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    boxes.new(case)
    reader, writer = os.pipe()
    os.close(reader)
    done = boxes.go(case.argv, stdout=writer)
    os.close(writer)
    others = differences(case, files_of(boxes.box), reference.files, reference.unsteady)
    book.add("closed stdout", name, classify(done, not others, reference.err), ("right",), (others or [done.said])[0])
    book.finish()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", FAST)
def test_a_full_output(boxes: Boxes, book: Book, name: str) -> None:
    """The work is done, and one line says that nothing could be told."""
    case, reference = CASES[name], boxes.reference(name)
    boxes.new(case)
    done = boxes.go(case.argv, stdout="/dev/full")
    others = differences(case, files_of(boxes.box), reference.files, reference.unsteady)
    outcome = classify(done, not others, reference.err)
    if outcome == "line" and others:
        outcome = "silent"
    book.add("full stdout", name, outcome, ("line",), (others or [done.said])[0])
    book.finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", FAST)
def test_a_request_to_end(boxes: Boxes, book: Book, name: str, number: signal.Signals) -> None:
    case, reference = CASES[name], boxes.reference(name)
    rng = random.Random(f"{name} {number}")
    for _ in range(count(1)):
        for tried in range(MOST_TRIES):
            box = boxes.new(case)
            old = files_of(box)
            child = _at_work(case, box, reference.seconds * rng.uniform(0, 0.8) / 2**tried)
            met = not child.poll()
            child.kill(number)
            stopped = child.wait()
            if met:
                break
            book.add(number.name, name, "missed", ("missed",) if tried + 1 < MOST_TRIES else ())
        else:
            continue
        outcome, found = classify(stopped, same=True), files_of(box)
        half = half_written(case, found, reference, old)
        if outcome == "stopped" and "stopped" not in stopped.err:
            outcome = "noisy"
        left = [] if case.resume or case.verb == "fit" else leftovers(found)
        if outcome == "stopped" and (half or left):
            outcome = "left"
        said = (left or [half or stopped.said])[0] if outcome != "stopped" else ""
        book.add(number.name, name, outcome, ("stopped", "right"), said)
        judge(boxes, case, finish(boxes, case), half, book, f"{number.name}, resumed", reference)
    book.finish()


def _at_work(case: Case, box: Path, seconds: float) -> Child:
    """Start a command, wait for the first thing it does to a file, and then for so long."""
    env = {"TMPDIR": str(box / "tmp"), "GEODISTILL_CACHE": str(box / "tmp" / "kept")}
    events = box / "events"
    child = start(case.argv, box, lambda: watch(box, events), env=env)
    end = time.monotonic() + LIMIT
    while not (events.is_file() and events.stat().st_size) and not child.poll() and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(seconds)
    return child


WHOLE_AGAIN = [name for name in WHOLE if name in ("patches", "evaluate", "export:hub", "scan")]


@pytest.mark.parametrize("name", WHOLE_AGAIN)
def test_again_over_an_earlier_result(boxes: Boxes, book: Book, name: str) -> None:
    """A second run over the first one's folder is the same, or refused."""
    case, reference = CASES[name], boxes.reference(name)
    boxes.new(case)
    boxes.go(case.argv)
    done = boxes.go(case.argv)
    others = differences(case, files_of(boxes.box), reference.files, reference.unsteady)
    outcome = classify(done, not others, reference.err)
    book.add("again", name, "silent" if outcome == "line" and others else outcome, ("right", "line"), done.said)
    book.finish()
