"""``geodistill inspect``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.shared import parse, print_result, verb_parser
from geodistill.lazy import load


def inspect(argv: Sequence[str]) -> None:
    """Print size and cost of a recipe or a Segmenter."""
    parser = verb_parser(
        "inspect",
        "Parameters, multiply-adds, shapes and activation memory of a recipe or Segmenter, without training it.",
        "geodistill inspect ktda-grass --size 256 --classes 5",
    )
    parser.add_argument("target", help="recipe (file or shipped name), run or Segmenter directory")
    parser.add_argument("--size", type=int, default=512, help="side of the square input in pixels")
    parser.add_argument("--channels", type=int, help="bands, for a recipe without its manifest; by default 3")
    parser.add_argument("--classes", type=int, help="classes, for a recipe without its manifest; by default its own")
    parser.add_argument("--decoders", action="store_true", help="of a KDA recipe: every decoder on its encoder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    if args.decoders:
        channels = 3 if args.channels is None else args.channels
        table = load("geodistill.papers.kda_decoders:weigh_decoders")(args.target, args.size, channels, args.classes)
        print_result(args.json, [row.to_dict() for row in table.rows], table.to_text())
        return
    from geodistill.training.inspect import inspect as run_inspect

    report = run_inspect(args.target, args.size, args.channels, args.classes)
    print_result(args.json, report.to_dict(), report.to_text())
