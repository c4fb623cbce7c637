"""The command itself, not a fork that has its libraries already: killed and gone on with."""

from __future__ import annotations

import random

import pytest

from torture.cases import CASES
from torture.forks import command
from torture.test_kills import judge
from torture.trials import Book, Boxes, files_of, half_written


@pytest.mark.parametrize("name", ["predict:scenes", "label:grabcut", "fit:validation"])
def test_a_kill(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    box = boxes.new(case)
    whole = command(case.argv, box)
    judge(boxes, case, whole, "", book, "real command", reference)
    boxes.new(case)
    seconds = whole.seconds - reference.seconds * random.Random(name).uniform(0.1, 0.8)
    command(case.argv, box, seconds=seconds)
    half = half_written(case, files_of(box), reference, {})
    begun = not case.begun or (box / case.begun).exists()
    judge(
        boxes, case, command((*case.argv, *(case.resume if begun else ())), box), half, book, "real, killed", reference
    )
    book.finish()
