"""Functions and commands in processes of their own, forked from a server that has imported all once.

A start takes milliseconds, where an interpreter of its own takes seconds to import torch and lightning. The server is
no fork of pytest: what ran there may have started autograd's threads, after which no forked process can train.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

LIMIT = 240.0
"""Seconds after which a process counts as hung."""

CLOSED = Path("/dev/null/closed")
"""As standard output: a pipe whose reader went away."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["warm"])


def begin(function: Callable[..., object], *arguments: Any, **named: Any) -> BaseProcess:
    """Start a function of a module, which the process imports by name."""
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))):  # the server's only way to `warm`
        forkserver.ensure_running()
    process = _SERVER.Process(target=function, args=arguments, kwargs=named)
    process.start()
    return process


def run_function(function: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Run a function to its good end."""
    process = begin(function, *arguments, **named)
    process.join(LIMIT)
    assert process.exitcode == 0, process.exitcode


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, minus the signal's number where one ended it, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """A command that runs."""

    process: BaseProcess
    out: Path
    err: Path

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self) -> Ended:
        """Wait for its end."""
        self.process.join(LIMIT)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
        assert status is not None, f"it hangs: {self.err.read_text()[-2000:]}"
        out, err = (
            path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            for path in (self.out, self.err)
        )
        return Ended(status, out, err)


def start(
    argv: Sequence[str | Path], place: Path, stdout: Path | None = None, absent: Sequence[str] = (), **env: str
) -> Command:
    """Start a command.

    Args:
        argv: What follows ``geodistill``.
        place: A folder for what it prints.
        stdout: A file to print to instead, such as ``/dev/full`` or `CLOSED`.
        absent: Packages that count as not installed.
        **env: Changes of the environment.
    """
    number = len(list(place.glob("printed-*.err")))
    out, err = place / f"printed-{number}.out", place / f"printed-{number}.err"
    out.touch()
    err.touch()
    out = stdout or out
    return Command(begin(_command, [str(word) for word in argv], out, err, absent, env), out, err)


def run(
    argv: Sequence[str | Path], place: Path, stdout: Path | None = None, absent: Sequence[str] = (), **env: str
) -> Ended:
    """Run a command to its end; for the arguments see `start`."""
    return start(argv, place, stdout, absent, **env).wait()


def _command(argv: Sequence[str], out: Path, err: Path, absent: Sequence[str], env: Mapping[str, str]) -> None:
    os.environ.update({"OMP_NUM_THREADS": "1"} | dict(env))
    if out == CLOSED:
        reader, target = os.pipe()
        os.close(reader)
    else:
        target = os.open(out, os.O_WRONLY | os.O_CREAT)
    become(target, os.open(err, os.O_WRONLY | os.O_TRUNC))
    if absent:  # what is imported already is forgotten, and with it the package's own modules that have used it
        for name in [name for name in sys.modules if name.partition(".")[0] in ("geodistill", *absent)]:
            del sys.modules[name]
        sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    raise SystemExit(run_main(argv))


def become(out: int, err: int) -> None:
    """Have the streams and signals of a process of its own; files are given by their descriptors."""
    tempfile.tempdir = None
    for number, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(source, number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", errors=errors)
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)


class _Ending:
    """Turns what ends a command into its exit status, as Python does."""

    status = 0

    def __enter__(self) -> _Ending:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, SystemExit):
            self.status = error.code if isinstance(error.code, int) else 1
        elif error is not None:
            traceback.print_exception(error)
            self.status = 1
        return True


def run_main(argv: Sequence[str], before: Callable[[], object] | None = None) -> int:
    """Run a command in this process, and return the status with which Python would end."""
    from geodistill.cli import main

    with _Ending() as ending:
        if before is not None:
            before()
        ending.status = int(main(list(argv)) or 0)
    try:
        sys.stdout.flush()
    except OSError:
        ending.status = 120  # as Python ends where output is lost at exit
    with suppress(OSError):
        sys.stderr.flush()
    return ending.status
