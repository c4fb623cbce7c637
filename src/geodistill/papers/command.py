"""``geodistill reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodistill.cli.shared import parse, print_json, verb_parser
from geodistill.errors import GeodistillError, RecipeError

FIRST_SEED = 42
"""Of several seeds that only their number is given of."""


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
    add("--as", dest="settings", default="printed", choices=["printed", "released"], help="the paper's or its code's")
    add("--seeds", nargs="+", type=int, default=[1], help="how many, or several seeds; means have their 95 %% interval")
    add("--rows", nargs="+", default=[], help="only these rows")
    add("--set", nargs="+", default=[], help="KEY=VALUE for every run whose recipe has the key, ROW:KEY=VALUE for one")
    add("--arithmetic", action="store_true", help="say why marked figures cannot be right")
    add(
        "--figure",
        nargs="*",
        metavar="KIND",
        help="draw from rows that ran: maps heat activation curves scatter labels",
    )
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    if args.list:
        _list(args.table, args.json)
        return
    if not args.table:
        raise RecipeError("reproduce without a table", "one such as ktda/2", "see 'geodistill reproduce --list'")
    from geodistill.papers.reproduce.runner import draw
    from geodistill.papers.reproduce.runner import reproduce as run_reproduce

    how: dict[str, Any] = {
        "scale": args.scale,
        "root": args.root,
        "seeds": args.seeds if len(args.seeds) > 1 else range(FIRST_SEED, FIRST_SEED + args.seeds[0]),
        "rows": args.rows,
        "overrides": args.set,
        "settings": args.settings,
    }
    if args.figure is not None:
        print("\n".join(map(str, draw(args.table, args.out, args.figure, **how))))
        return
    table = run_reproduce(args.table, args.out, **how)
    if args.json:
        print_json(table.to_dict())
    else:
        print(table.to_text(args.arithmetic))
    failed = [row.label for row in table.rows if row.state == "failed"]
    if failed:
        raise GeodistillError(f"rows of {args.table} without figures: {', '.join(failed)}", "", "run it again")


def _list(name: str | None, as_json: bool) -> None:
    from geodistill.papers.registry import find_table
    from geodistill.papers.reproduce.listing import list_tables

    listed = list_tables([find_table(name).name] if name else [])
    if as_json:
        print_json([table.to_dict() for table in listed])
    else:
        print("\n\n".join(table.to_text() for table in listed))
