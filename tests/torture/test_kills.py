"""kill -9 at random moments, and aimed between any two things that a command does to files."""

from __future__ import annotations

import random
import time

import pytest

from torture.cases import CASES, RESUMED, WHOLE, Case
from torture.forks import Done, start
from torture.trials import (
    Book,
    Boxes,
    Reference,
    classify,
    count,
    differences,
    files_of,
    half_written,
    leftovers,
    watch,
)

GOOD = ("right",)


def finish(boxes: Boxes, case: Case, argv: tuple[str, ...] | None = None) -> Done:
    """Go on after a kill, as a user would."""
    words = argv or case.argv
    begun = not case.begun or (boxes.box / case.begun).exists()
    return boxes.go((*words, *(case.resume if begun else ())))


def judge(
    boxes: Boxes, case: Case, done: Done, half: str, book: Book, kind: str, wanted: Reference, what: str = ""
) -> None:
    """Write down what came of a trial whose command has gone on to its end."""
    found = files_of(boxes.box)
    others = [half] if half else differences(case, found, wanted.files, wanted.unsteady)
    lost = boxes.lost()
    outcome = classify(done, not others, wanted.err)
    if outcome == "line" and not others and "finished" in done.said:
        outcome = "right"  # the kill came when all was written
    if outcome == "right" and (half or lost):
        outcome = "silent"
    left = leftovers(found) or [name for name in files_of(boxes.box, "tmp") if "kept" not in name]
    if outcome == "right" and left:
        outcome = "left"
    said = lost or (
        others[0] if others and outcome in ("silent", "told") else left[0] if outcome == "left" else done.said
    )
    book.add(kind, case.name, outcome, GOOD, f"{what} {said}".strip())


@pytest.mark.parametrize("name", [*RESUMED, *WHOLE])
def test_the_same_bytes_twice(boxes: Boxes, book: Book, name: str) -> None:
    unsteady = sorted(boxes.reference(name).unsteady)
    book.add("twice", name, "silent" if unsteady else "right", GOOD, " ".join(unsteady))
    book.finish()


@pytest.mark.parametrize("name", [*RESUMED, *WHOLE])
def test_a_random_moment(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    rng = random.Random(name)
    for trial in range(count(1 if case.slow else 3)):
        boxes.new(case)
        old, half = files_of(boxes.box), ""
        for _ in range(1 + trial % 3 if case.resume else 1):
            child = start(
                (*case.argv, *(case.resume if (boxes.box / case.begun).exists() else ())),
                boxes.box,
                env={"TMPDIR": str(boxes.box / "tmp"), "GEODISTILL_CACHE": str(boxes.box / "tmp" / "kept")},
            )
            time.sleep(reference.seconds * rng.uniform(0.02, 1.0))
            child.kill()
            child.wait()
            half = half or half_written(case, files_of(boxes.box), reference, old)
        done = finish(boxes, case)
        judge(boxes, case, done, half, book, "kill, random", reference)
    book.finish()


@pytest.mark.parametrize("name", [*RESUMED, *WHOLE])
def test_between_two_operations(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    for at in moments(reference.events, count(1 if case.slow else 4), name):
        box = boxes.new(case)
        old = files_of(box)
        boxes.go(case.argv, lambda at=at, box=box: watch(box, at=at))
        half = half_written(case, files_of(box), reference, old)
        done = finish(boxes, case)
        short = reference.events[at - 1].replace(str(box), "").split(" ")
        what = f"[{short[0]} {short[1].rpartition('/')[2]}]" if half or done.status else ""
        judge(boxes, case, done, half, book, "kill, aimed", reference, what)
    book.finish()


def moments(events: list[str], number: int, seed: str) -> list[int]:
    """Choose operations, half of them renames and what follows them; all where there are few."""
    rng = random.Random(seed)
    renames = [at + after for at, event in enumerate(events, 1) if event.startswith("os.rename") for after in (0, 1)]
    renames = sorted({at for at in renames if at <= len(events)})
    chosen = set(rng.sample(renames, min(len(renames), (number + 1) // 2)))
    others = [at for at in range(1, len(events) + 1) if at not in chosen]
    return sorted(chosen | set(rng.sample(others, min(len(others), number - len(chosen)))))
