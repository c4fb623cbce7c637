"""``geodistill reproduce``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.shared import parse, print_json, verb_parser
from geodistill.errors import RecipeError


def reproduce(argv: Sequence[str]) -> None:
    """Run a paper's table, or list all of them."""
    parser = verb_parser(
        "reproduce",
        "A table of one of the five papers: its rows run by recipe and printed beside the published figures, with what"
        " cannot be right in either. Leaves OUT/PAPER-NUMBER-SCALE.md, .csv and .json. What is done in OUT/runs is not"
        " run again.",
        "geodistill reproduce ktda/2 --scale smoke --out tables",
    )
    add = parser.add_argument
    add("table", nargs="?", help="such as ktda/2 or ktda/II; papers: samrs, ktda, kda, maflnet, metasegnet")
    add("--list", action="store_true", help="every table, its rows, the data it needs, and whether it can be run")
    add("--scale", default="smoke", choices=["smoke", "full"], help="tiny on made-up scenes, or as in the paper")
    add("--out", default="tables", help="directory of results and runs; tables may share one")
    add("--root", help="for --scale full: the folder of the official set, or one that holds it by its name")
    add("--seeds", nargs="+", type=int, default=[42], help="seeds; mean and spread are over them")
    add("--rows", nargs="+", default=[], help="only these rows")
    add("--set", nargs="+", default=[], help="KEY=VALUE for every run whose recipe has the key")
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
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
