"""``geodistill reproduce``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse
from geodistill.cli.shared import print_json
from geodistill.errors import RecipeError


def reproduce_parser() -> VerbParser:
    """Return the parser of ``reproduce``."""
    parser = VerbParser(
        "reproduce",
        "A table of one of the five papers: its rows run by recipe and printed beside the published figures, with what"
        " cannot be right in either. Leaves OUT/PAPER-NUMBER-SCALE.md, .csv and .json. What is done in OUT/runs is not"
        " run again.",
        "geodistill reproduce ktda/2 --scale smoke --out tables",
    )
    add = parser.add_group("input")
    papers = "such as ktda/2 or ktda/II; papers: samrs, ktda, kda, maflnet, metasegnet"
    add("table", papers, nargs="?", otherwise="none, needed without --list")
    root = "for --scale full: the folder of the official set, or one that holds it by its name"
    add("--root", root, otherwise="none, needed with full")
    add("--rows", "only these rows", nargs="+", default=[], otherwise="all")
    add = parser.add_group("output")
    add("--out", "directory of results and runs; tables may share one", default="tables")
    add.switch("--list", "every table, its rows, the data it needs, and whether it can be run")
    add.switch("--json", "print JSON")
    add = parser.add_group("quality")
    add("--scale", "tiny on made-up scenes, or as in the paper", default="smoke", choices=("smoke", "full"))
    add("--seeds", "random seeds; mean and spread are over them", nargs="+", type=int, default=[42])
    add("--set", "KEY=VALUE for every run whose recipe has the key", nargs="+", default=[], otherwise="none")
    return parser


def reproduce(argv: Sequence[str]) -> None:
    """Run a paper's table, or list all of them."""
    args = parse(reproduce_parser(), argv)
    if args.list:
        from geodistill.papers.registry import find_table
        from geodistill.papers.reproduce.listing import list_tables

        listed = list_tables([find_table(args.table).name] if args.table else [])
        if args.json:
            print_json([table.to_dict() for table in listed])
        else:
            print("\n\n".join(table.to_text() for table in listed))
        return
    if not args.table:
        raise RecipeError("reproduce without a table", "one such as ktda/2", "see 'geodistill reproduce --list'")
    from geodistill.papers.reproduce.runner import reproduce as run_reproduce

    table = run_reproduce(
        args.table,
        args.out,
        scale=args.scale,
        root=args.root,
        seeds=args.seeds,
        rows=args.rows,
        overrides=args.set,
    )
    if args.json:
        print_json(table.to_dict())
    else:
        print(table.to_text())
