"""Standard output and error as every verb uses them: readers may go away, names may hold anything; text or JSON."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO, cast

from geodistill.errors import GeodistillWarning, OutputError, printable
from geodistill.writing import json_number

_STDERR = 2


class PlainOutput:
    """A text stream in front of another, for results printed as work goes on.

    A reader that goes away (``geodistill predict ... | head -1``) does not end the work: what comes after is dropped.
    Any other failure to write, such as a full disk, is kept until the command's end. Control characters, which a name
    of a class or a file may hold, are written as escapes; so is what the stream's encoding lacks.

    Args:
        stream: Where text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        """Be the stream below in all else."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it where nobody can read it."""
        if self._error is None:
            try:
                encoding = self._stream.encoding or "utf-8"
                self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
            except OSError as error:
                self._error = error
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        if self._error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._error = error

    def finish(self) -> None:
        """Hand on what is buffered, at a command's end.

        Raises:
            OutputError: Something could not be written for another reason than that its reader went away.
        """
        self.flush()
        if self._error is None:
            return
        # Python flushes the stream once more at exit, and would print a traceback of its own.
        with suppress(OSError, ValueError):
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self._stream.fileno())
            os.close(sink)
        if not isinstance(self._error, BrokenPipeError):
            reason = self._error.strerror or str(self._error)
            raise OutputError(f"standard output cannot be written ({reason})", "a writable place")


@contextmanager
def plain_output() -> Iterator[None]:
    """Put a `PlainOutput` in front of standard output.

    Raises:
        OutputError: Something that was printed could not be written.
    """
    before, output = sys.stdout, PlainOutput(sys.stdout)
    sys.stdout = cast(TextIO, output)
    try:
        yield
        output.finish()
    finally:
        sys.stdout = before


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Print our own warnings, each once on one line, and nothing else that a library says.

    GDAL, libtiff, libpng and OpenCV print on the file descriptor of standard error, past Python: that leads nowhere
    meanwhile, and `sys.stderr` has a descriptor of its own. What libraries log goes nowhere either, the hub's client's
    count of its retries among it.
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read as torch is loaded; the other processes take it over
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        # Python's own memory of what was shown is emptied whenever a library changes the filters.
        if issubclass(category, GeodistillWarning) and str(message) not in shown:
            shown.add(str(message))
            print_message(str(message))

    unheard = logging.NullHandler()
    logging.getLogger().addHandler(unheard)
    try:
        with _own_stderr(), warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logging.getLogger().removeHandler(unheard)


@contextmanager
def _own_stderr() -> Iterator[None]:
    before = sys.stderr
    try:
        plain = before.fileno() == _STDERR
    except (OSError, ValueError, AttributeError):  # no stream, where standard error is closed; or none that is a file
        plain = False
    if not plain:
        yield
        return
    terminal, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    with os.fdopen(terminal, "w", encoding=before.encoding, errors="backslashreplace", buffering=1) as sys.stderr:
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            sys.stderr = before


def share_stderr() -> None:
    """Let processes that this one starts, and libraries, print on standard error until the command ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(sys.stderr.fileno(), _STDERR)


def print_message(text: str) -> None:
    """Print one line for the user on standard error; nothing where standard error is closed."""
    with suppress(OSError):
        print(f"geodistill: {printable(text)}", file=sys.stderr)


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as a batch system does; it cleans up as after Ctrl-C."""


@contextmanager
def ended_by_request() -> Iterator[None]:
    """Raise `Terminated` where the process is asked to end, so that nothing half-written is left."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread: whoever started it decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_result(as_json: bool, data: object, text: str) -> None:
    """Print JSON for another program, or text for people."""
    if as_json:
        print_json(data)
    else:
        print(text)


def print_json(data: object) -> None:
    """Print JSON for another program; figures that are not finite, which JSON has no words for, as ``null``."""
    print(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(data: object) -> object:
    """Return JSON's data with ``None`` for each figure that is not finite."""
    if isinstance(data, float):
        return json_number(data)
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
