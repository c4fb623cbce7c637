"""``geodistill demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import VerbParser, parse
from geodistill.lazy import load


def demo_parser() -> VerbParser:
    """Return the parser of ``demo``."""
    parser = VerbParser(
        "demo",
        "Made-up georeferenced scenes, a teacher, a student that learns from it, scores and a map, on a laptop.",
        "geodistill demo --out demo",
    )
    add = parser.add_group("output")
    add("--out", "directory of the results", default="demo")
    add = parser.add_group("quality")
    add("--seed", "random seed of scenes and training", type=int, default=0)
    add("--teacher-encoder", "encoder of the teacher", default="mobilenetv2_050")
    add("--teacher-weights", "pretrained weights of that encoder: a file or directory", otherwise="random")
    return parser


def demo(argv: Sequence[str]) -> None:
    """Show the whole way on made-up scenes."""
    args = parse(demo_parser(), argv)
    choices = {key: getattr(args, key) for key in ("seed", "teacher_encoder", "teacher_weights")}
    print(load("geodistill.demo:demo")(Path(args.out), **choices))
