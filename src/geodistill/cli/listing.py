"""``geodistill recipes`` and ``geodistill encoders``: the names that other verbs take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from geodistill.cli.arguments import VerbParser, parse
from geodistill.errors import UnknownNameError


def recipes_parser() -> VerbParser:
    """Return the parser of ``recipes``."""
    parser = VerbParser("recipes", "The shipped recipes, or the text of one.", "geodistill recipes ktda-folder")
    parser.add_group("input")("name", "print this recipe", nargs="?", otherwise="list all")
    return parser


def recipes(argv: Sequence[str]) -> None:
    """List the shipped recipes, or print one."""
    args = parse(recipes_parser(), argv)
    from geodistill.training.recipe import list_recipes, recipe_text

    if args.name:
        print(recipe_text(args.name), end="")
        return
    names = list_recipes()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {first_sentence(recipe_text(name))}")


def first_sentence(recipe: str) -> str:
    """Return the first sentence of the comment that a recipe begins with."""
    comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line[:1] == "#", recipe.splitlines())]
    return re.split(r"(?<=\.)\s", " ".join(comment), maxsplit=1)[0]


def encoders_parser() -> VerbParser:
    """Return the parser of ``encoders``."""
    parser = VerbParser("encoders", "Names that 'network.encoder' takes.", "geodistill encoders 'convnext*'")
    parser.add_group("input")("pattern", "only names like this, * matches anything", nargs="?", default="*")
    return parser


def encoders(argv: Sequence[str]) -> None:
    """List encoder names."""
    args = parse(encoders_parser(), argv)
    from geodistill.nn.encoders import list_encoders

    names = list_encoders(args.pattern)
    if not names:
        raise UnknownNameError("encoder", args.pattern, list_encoders(), f"* stands for anything: '{args.pattern}*'")
    print("\n".join(names))
