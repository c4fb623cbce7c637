"""``geodistill demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.shared import parse, verb_parser
from geodistill.lazy import load


def demo(argv: Sequence[str]) -> None:
    """Show the whole way on made-up scenes."""
    parser = verb_parser("demo", "The whole way on made-up georeferenced scenes.", "geodistill demo --out demo")
    parser.add_argument("--out", type=str, default="demo", help="directory of the results")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and training")
    args = parse(parser, argv)
    print(load("geodistill.demo:demo")(Path(args.out), seed=args.seed))
