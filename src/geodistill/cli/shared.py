"""What every verb shares: the table it stands in, and output as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from geodistill.lazy import choose
from geodistill.version import __version__

Verbs = Mapping[str, tuple[str, str]]
"""Of each verb its line in the help, and ``module:function`` of what runs it on the arguments behind its name."""


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


def print_result(as_json: bool, data: object, text: str) -> None:
    """Print JSON for another program, or text for people."""
    print(json.dumps(data, indent=2) if as_json else text)


def print_json(data: object) -> None:
    """Print JSON for another program."""
    print(json.dumps(data, indent=2))
