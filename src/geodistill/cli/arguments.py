"""How every verb's command line is declared: options in named groups, each with its default, its choices and a help."""

from __future__ import annotations

import re
import textwrap
from argparse import Action, ArgumentParser, BooleanOptionalAction, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn, TypeVar, cast

from geodistill.cli.terminal import print_message
from geodistill.errors import RecipeError, UnknownNameError, listed

T = TypeVar("T")

Group = Literal["most used", "input", "output", "quality", "speed", "place", "many machines"]
"""Titles of the groups of options. A verb of many options shows those that matter first, under `most used`."""

MODEL = "Segmenter directory, run directory or hub id"
MANIFEST = "a manifest that 'geodistill data scan' wrote, or its folder"
SHARES = ("TRAIN", "VAL", "TEST")
DEVICE = "auto (a GPU where there is one), cpu, cuda, cuda:1 ..."
LONLAT = "longitude and latitude in degrees (MetaSegNet only)"
SCALES = "average over the image at these factors of its size, such as 0.75 1 1.5; time grows with their squares"
SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Option:
    """One option of a verb, for its help, its checks and the completion of shells.

    Attributes:
        action: argparse's part of it.
        group: Where it stands in the help.
        choices: The values it takes; any where empty.
        default: What happens without it, in words; empty where it must be given.
    """

    action: Action
    group: Group
    choices: tuple[str, ...]
    default: str

    @property
    def name(self) -> str:
        """How it is written: ``--blend``, or ``runs`` for one without a flag."""
        return self.action.option_strings[0] if self.action.option_strings else self.action.dest

    @property
    def about(self) -> str:
        """Its help, in one line."""
        return (self.action.help or "").replace("%%", "%")

    @property
    def values(self) -> str:
        """Its values in a line of usage: ``SCENE ...``."""
        metavar = self.action.metavar or self.action.dest.upper()
        return metavar + " ..." * (self.action.nargs in ("+", "*")) if isinstance(metavar, str) else " ".join(metavar)

    def check(self, value: Any) -> None:
        """Refuse a value that is not among the choices.

        Raises:
            UnknownNameError: It is another.
        """
        for one in value if isinstance(value, list) else [value]:
            if self.choices and one is not None and one not in self.choices:
                raise UnknownNameError(f"value of {self.name}", str(one), self.choices)


class VerbParser(ArgumentParser):
    """The parser of a verb; `parse` is what reads a command line with it.

    Args:
        verb: Its name, such as ``data scan``.
        description: What it does.
        example: A command, shown at the end of its help.
        typed: Names of the options whose values may stand without their flags, in this order; of several values
            takes the last all that are left.

    Attributes:
        options: Its options.
        old_forms: What was written in earlier versions, such as ``--resample``, and what is written now.
    """

    def __init__(self, verb: str, description: str, example: str, typed: Sequence[str] = ()) -> None:
        super().__init__(
            prog=f"geodistill {verb}",
            description=textwrap.fill(description, 90),
            epilog=f"example:\n  {example}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # argparse's own pattern takes -1e-3 for a flag.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)
        self.typed, self.options = tuple(typed), list[Option]()
        self.old_forms: dict[str, tuple[str, ...]] = {}

    def add_group(self, title: Group) -> OptionGroup:
        """Return a new group that options are added to by calling it."""
        return OptionGroup(self, title)

    def find(self, dest: str) -> Option:
        """Return the option whose value has this name."""
        return next(option for option in self.options if option.action.dest == dest)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError(f"{self.prog}: {message}", "", f"see '{self.prog} --help'")

    def format_usage(self) -> str:
        """Return the line that says how the verb is called at least."""
        typed = [self.find(dest) for dest in self.typed] + [o for o in self.options if not o.action.option_strings]
        words = [f"[{option.values}]" if option.default else option.values for option in typed]
        words += [f"{o.name} {o.values}" for o in self.options if not o.default and o not in typed]
        return f"usage: {' '.join([self.prog, *words])} [options]\n"

    def format_help(self) -> str:
        """Return the help."""
        self.usage = self.format_usage().removeprefix("usage: ").rstrip()
        return super().format_help()


class OptionGroup:
    """A named group of a verb's options; a call adds one.

    Args:
        parser: The verb's parser.
        title: Its heading in the help.
    """

    def __init__(self, parser: VerbParser, title: Group) -> None:
        self._parser, self._title = parser, title
        self._group = parser.add_argument_group(title)

    def __call__(
        self,
        name: str,
        help: str,
        *,
        type: Callable[[str], Any] = str,
        default: Any = None,
        otherwise: str = "",
        required: bool = False,
        choices: Iterable[str] = (),
        nargs: int | str | None = None,
        metavar: str | tuple[str, ...] | None = None,
    ) -> None:
        """Add an option.

        Args:
            name: How it is written, such as ``--blend``; without dashes for a value that has no flag.
            help: What it is for; choices and default are added.
            type: What its text is read by.
            default: Its value where it is not given.
            otherwise: What happens then, in words, where the default does not say so itself.
            required: It must be given.
            choices: The only values it takes.
            nargs: As in argparse.
            metavar: What stands for its values.
        """
        known = tuple(choices)
        words = "" if required else otherwise or _in_words(default)
        if known:
            help = f"{help}: {one_of(known)}" if help else one_of(known)
        if name.lstrip("-").replace("-", "_") in self._parser.typed:
            help = f"{help}; also without {name}"
        help = f"{help} ({f'default: {words}' if words else 'required'})".replace("%", "%%")
        metavar = "N" if metavar is None and nargs is None and type in (int, float) else metavar
        flags = (name, "-o") if name == "--out" else (name,)
        action = self._group.add_argument(*flags, type=type, default=default, nargs=nargs, help=help, metavar=metavar)
        self._parser.options.append(Option(action, self._title, known, words))

    def switch(self, name: str, help: str, *, default: bool | None = False, otherwise: str = "") -> None:
        """Add an option that is on or off: ``--name``, and ``--no-name`` where it is not off by itself.

        What earlier versions wrote, ``--name yes`` and ``--name no``, is read with a notice.

        Args:
            name: How it is written.
            help: What it does.
            default: On, off, or what others decide (``None``).
            otherwise: What happens in the last case.
        """
        words = otherwise or _in_words(default)
        text = f"{help} (default: {words})".replace("%", "%%")
        if default is False:
            action = self._group.add_argument(name, action="store_true", help=text)
        else:
            action = self._group.add_argument(name, action=BooleanOptionalAction, default=default, help=text)
            for old, new in {"yes": name, "true": name, "no": f"--no-{name[2:]}", "false": f"--no-{name[2:]}"}.items():
                self._parser.old_forms[f"{name} {old}"] = (new,)
        self._parser.options.append(Option(action, self._title, (), words))


def parse(parser: VerbParser, argv: Sequence[str]) -> Namespace:
    """Read a command line.

    Raises:
        RecipeError: An option is unknown, missing, given twice in two forms, or has a wrong value.
        UnknownNameError: A value is not among an option's choices, or there is no such option.
    """
    tokens = _in_new_forms(parser, argv)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for flag in (token.partition("=")[0] for token in tokens if token[:2] == "--" != token):
        if flag not in flags:
            raise UnknownNameError(f"flag of '{parser.prog}'", flag, flags, f"see '{parser.prog} --help'")
    args, unknown = parser.parse_known_args(_with_flags(parser, tokens))
    if unknown:
        parser.error(f"not understood: {listed(unknown)}")
    missing = [o.name for o in parser.options if not o.default and getattr(args, o.action.dest) in (None, [])]
    if missing:
        parser.error(f"required: {', '.join(missing)}")
    for option in parser.options:
        option.check(getattr(args, option.action.dest))
    return args


def _in_new_forms(parser: VerbParser, argv: Sequence[str]) -> list[str]:
    """Put what earlier versions wrote into today's form, with a notice."""
    tokens: list[str] = []
    left = list(argv)
    while left:
        token = left.pop(0)
        pair = token.replace("=", " ", 1) if "=" in token or not left else f"{token} {left[0]}"
        old = next((form for form in (token, pair.lower()) if form in parser.old_forms), None)
        if old is None:
            tokens.append(token)
            continue
        if " " in old and "=" not in token:
            left.pop(0)
        new = parser.old_forms[old]
        print_message(f"{old} is now written {' '.join(new)}")
        tokens += new
    return tokens


def _with_flags(parser: VerbParser, tokens: Sequence[str]) -> list[str]:
    """Put the flag before each value that stands without one.

    Raises:
        RecipeError: An option is given with its flag and without.
    """
    if not parser.typed:
        return list(tokens)
    flagged, typed = _apart(parser, tokens)
    given = {token.partition("=")[0] for token in flagged}
    for dest in parser.typed:
        if not typed:
            break
        option = parser.find(dest)
        if option.name in given:
            parser.error(f"both {typed[0]} and {option.name}; expected one of them")
        count = len(typed) if option.action.nargs == "+" else 1
        flagged, typed = [*flagged, option.name, *typed[:count]], typed[count:]
    if typed:
        parser.error(f"not understood: {listed(typed)}")
    return flagged


def _apart(parser: VerbParser, tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part flags with their values from values that stand without a flag."""
    actions = {flag: action for action in parser._actions for flag in action.option_strings}
    flagged, typed = list[str](), list[str]()
    free = 0.0  # how many values the flag before takes yet
    for token in tokens:
        is_flag = token.startswith("-") and not token[1:].lstrip(".")[:1].isdigit() and len(token) > 1
        if is_flag:
            action = actions.get(token)
            nargs = 0 if action is None else 1 if action.nargs is None else action.nargs
            free = float("inf") if isinstance(nargs, str) else float(nargs)
            flagged.append(token)
        elif free:
            free -= 1
            flagged.append(token)
        else:
            typed.append(token)
    return flagged, typed


def options_of(kind: type[T], args: Namespace, read: Mapping[str, Any] | None = None) -> T:
    """Return a dataclass of options whose fields are flags of the same names; ``read`` are those in another form."""
    flags = {field.name: getattr(args, field.name) for field in fields(cast(Any, kind)) if hasattr(args, field.name)}
    return kind(**flags | dict(read or {}))


def refuse_idle(parser: VerbParser, args: Namespace, flags: Iterable[str], where: str) -> None:
    """Refuse flags, such as ``--address``, that do nothing ``where``, such as ``without --engine ray``.

    Raises:
        RecipeError: One of them has another value than its default.
    """
    names = {flag: flag.removeprefix("--").replace("-", "_") for flag in flags}
    given = [flag for flag, name in names.items() if getattr(args, name) != parser.get_default(name)]
    if given:
        one = len(given) == 1
        raise RecipeError(
            f"{' and '.join(given)} {where}",
            "flags that have an effect",
            f"leave {'it' if one else 'them'} out, or see '{parser.prog} --help'",
        )


def add_machines(parser: VerbParser) -> OptionGroup:
    """Add the options of where items are worked on, in a group of their own; ``--workers`` each verb explains itself.

    `machines_of` reads them.
    """
    from geodistill.engine import ENGINES

    add = parser.add_group("many machines")
    add("--engine", "what runs the workers", default="local", choices=ENGINES)
    add("--address", "Ray cluster to join, such as auto", otherwise="one is started here")
    add("--gpus", "GPUs that Ray sets aside for each worker", type=float, default=0.0)
    return add


def machines_of(kind: type[T], parser: VerbParser, args: Namespace, read: Mapping[str, Any] | None = None) -> T:
    """Return `Machines`, or a kind of it, from flags as `options_of` does.

    Raises:
        RecipeError: A flag of Ray's has no effect.
    """
    if args.engine == "local":
        refuse_idle(parser, args, ["--address", "--gpus"], "without --engine ray")
    return options_of(kind, args, read)


def one_of(names: Iterable[str]) -> str:
    """Return a choice of names in words, for a flag's help: ``cosine or none``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _in_words(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
