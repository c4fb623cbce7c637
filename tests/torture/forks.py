"""Commands as real processes: forks of this one, which has the heavy libraries imported, or the command itself.

Nothing here or in `forked` knows the package but `geodistill.cli.main`, so that the suite can be run against any other
source tree.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forked import become, run_main

LIMIT = 90.0
"""Seconds after which a process counts as hung; trials take one to five."""


@dataclass(frozen=True)
class Done:
    """How a process ended.

    Attributes:
        status: Its exit status, minus the signal's number where one ended it, ``None`` where it hung.
        out: What it printed.
        err: What it printed on standard error.
        seconds: How long it ran.
    """

    status: int | None
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        """The last line that tells an error, or the last of all."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("geodistill: error")]
        return (told or lines or ["nothing"])[-1][:300]


@dataclass
class Child:
    """A process that runs."""

    pid: int
    out: Path
    err: Path
    began: float
    status: int | None = None
    ended: bool = False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and, where it is the last one, to its own children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number) if number == signal.SIGKILL else os.kill(self.pid, number)

    def poll(self) -> bool:
        """Whether it has ended."""
        if not self.ended:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended, self.status = True, os.waitstatus_to_exitcode(code)
        return self.ended

    def wait(self, limit: float = LIMIT) -> Done:
        """Wait for its end, and kill it where that does not come."""
        end = time.monotonic() + limit
        while not self.poll() and time.monotonic() < end:
            time.sleep(0.005)
        if not self.ended:
            self.kill()
            os.waitpid(self.pid, 0)
            self.ended = True
        self.kill()  # whatever it started
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in (self.out, self.err))
        return Done(self.status, out, err, time.monotonic() - self.began)


def warm() -> None:
    """Import what commands use, those that export too, once for all forks."""
    for name in ("warm", "onnx", "onnxscript", "onnxruntime"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def start(
    argv: Sequence[str],
    place: Path,
    before: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | str | None = None,
    name: str = "first",
) -> Child:
    """Start a command in a folder.

    Args:
        argv: What follows ``geodistill``.
        place: Its current folder; what it prints goes beside it.
        before: Called in the new process before the command.
        env: Changes of the environment.
        stdout: A file descriptor or a file for its output instead.
        name: Tells what it prints from what another one does that runs at the same time.
    """
    out, err = place.with_suffix(f".{name}.out"), place.with_suffix(f".{name}.err")
    out.write_bytes(b"")
    err.write_bytes(b"")
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            _become(place, out if stdout is None else stdout, err, env or {})
            status = run_main(argv, before)
        finally:
            os._exit(status)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return Child(pid, out, err, began)


def _become(place: Path, out: int | str | Path, err: Path, env: Mapping[str, str]) -> None:
    """Be a process of its own: streams, folder, environment, no core file."""
    os.chdir(place)
    os.environ.update(env)
    target = out if isinstance(out, int) else os.open(out, os.O_WRONLY | os.O_CREAT)
    become(target, os.open(err, os.O_WRONLY | os.O_TRUNC))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(
    argv: Sequence[str],
    place: Path,
    before: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | str | None = None,
    limit: float = LIMIT,
) -> Done:
    """Run a command to its end."""
    return start(argv, place, before, env, stdout).wait(limit)


def command(argv: Sequence[str], place: Path, limit: float = 2 * LIMIT, seconds: float | None = None) -> Done:
    """Run ``python -m geodistill`` itself, killed after ``seconds`` where given."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "geodistill", *argv],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit if seconds is None else seconds)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = None if seconds is None else process.returncode
    return Done(status, out, err, time.monotonic() - began)
