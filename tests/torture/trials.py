"""A box for each trial, what an uninterrupted run leaves in it, and how what happened is called."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.cases import CASES, Case
from torture.forks import Done, run

SCALE = float(os.environ.get("GEODISTILL_TORTURE", "1"))
"""How many times the default number of trials; below 1, a share of them on some of the commands alone."""

OUTCOMES = ("right", "line", "told", "stopped", "traceback", "crash", "hang", "silent", "left", "noisy", "missed")
"""What may come of a trial.

``right``: status 0 (or a refusal to do again what is done) and the bytes of an uninterrupted run. ``line``: status 2
and one line that says why. ``told``: status 0, other bytes, and a line that says why. ``stopped``: ended on request.
``silent``: other bytes, something half-written or lost, and nothing said. ``left``: right, but files of a killed
process stay. ``noisy``: status 2 with more than our lines. ``missed``: what was to be met in mid-run had not begun or
was over, so that nothing was tried.
"""

LEFT = re.compile(r"\.(part|old)-\d+|^\.geodistill\.lock|\.work$")
_NUMBER = re.compile(r"[0-9a-f.]*\d[0-9a-f.]*")
_NOISE = re.compile(r"Traceback \(most recent call last\)|^\w+(Error|Exception|Interrupt)\b", re.MULTILINE)


def count(usual: int) -> int:
    """How many trials instead of the usual number, at least one."""
    return max(1, round(usual * SCALE))


@dataclass
class Book:
    """Where trials are written down, one JSON line each."""

    file: Path
    bad: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str, outcome: str, allowed: Iterable[str], said: str = "") -> None:
        """Write a trial down.

        Args:
            kind: Class of trials.
            what: Case or target.
            outcome: One of `OUTCOMES`.
            allowed: The outcomes that are good.
            said: What the command told, or what differs.
        """
        good = outcome in set(allowed)
        entry = {"kind": kind, "what": what, "outcome": outcome, "good": good, "said": said}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if not good:
            self.bad.append(f"{kind}, {what}: {outcome}: {said}")

    def finish(self) -> None:
        """Fail where a trial since the last call was bad."""
        bad, self.bad = self.bad, []
        if bad:
            raise AssertionError(f"{len(bad)} bad trials\n" + "\n".join(bad[:20]))


MOST_TRIES = 8
"""Times that a trial is tried again which came too early or too late."""


Files = dict[str, bytes]


def files_of(folder: Path, below: str = "out") -> Files:
    """Every file below a folder by its name relative to it; links and sockets as what they are."""
    found: Files = {}
    for place, _, names in os.walk(folder / below):
        for name in names:
            path = Path(place) / name
            key = path.relative_to(folder).as_posix()
            found[key] = f"link {path.readlink()}".encode() if path.is_symlink() else path.read_bytes()
    return found


@dataclass
class Reference:
    """What an uninterrupted run leaves.

    Attributes:
        files: What is below ``out``.
        seconds: How long it took.
        events: What it did to files, in order, as `watch` names it.
        err: What it told.
        unsteady: Files that a second run, a second later, wrote in other bytes: counted once, and not compared again.
    """

    files: Files
    seconds: float
    events: list[str]
    err: str
    unsteady: set[str]


class Boxes:
    """One folder in which trial after trial is made, so that paths in results are the same."""

    def __init__(self, folder: Path, world: Path) -> None:
        self.box, self.world = folder / "box", world
        self.inputs = files_of(world.parent, "in")
        self._references: dict[Any, Reference] = {}

    def new(self, case: Case | None = None) -> Path:
        """Empty the box and put the world into it."""
        shutil.rmtree(self.box, ignore_errors=True)
        (self.box / "out").mkdir(parents=True)
        (self.box / "tmp").mkdir()
        shutil.copytree(self.world, self.box / "in")
        if case is not None:
            case.prepare(self.box)
        return self.box

    def go(self, argv: Iterable[str], before: Callable[[], object] | None = None, **more: Any) -> Done:
        """Run a command in the box."""
        env = {"TMPDIR": str(self.box / "tmp"), "GEODISTILL_CACHE": str(self.box / "tmp" / "kept")}
        return run(list(argv), self.box, before, env | more.pop("env", {}), **more)

    def reference(self, name: str, case: Case | None = None) -> Reference:
        """Run a case without any trouble, twice, the first time it is asked for."""
        case = case or CASES[name]
        key = (name, case.argv)
        if key not in self._references:
            box, log = self.new(case), self.box / "events"
            done = self.go(case.argv, lambda: watch(box, log))
            if done.status != 0:
                raise RuntimeError(f"{name} fails by itself: {done.status}: {done.err[-3000:]}")
            events = log.read_text(encoding="utf-8", errors="replace").splitlines()
            files = files_of(box)
            self.new(case)
            time.sleep(max(0.0, 1.1 - done.seconds))
            self.go(case.argv)
            unsteady = {told.rpartition(" ")[0] for told in differences(case, files_of(box), files)}
            self._references[key] = Reference(files, done.seconds, events, done.err, unsteady)
        return self._references[key]

    def lost(self, but: Iterable[str] = ()) -> str:
        """Name an input that is not as it was, or nothing."""
        now, skipped = files_of(self.box, "in"), set(but)
        changed = [name for name in self.inputs | now if self.inputs.get(name) != now.get(name) and name not in skipped]
        return f"input {changed[0]} changed" if changed else ""


def watch(root: Path, log: Path | None = None, at: int = 0, number: int = signal.SIGKILL) -> None:
    """Note what this process does to files below a folder, or end it just before the ``at``-th thing it does.

    Python's own operations are seen (open to write, rename, remove, make and remove folders, flush to disk, copy in the
    kernel), not those of C libraries.
    """
    place, seen, note = os.fspath(root), [0], -1
    if log is not None:
        note = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def step(name: str, path: str) -> None:
        seen[0] += 1
        if note >= 0:
            os.write(note, f"{name} {path}\n".encode(errors="replace"))
        if seen[0] == at:
            os.kill(os.getpid(), number)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            path = args[1] if event in ("os.rename", "os.link") else args[0]
        else:
            return
        text = os.fsdecode(path) if isinstance(path, str | bytes) else ""
        full = text if text.startswith("/") else f"{place}/{text}"
        if text and full.startswith(place):
            step(event, full)

    fsync, sendfile = os.fsync, os.sendfile

    def fsync_seen(fd: Any) -> None:
        step("fsync", str(fd))
        fsync(fd)

    def sendfile_seen(out: int, source: int, offset: int, size: int, **more: Any) -> int:
        sent = sendfile(out, source, offset, min(size, 4096) if at else size, **more)
        step("sendfile", str(out))
        return sent

    os.fsync, os.sendfile = fsync_seen, sendfile_seen  # type: ignore[assignment]
    sys.addaudithook(hook)


def differences(case: Case, found: Files, wanted: Files, but: Collection[str] = ()) -> list[str]:
    """Names whose bytes are not those of the uninterrupted run; logs and leftovers do not count."""
    names = [name for name in found | wanted if not case.is_loose(name) and name not in but]
    left = leftovers(found)
    names = [name for name in names if found.get(name) != wanted.get(name) and name not in left]
    return [f"{name} {'missing' if name not in found else 'other' if name in wanted else 'too much'}" for name in names]


def leftovers(found: Files) -> list[str]:
    """Files that a killed process left: unfinished ones, locks, work."""
    return [name for name in found if any(LEFT.search(part) for part in name.split("/"))]


def half_written(case: Case, found: Files, reference: Reference, old: Files) -> str:
    """Name what is under a final name after a kill and is neither whole, nor as it was, nor known as unfinished."""
    wanted = reference.files
    for name, content in found.items():
        known = case.is_state(name) or case.is_loose(name) or name in reference.unsteady
        if not known and content not in (wanted.get(name), old.get(name)):
            return f"half-written: {name}"
    for folder in case.folders:
        inside = {name for name in wanted if name.startswith(folder + "/")}
        there = {name for name in found if name in inside}
        if there and there != inside:
            return f"half a folder: {folder}"
    return ""


def classify(done: Done, same: bool, reference: str = "") -> str:
    """Name what came of a command.

    Args:
        done: How it ended.
        same: Whether its results are as wanted.
        reference: What it tells on standard error where nothing is wrong: not counted as noise.
    """
    if done.status is None:
        return "hang"
    if done.status in (130, 143) or (done.status == -signal.SIGTERM and not done.err.strip()):
        return "stopped"
    if done.status < 0:
        return "crash"
    if _NOISE.search(done.err) or done.status not in (0, 2):
        return "traceback"
    if done.status == 2:
        return "noisy" if noise(done.err, reference) else "line"
    if same:
        return "right"
    return "told" if any(line.startswith("geodistill:") for line in _new_lines(done.err, reference)) else "silent"


def noise(err: str, reference: str = "") -> str:
    """Return a line beside ours, or what is there in place of our last one; nothing where all is well."""
    lines = [line for line in err.splitlines() if line.strip()]
    if not lines or not lines[-1].startswith("geodistill: error:"):
        return lines[-1] if lines else "nothing told"
    others = [line for line in _new_lines(err, reference) if not line.startswith("geodistill:")]
    return next((line for line in others if "\r" not in line and "%|" not in line), "")


def _new_lines(err: str, reference: str) -> list[str]:
    """Return lines that are not told where nothing is wrong; numbers in them do not count."""
    known = {_NUMBER.sub("", line) for line in reference.splitlines()}
    return [line for line in err.splitlines() if line.strip() and _NUMBER.sub("", line) not in known]
