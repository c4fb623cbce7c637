"""``geodistill report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import DEVICE, VerbParser, options_of, parse, refuse_idle


def report_parser() -> VerbParser:
    """Return the parser of ``report``."""
    parser = VerbParser(
        "report",
        "One page about a run, a Segmenter, an evaluation, a label set or a map: what was trained on what, scores with"
        " intervals, learning curves, images to look at. The file needs nothing but itself, and no network.",
        "geodistill report runs/student --map city_map.tif --scene city.tif --out report.html",
        typed=["source"],
    )
    add = parser.add_group("input")
    source = "a run or a folder of runs, a Segmenter, results of evaluate, a folder of label build, a map of predict"
    add("--source", source, required=True, metavar="FOLDER")
    add("--beside", "other runs or Segmenters to set it beside", nargs="+", metavar="RUN", otherwise="its teacher")
    add("--map", "also show this map; its confidence is found beside it")
    add("--scene", "what the map was made of", otherwise="the map is shown alone")
    add = parser.add_group("output")
    add("--out", "the page, .html", required=True)
    mb = "megabytes of the map inside the page; finer tiles go into the folder NAME_tiles beside it"
    add("--map-mb", mb, type=float, default=20.0)
    add("--title", "heading of the page", otherwise="the folder's name")
    add = parser.add_group("speed")
    add.switch("--speed", "time the models on this machine, and compare them", default=True)
    add("--device", DEVICE, default="auto")
    return parser


def report(argv: Sequence[str]) -> None:
    """Write a report."""
    parser = report_parser()
    args = parse(parser, argv)
    if args.map is None and not Path(args.source).is_file():
        refuse_idle(parser, args, ["--scene", "--map-mb"], "without --map")
    from geodistill.report.report_options import ReportOptions
    from geodistill.report.write import write_report

    options = options_of(ReportOptions, args, {"beside": tuple(args.beside or ())})
    print(write_report(args.source, args.out, options))
