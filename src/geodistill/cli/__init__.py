"""The command line: a table of verbs, each imported when its name is asked for, and the streams that each runs in.

Readers of standard output may go away, names may hold anything, libraries keep silent.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from geodistill.errors import GeodistillError, GeodistillWarning, OutputError, printable
from geodistill.extras import extra_of, missing_extra
from geodistill.lazy import choose
from geodistill.memory import keep_freed_memory
from geodistill.version import __version__

Verbs = Mapping[str, tuple[str, str]]
"""Of each verb its line in the help, and ``module:function`` of what runs it on the arguments behind its name."""

VERBS: Verbs = {
    "demo": ("the whole way on made-up scenes, on a laptop, without downloads", "geodistill.cli.demo:demo"),
    "init": ("a project file, written from what a folder holds", "geodistill.cli.init:init"),
    "run": ("a project file: boxes or masks in, model, scores and maps out", "geodistill.cli.run:run"),
    "data": ("folder of images and masks -> manifest; find broken files; class balance", "geodistill.cli.data:data"),
    "label": ("boxes of any detection set -> masks, with GrabCut or the SAM family", "geodistill.cli.label:label"),
    "review": ("a person's eye on labels: decide in the browser, one key each", "geodistill.cli.review:review"),
    "fit": ("train a recipe, with or without distillation from a frozen encoder", "geodistill.cli.fit:fit"),
    "evaluate": ("IoU, F1, precision, recall, OA over a split; worst images", "geodistill.cli.evaluate:evaluate"),
    "robustness": (
        "how a model's maps change where images are shifted, darker, noisier or coarser",
        "geodistill.cli.robustness:robustness",
    ),
    "compare": ("students compared with their teacher: size, speed, scores", "geodistill.cli.compare:compare"),
    "report": ("one page about a run or evaluation: scores, curves, images", "geodistill.cli.report:report"),
    "explain": ("what a model and its teacher see in an image: features, evidence", "geodistill.cli.explain:explain"),
    "reproduce": (
        "a paper's table: its rows run by recipe, and the published figures",
        "geodistill.papers.command:reproduce",
    ),
    "predict": ("rasters of any size -> georeferenced maps", "geodistill.cli.predict:predict"),
    "assess": ("how many hectares and how accurate a map is, plus or minus what", "geodistill.cli.assess:assess"),
    "change": ("two maps of one place -> what changed, with areas", "geodistill.cli.change:change"),
    "export": ("a Segmenter as ONNX, for QGIS, as a STAC item, in the Hub's layout", "geodistill.cli.export:export"),
    "prompts": ("climate zone, season and what each class looks like there", "geodistill.cli.prompts:prompts"),
    "inspect": ("parameters, multiply-adds and memory of a recipe or Segmenter", "geodistill.cli.inspect:inspect"),
    "datasets": ("the benchmark sets that 'data scan --dataset' reads", "geodistill.cli.data:datasets"),
    "recipes": ("the shipped recipes", "geodistill.cli.listing:recipes"),
    "encoders": ("names of encoders", "geodistill.cli.listing:encoders"),
    "info": ("versions, devices, GDAL, memory and extras, for a report of a bug", "geodistill.cli.info:info"),
    "completion": ("completion for bash, zsh and fish", "geodistill.cli.completion:completion"),
}
"""What each verb is for, and the function that runs it."""


def entry() -> NoReturn:
    """Run the command line of this process."""
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0, or 2 after the user's mistake (printed on one line), 130 after Ctrl-C, 143 where the process was asked to
        end. Any other exception is ours and passes through, which ends the process with status 1.
    """
    try:
        with ended_by_request(), quiet_libraries(), plain_output():
            run_verb(VERBS, "geodistill", argv)
    except GeodistillError as error:
        print_message(f"error: {error}")
        return 2
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        print_message(f"error: {missing_extra(str(error.name), extra)}")
        return 2
    except KeyboardInterrupt as stopped:
        print_message("stopped")
        return 143 if isinstance(stopped, Terminated) else 130
    return 0


def run_verb(verbs: Verbs, prog: str, argv: Sequence[str]) -> None:
    """Run the verb that ``argv`` begins with, or list all of them.

    Raises:
        UnknownNameError: There is no such verb.
    """
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, verbs))
        lines = [f"  {prog} {name:<{width}}  {help_line}" for name, (help_line, _) in verbs.items()]
        print(f"usage: {prog} VERB ...\n\n" + "\n".join(lines) + f"\n\n'{prog} VERB --help' explains a verb.")
    elif argv[0] == "--version":
        print(f"geodistill {__version__}")
    else:
        targets = {name: target for name, (_, target) in verbs.items()}
        choose("verb", argv[0], targets, f"see '{prog} --help'")(argv[1:])


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
    print(json.dumps(data, indent=2) if as_json else text)


def print_json(data: object) -> None:
    """Print JSON for another program."""
    print(json.dumps(data, indent=2))
