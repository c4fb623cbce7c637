"""``geodistill data submission``: what the server of a hidden test takes."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import VerbParser, parse
from geodistill.errors import check_name


def submission_parser() -> VerbParser:
    """Return the parser of ``data submission``."""
    parser = VerbParser(
        "data submission",
        "Maps of a benchmark's hidden test as the zip that its server takes: a PNG of class indices for each image.",
        "geodistill data submission maps --dataset loveda --root LoveDA --out loveda-test.zip",
        typed=["maps"],
    )
    add = parser.add_group("input")
    add("--maps", "folder of maps that 'geodistill predict' wrote", required=True, metavar="FOLDER")
    add("--dataset", "the benchmark set ('geodistill datasets')", required=True)
    add("--root", "folder of the set, whose test images must all have a map", required=True)
    parser.add_group("output")("--out", "the zip", required=True)
    return parser


def submission(argv: Sequence[str]) -> None:
    """Write maps of a hidden test as its server takes them."""
    args = parse(submission_parser(), argv)
    from geodistill.data.catalog.declarations import CATALOG
    from geodistill.data.catalog.hidden_test import write_submission

    check_name("dataset", args.dataset, CATALOG, "'geodistill datasets' lists them")
    count = write_submission(CATALOG[args.dataset], args.root, args.maps, args.out)
    print(f"{args.out}: {count} maps")
