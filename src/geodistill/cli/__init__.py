"""The command line: a table of verbs, each in a file of its own that is imported when its name is asked for."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from geodistill.cli.terminal import Terminated, ended_by_request, plain_output, print_message, quiet_libraries
from geodistill.errors import GeodistillError, first_line, shown
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
    "export": ("a Segmenter in other forms, such as ONNX, OpenVINO or for QGIS", "geodistill.cli.export:export"),
    "prompts": ("climate zone, season and what each class looks like there", "geodistill.cli.prompts:prompts"),
    "inspect": ("parameters, multiply-adds and memory of a recipe or Segmenter", "geodistill.cli.inspect:inspect"),
    "datasets": ("the benchmark sets that 'data scan --dataset' reads", "geodistill.cli.data:datasets"),
    "recipes": ("the shipped recipes", "geodistill.cli.listing:recipes"),
    "encoders": ("names of encoders", "geodistill.cli.listing:encoders"),
    "info": ("versions, devices, GDAL, memory and extras, for a report of a bug", "geodistill.cli.info:info"),
    "completion": ("completion for bash, zsh and fish", "geodistill.cli.completion:completion"),
}
"""What each verb is for, and the function that runs it."""


_OF_THE_PLACE = frozenset(
    (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE)
)
"""Errors of the system that a name, its folder or the machine is to blame for, wherever it is first looked at."""

_NO_MEMORY = re.compile(r"[Cc]an(no|')t allocate memory|CUDA out of memory")
"""How torch and the system say that there is too little memory."""

_NO_MEMORY_THERE = re.compile(r"Unable to allocate .*")
"""How NumPy says so, also within the report of a process that loads data."""


def entry() -> NoReturn:
    """Run the command line of this process."""
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Returns:
        0; 2 after the user's mistake or for want of memory (printed on one line), 130 after Ctrl-C, 143 where the
        process was asked to end. Any other exception is ours and passes through, which ends the process with status 1.
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
    except (MemoryError, RuntimeError, OSError) as error:
        message = _fault_of_the_machine(error)
        if message is None:
            raise
        print_message(f"error: {message}")
        return 2
    except KeyboardInterrupt as stopped:
        print_message("stopped")
        return 143 if isinstance(stopped, Terminated) else 130
    return 0


def _fault_of_the_machine(error: Exception) -> str | None:
    """Say on one line what the machine lacks or refuses; ``None`` for any other error."""
    if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
        return f"{shown(str(error.filename or 'a file'))} cannot be used ({error.strerror})"
    if lacking := _NO_MEMORY_THERE.search(str(error)):
        return f"there is too little memory ({lacking[0]})"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return f"there is too little memory ({first_line(error)})"
    return None


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
