"""Standard output and error as every verb uses them: readers may go away, names may hold anything."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO, cast

from geodistill.errors import OutputError, printable


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
