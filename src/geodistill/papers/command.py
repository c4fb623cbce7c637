"""``geodistill reproduce``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_json
from geodistill.errors import GeodistillError, RecipeError

FIRST_SEED = 42
"""Of several seeds that only their number is given of."""

PICTURE_KINDS = ("maps", "zones", "heat", "activation", "curves", "scatter", "labels")
"""Those of `geodistill.papers.reproduce.paper_figures.PICTURES`, which takes long to load."""

_OF_A_RUN = ["--root", "--rows", "--out", "--scale", "--as", "--seeds", "--gsd", "--scored-layout", "--padding-as"]
_OF_A_RUN += ["--padding-window", "--set"]


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
    kinds = "draw from rows that ran; all where none is named"
    add("--figure", kinds, nargs="*", metavar="KIND", choices=PICTURE_KINDS, otherwise="none")
    add.switch("--arithmetic", "say why marked figures cannot be right")
    add("--out", "directory of results and runs; tables may share one", default="tables")
    add.switch("--list", "every table, its rows, the data it needs, and whether it can be run")
    add.switch("--json", "print JSON")
    add = parser.add_group("quality")
    add(
        "--scale",
        "smoke is tiny and on made-up scenes, full is as in the paper",
        default="smoke",
        choices=("smoke", "full"),
    )
    add("--as", "the paper's settings or its code's", default="printed", choices=("printed", "released"))
    add(
        "--seeds",
        "number of seeds, or the seeds themselves; means of several have a 95 % interval",
        nargs="+",
        type=int,
        default=[1],
    )
    gsd = "resample scored images to so many metres per pixel first, such as the models'; labels stay as they are"
    add("--gsd", gsd, type=float, otherwise="as they are")
    layout = "score on this layout of the set, such as eroded labels"
    add("--scored-layout", layout, otherwise="that which is trained on")
    add("--padding-as", "pad scored images and count the padding as this class", otherwise="no padding")
    add("--padding-window", "pad to a multiple of so many pixels", type=int, otherwise="the model's window")
    sets = "KEY=VALUE for every run whose recipe has the key, ROW:KEY=VALUE for one row"
    add("--set", sets, nargs="+", default=[], otherwise="none")
    return parser


def reproduce(argv: Sequence[str]) -> None:
    """Run a paper's table, or list all of them."""
    parser = reproduce_parser()
    args = parse(parser, argv)
    if args.list:
        refuse_idle(parser, args, ["--figure", "--arithmetic", *_OF_A_RUN], "with --list")
        _list(args.table, args.json)
        return
    if not args.table:
        raise RecipeError("reproduce without a table", "one such as ktda/2", "see 'geodistill reproduce --list'")
    if args.figure is not None:
        refuse_idle(parser, args, ["--arithmetic", "--json"], "with --figure")
    elif args.json:
        refuse_idle(parser, args, ["--arithmetic"], "with --json, which says it always")
    from geodistill.papers.padding import Padding
    from geodistill.papers.reproduce.runner import ReproduceOptions, draw
    from geodistill.papers.reproduce.runner import reproduce as run_reproduce

    seeds = args.seeds if len(args.seeds) > 1 else range(FIRST_SEED, FIRST_SEED + args.seeds[0])
    padding = None if args.padding_as is None else Padding(args.padding_as, args.padding_window)
    if args.padding_window is not None and padding is None:
        raise RecipeError("reproduce --padding-window without --padding-as", "the class that padding counts as")
    run = (args.scale, args.root, seeds, args.rows, args.set, vars(args)["as"])
    options = ReproduceOptions(*run, args.gsd, padding, args.scored_layout)
    if args.figure is not None:
        print("\n".join(map(str, draw(args.table, args.out, args.figure, options))))
        return
    table = run_reproduce(args.table, args.out, options)
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
