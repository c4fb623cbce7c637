"""``geodistill recipes`` and ``geodistill encoders``: the names that other verbs take."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.shared import parse, verb_parser
from geodistill.errors import UnknownNameError


def recipes(argv: Sequence[str]) -> None:
    """List the shipped recipes, or print one."""
    parser = verb_parser("recipes", "The shipped recipes, or the text of one.", "geodistill recipes ktda-folder")
    parser.add_argument("name", nargs="?", help="print this recipe")
    args = parse(parser, argv)
    from geodistill.training.recipe import list_recipes, recipe_text

    if args.name:
        print(recipe_text(args.name), end="")
        return
    for name in list_recipes():
        first = recipe_text(name).splitlines()[0]
        print(f"{name:<20} {first.removeprefix('#').strip()}")


def encoders(argv: Sequence[str]) -> None:
    """List encoder names."""
    parser = verb_parser("encoders", "Names that 'network.encoder' takes.", "geodistill encoders 'convnext*'")
    parser.add_argument("pattern", nargs="?", default="*", help="only names like this, * matches anything")
    args = parse(parser, argv)
    from geodistill.nn.encoders import list_encoders

    names = list_encoders(args.pattern)
    if not names:
        raise UnknownNameError("encoder", args.pattern, list_encoders(), f"* stands for anything: '{args.pattern}*'")
    print("\n".join(names))
