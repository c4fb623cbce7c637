"""``geodistill assess``: sample points of a map, and estimate areas and accuracies from them."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli import Verbs, run_verb
from geodistill.cli.arguments import MANIFEST, VerbParser, options_of, parse, refuse_idle
from geodistill.cli.terminal import print_result

MAP_LEGEND = "YAML or JSON file of classes with values, for a map that holds no legend"


def sample_parser() -> VerbParser:
    """Return the parser of ``assess sample``."""
    from geodistill.assess.drawn_sample import SampleOptions

    parser = VerbParser(
        "assess sample",
        "Draw a stratified random sample of points of a map, by class, as a GeoPackage that QGIS opens for their"
        " interpretation: fill the column reference.",
        "geodistill assess sample map.tif --manifest town/manifest.parquet --out points.gpkg",
        typed=["map"],
    )
    add, default = parser.add_group("input"), SampleOptions
    add("--map", "map of classes", required=True)
    add("--legend", MAP_LEGEND, otherwise="the map's own")
    add("--manifest", f"leave the places of its training and validation images out: {MANIFEST}", otherwise="none")
    add = parser.add_group("output")
    add("--out", "the GeoPackage", required=True)
    add.switch("--json", "print JSON")
    add = parser.add_group("quality")
    add("--points", "how many points", type=int, otherwise="as many as --standard-error asks for, or --least")
    error = "standard error of the overall accuracy that is aimed at"
    add("--standard-error", error, type=float, default=default.standard_error)
    add("--expected", "user's accuracy that is expected", type=float, default=default.expected)
    add("--least", "points of each stratum at least", type=int, default=default.least)
    boundary = "width in pixels of a stratum of its own for what is beside another class, 0 for none"
    add("--boundary", boundary, type=int, default=default.boundary)
    add("--seed", "random seed", type=int, default=default.seed)
    return parser


def sample(argv: Sequence[str]) -> None:
    """Draw the points of a map."""
    args = parse(sample_parser(), argv)
    from geodistill.assess.drawn_sample import SampleOptions, draw_sample
    from geodistill.files import check_outputs
    from geodistill.spec import Legend

    if args.legend:
        check_outputs([args.out], [args.legend])
    legend = Legend.load(args.legend) if args.legend else None
    drawn = draw_sample(args.map, args.out, options_of(SampleOptions, args), legend=legend)
    about = {"points": str(drawn.path), "strata": drawn.strata, "training_places": drawn.left_out}
    print_result(args.json, about, str(drawn))


def estimate_parser() -> VerbParser:
    """Return the parser of ``assess estimate``."""
    parser = VerbParser(
        "assess estimate",
        "Error-adjusted areas, and user's, producer's and overall accuracy of a map with intervals of 95 %, from the"
        " interpreted points of a sample (Olofsson et al. 2014, Stehman 2014).",
        "geodistill assess estimate points.gpkg --csv areas.csv",
        typed=["points"],
    )
    add = parser.add_group("input")
    add("--points", "the GeoPackage of 'assess sample', interpreted", required=True)
    add("--map", "assess this other map of the same classes and places", otherwise="the map that was sampled")
    add("--legend", MAP_LEGEND, otherwise="the map's own")
    add.switch("--partial", "leave points out that are not interpreted")
    add = parser.add_group("output")
    add("--csv", "also write the figures of each class to this file")
    add.switch("--json", "print JSON")
    return parser


def estimate(argv: Sequence[str]) -> None:
    """Estimate areas and accuracies from interpreted points."""
    parser = estimate_parser()
    args = parse(parser, argv)
    from geodistill.assess.estimate import estimate_areas
    from geodistill.files import check_outputs, check_suffix, write_text
    from geodistill.spec import Legend
    from geodistill.writing import csv_text

    if args.map is None:
        refuse_idle(parser, args, ["--legend"], "without --map")
    if args.csv:
        check_suffix(args.csv, (".csv",))
        check_outputs([args.csv], [path for path in (args.points, args.map, args.legend) if path])
    legend = Legend.load(args.legend) if args.legend else None
    estimated = estimate_areas(args.points, other_map=args.map, map_legend=legend, partial=args.partial)
    if args.csv:
        rows = estimated.rows()
        text = csv_text([list(rows[0]), *([row[key] for key in rows[0]] for row in rows)])
        write_text(args.csv, text)
    print_result(args.json, estimated.to_dict(), str(estimated))


ASSESS_VERBS: Verbs = {
    "sample": ("a map -> a stratified random sample of points to interpret in QGIS", "geodistill.cli.assess:sample"),
    "estimate": (
        "interpreted points -> hectares and accuracies, plus or minus what",
        "geodistill.cli.assess:estimate",
    ),
}


def assess(argv: Sequence[str]) -> None:
    """Sample a map or estimate from a sample."""
    run_verb(ASSESS_VERBS, "geodistill assess", argv)
