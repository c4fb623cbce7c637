"""``geodistill inspect``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse
from geodistill.cli.terminal import print_result
from geodistill.lazy import load


def inspect_parser() -> VerbParser:
    """Return the parser of ``inspect``."""
    parser = VerbParser(
        "inspect",
        "Parameters, multiply-adds, shapes and activation memory of a recipe or Segmenter, without training it.",
        "geodistill inspect ktda-grass --size 256 --classes 5",
    )
    add = parser.add_group("input")
    add("target", "recipe (file or shipped name), run or Segmenter directory", required=True)
    add("--size", "side of the square input in pixels", type=int, default=512)
    add("--channels", "bands, for a recipe without its manifest", type=int, otherwise="3")
    add("--classes", "classes, for a recipe without its manifest", type=int, otherwise="its own")
    add.switch("--decoders", "of a KDA recipe: every decoder on its encoder")
    parser.add_group("output").switch("--json", "print JSON")
    return parser


def inspect(argv: Sequence[str]) -> None:
    """Print size and cost of a recipe or a Segmenter."""
    args = parse(inspect_parser(), argv)
    if args.decoders:
        channels = 3 if args.channels is None else args.channels
        table = load("geodistill.papers.kda_decoders:weigh_decoders")(args.target, args.size, channels, args.classes)
        print_result(args.json, [row.to_dict() for row in table.rows], table.to_text())
        return
    from geodistill.training.inspect import inspect as run_inspect

    report = run_inspect(args.target, args.size, args.channels, args.classes)
    print_result(args.json, report.to_dict(), report.to_text())
