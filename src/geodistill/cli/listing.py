"""``geodistill recipes`` and ``geodistill encoders``: the names that other verbs take."""

from __future__ import annotations

from collections.abc import Sequence

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
    for name in list_recipes():
        first = recipe_text(name).splitlines()[0]
        print(f"{name:<20} {first.removeprefix('#').strip()}")


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
