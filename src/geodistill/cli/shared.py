"""What every verb's command line shares: a table of verbs, a parser with an example, JSON output."""

from __future__ import annotations

import json
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from geodistill.errors import RecipeError
from geodistill.lazy import choose
from geodistill.version import __version__

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

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


def verb_parser(verb: str, description: str, example: str) -> ArgumentParser:
    """Return a parser whose help ends with an example."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(
        prog=f"geodistill {verb}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=RawDescriptionHelpFormatter,
        exit_on_error=False,
        print_config=None,  # else it keeps the flag of fit's for itself
    )


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Parse flags.

    Raises:
        RecipeError: A flag is unknown, missing or has a wrong value.
    """
    try:
        args: Namespace = parser.parse_args(list(argv))
    except ArgumentError as error:
        message = " ".join(str(error).split())
        raise RecipeError(f"{parser.prog}: {message}", "", f"see '{parser.prog} --help'") from error
    return args


def refuse_idle(parser: ArgumentParser, args: Namespace, flags: Iterable[str], where: str) -> None:
    """Refuse flags, such as ``--address``, that do nothing ``where``, such as ``without --engine ray``.

    Raises:
        RecipeError: One of them has another value than its default.
    """
    names = {flag: flag.removeprefix("--").replace("-", "_") for flag in flags}
    given = [flag for flag, name in names.items() if args[name] != parser.get_default(name)]
    if given:
        one = len(given) == 1
        raise RecipeError(
            f"{' and '.join(given)} {where}",
            "flags that have an effect",
            f"leave {'it' if one else 'them'} out, or see '{parser.prog} --help'",
        )


def one_of(names: Iterable[str]) -> str:
    """Return a choice of names in words, for a flag's help: ``cosine or none``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def print_result(as_json: bool, data: object, text: str) -> None:
    """Print JSON for another program, or text for people."""
    print(json.dumps(data, indent=2) if as_json else text)


def print_json(data: object) -> None:
    """Print JSON for another program."""
    print(json.dumps(data, indent=2))
