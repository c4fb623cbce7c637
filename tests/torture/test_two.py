"""Two commands on one folder: the second says who holds it, the first is right."""

from __future__ import annotations

import signal
import time

import pytest

from torture.cases import CASES, RESUMED
from torture.forks import LIMIT, start
from torture.trials import MOST_TRIES, Book, Boxes, classify, count, differences, files_of, watch

KIND = "two at once"


@pytest.mark.parametrize("name", RESUMED)
def test_the_second_is_refused(boxes: Boxes, book: Book, name: str) -> None:
    case, reference = CASES[name], boxes.reference(name)
    number = len(reference.events)
    for trial in range(count(2)):
        for tried in range(MOST_TRIES):
            box = boxes.new(case)
            at = int(number * (0.3 + 0.05 * ((trial + tried) % 4)))  # it holds its folder then, and is not done
            env = {"TMPDIR": str(box / "tmp"), "GEODISTILL_CACHE": str(box / "tmp" / "kept")}
            first = start(case.argv, box, lambda at=at, box=box: watch(box, at=at, number=signal.SIGSTOP), env)
            end = time.monotonic() + LIMIT
            while time.monotonic() < end and not first.poll() and not _stopped(first.pid):
                time.sleep(0.01)
            if not first.poll() and _stopped(first.pid):
                break
            first.wait()
            book.add(KIND, f"{name} second", "missed", ("missed",) if tried + 1 < MOST_TRIES else ())
        else:
            continue
        begun = case.resume and (not case.begun or (box / case.begun).exists())
        words = [*case.argv, *(case.resume if begun else ())]
        second = start(words, box, env=env, name="second").wait()
        first.kill(signal.SIGCONT)
        done = first.wait()
        same = not differences(case, files_of(box), reference.files, reference.unsteady)
        outcome, told = classify(second, same, reference.err), second.said
        if outcome == "line" and str(first.pid) not in told:
            outcome, told = "noisy", f"the line does not say who: {told}"
        # Between two scenes no map is at work, and whoever comes may make them.
        good = ("line", "right") if name == "predict:scenes" else ("line",)
        book.add(KIND, f"{name} second", outcome, good, told)
        outcome = classify(done, same, reference.err)
        book.add(KIND, f"{name} first", outcome, ("right",), done.said)
    book.finish()


def _stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - no path of ours
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_two_runs_share_a_cache(boxes: Boxes, book: Book) -> None:
    """Each ends with its own result, whichever fills the cache."""
    name = "fit:cache"
    case, reference = CASES[name], boxes.reference(name)
    for _ in range(count(2)):
        box = boxes.new(case)
        other = [word.replace("out/run", "out/other") for word in case.argv]
        first, second = start(case.argv, box), start(other, box, name="second")
        ends = {"first": (first.wait(), "out/run"), "second": (second.wait(), "out/other")}
        found = files_of(box)
        for which, (done, folder) in ends.items():
            same = (
                found.get(f"{folder}/segmenter/model.safetensors")
                == reference.files["out/run/segmenter/model.safetensors"]
            )
            outcome = classify(done, same, reference.err)
            good = ("right", "line") if "in use" in done.said else ("right",)
            book.add(KIND, f"cache {which}", outcome, good, done.said)
    book.finish()
