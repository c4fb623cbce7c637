"""Disks that are full or small: one line, and after room is made the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from torture.cases import CASES, Case
from torture.forks import Done
from torture.trials import Book, Boxes, Reference, classify, count, differences, files_of, half_written, noise, watch

KIND = "full disk"
SHARES = (0.4, 0.8, 0.05)
"""How much of the room that a run's results take there is."""


@contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """Put a file system of ``size`` bytes (whole pages) at a folder."""
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={max(4096, size // 4096 * 4096)},mode=0755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here (not root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def make_room(place: Path) -> None:
    """Let the file system at a folder grow."""
    subprocess.run(["mount", "-o", "remount,size=400m", place], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount a small disk")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.slow or name == "export:onnx"])
def test_a_full_disk(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    needed = sum(len(content) // 4096 * 4096 + 4096 for content in reference.files.values())
    for share in SHARES[: 1 if case.slow else count(2)]:
        box = boxes.new()
        with disk(box / "out", int(needed * share)):
            try:
                case.prepare(box)
            except OSError:
                continue  # what the command reads does not fit
            old = files_of(box)
            full = boxes.go(case.argv)
            half = half_written(case, files_of(box), reference, old)
            first = classify(
                full, not differences(case, files_of(box), reference.files, reference.unsteady), reference.err
            )
            said = full.said if first != "noisy" else noise(full.err, reference.err)
            if first == "line" and "disk is full" not in said:
                first, said = "noisy", f"the line does not say that the disk is full: {said}"
            if half:
                first, said = "silent", half
            book.add(KIND, name, first, ("line", "right"), said)
            if first == "right":
                continue
            make_room(box / "out")
            begun = not case.begun or (box / case.begun).exists()
            done = boxes.go((*case.argv, *(case.resume if begun else ())))
            _judge(boxes, case, done, book, "disk, then room", reference)
    book.finish()


def _judge(boxes: Boxes, case: Case, done: Done, book: Book, kind: str, reference: Reference) -> None:
    others = differences(case, files_of(boxes.box), reference.files, reference.unsteady)
    outcome = classify(done, not others, reference.err)
    if outcome == "line" and not others and "finished" in done.said:
        outcome = "right"
    book.add(kind, case.name, outcome, ("right",), others[0] if outcome == "silent" else done.said)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount a small disk")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.slow or name == "export:onnx"])
def test_a_small_folder_of_temporary_files(boxes: Boxes, book: Book, name: str) -> None:
    """Results do not go by way of the system's temporary folder; where a library's must, one line says so."""
    case, reference = CASES[name], boxes.reference(name)
    box = boxes.new(case)
    with disk(box / "tmp", 16384):
        done = boxes.go(case.argv)
        _judge(boxes, case, done, book, "small TMPDIR", reference)
    book.finish()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount a small disk")
@pytest.mark.parametrize("name", ["fit:validation", "fit:ktda", "predict:scenes", "label:grabcut", "export:hub"])
def test_a_kill_with_temporary_files_on_another_disk(boxes: Boxes, book: Book, name: str) -> None:
    """What goes by way of a temporary folder on another disk is copied, not renamed, and may be cut in the middle."""
    case, reference = CASES[name], boxes.reference(name)
    box = boxes.new(case)
    with disk(box / "out", 400 << 20):
        boxes.go(case.argv, lambda: watch(box, box / "events"))
    events = (box / "events").read_text(encoding="utf-8", errors="replace").splitlines()
    copies = [at for at, event in enumerate(events, 1) if event.startswith("sendfile")]
    rng = random.Random(name)
    wanted = count(3) if copies else count(2)
    chosen = rng.sample(copies or range(1, len(events) + 1), min(wanted, len(copies or events)))
    for at in sorted(chosen):
        box = boxes.new(case)
        with disk(box / "out", 400 << 20):
            boxes.go(case.argv, lambda at=at, box=box: watch(box, at=at))
            begun = not case.begun or (box / case.begun).exists()
            done = boxes.go((*case.argv, *(case.resume if begun else ())))
            _judge(boxes, case, done, book, "kill, other TMPDIR", reference)
    book.finish()
