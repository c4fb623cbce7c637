"""``geodistill evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from geodistill.cli.arguments import (
    DEVICE,
    LONLAT,
    MANIFEST,
    MODEL,
    SCALES,
    SPLIT_NAMES,
    VerbParser,
    options_of,
    parse,
    refuse_idle,
)
from geodistill.cli.terminal import print_json
from geodistill.errors import RecipeError
from geodistill.lazy import load


def evaluate_parser() -> VerbParser:
    """Return the parser of ``evaluate``."""
    from geodistill.evaluation.evaluate_options import EvaluateOptions

    parser = VerbParser(
        "evaluate",
        "Scores of a Segmenter over a whole split: table, metrics.json, metrics.csv, confusion.png, and a page with the"
        " worst, median and best images.",
        "geodistill evaluate runs/student manifest.parquet --split test --out runs/student/test",
        typed=["model", "manifest"],
    )
    add = parser.add_group("most used")
    add("--model", MODEL, required=True)
    add("--manifest", MANIFEST, required=True)
    add("--split", "split to score on", default="test", choices=SPLIT_NAMES)
    add("--out", "directory of the results", otherwise="scores are printed, nothing is written")
    add("--report", "also write the page, .html, to this file")
    add("--classes", "classes the means are taken over", nargs="+", otherwise="all")
    add.switch("--json", "print JSON")
    add("--device", DEVICE, default="auto")
    add = parser.add_group("input")
    add("--class-map", "for a set of other classes: 'model=set model=set ...' or a YAML file", otherwise="same classes")
    add = parser.add_group("output")
    add("--objects", "also score the objects of these classes", nargs="+", metavar="CLASS", otherwise="none")
    add("--boundary-metres", "distance from a boundary that counts as near", type=float, default=2.0)
    add = parser.add_group("quality")
    add("--overlap", "overlap of the sliding window, 0 to 0.75", type=float, default=EvaluateOptions.overlap)
    add.switch("--flips", "average over horizontal and vertical flips")
    add("--scales", SCALES, type=float, nargs="+", metavar="N", otherwise="the model's own, mostly 1")
    gsd = "resample images to so many metres per pixel first, such as the model's; labels stay as they are"
    add("--gsd", gsd, type=float, otherwise="as they are")
    resize = "resize each image's longer side to so many pixels first, as data.resize in training"
    add("--resize", resize, type=int, otherwise="as they are")
    add("--padding-as", "reproduction only: pad images and count the padding as this class", otherwise="no padding")
    add("--padding-window", "pad to a multiple of so many pixels", type=int, otherwise="the model's window")
    add = parser.add_group("speed")
    add("--batch-size", "batch size (windows per forward pass)", type=int, default=EvaluateOptions.batch_size)
    add = parser.add_group("place")
    manifest = "what the manifest says"
    add("--lonlat", LONLAT, type=float, nargs=2, metavar=("LON", "LAT"), otherwise=manifest)
    add("--zone", "climate zone of the images (MetaSegNet only)", otherwise=manifest)
    region = "place of the images, such as potsdam; file where files are named by it (MetaSegNet only)"
    add("--region", region, otherwise=manifest)
    return parser


def evaluate(argv: Sequence[str]) -> None:
    """Score a Segmenter on a split."""
    parser = evaluate_parser()
    args = parse(parser, argv)
    if args.objects is None:
        refuse_idle(parser, args, ["--boundary-metres"], "without --objects")
    if args.padding_window is not None and args.padding_as is None:
        raise RecipeError("evaluate --padding-window without --padding-as", "the class that padding counts as")
    from geodistill.evaluation.classmap import read_pairs
    from geodistill.evaluation.evaluate import evaluate as run_evaluate
    from geodistill.evaluation.evaluate_options import EvaluateOptions
    from geodistill.evaluation.object_scores import ObjectScoring
    from geodistill.evaluation.results import REPORT, model_files
    from geodistill.files import check_outputs, check_suffix
    from geodistill.inference.options import LocationHint
    from geodistill.report.page import PAGES
    from geodistill.report.report_options import ReportOptions
    from geodistill.report.write import write_report

    read = {
        "subset": args.classes,
        "scales": None if args.scales is None else tuple(args.scales),
        "class_map": read_pairs(args.class_map) if args.class_map else None,
        "location": LocationHint(tuple(args.lonlat) if args.lonlat else None, args.zone, args.region),
    }
    options = options_of(EvaluateOptions, args, read)
    extra = None
    if args.padding_as is not None:
        extra = load("geodistill.papers.padding:Padding")(args.padding_as, args.padding_window)
    watch = ObjectScoring(args.objects, args.boundary_metres) if args.objects else None
    if args.report:
        check_suffix(args.report, PAGES)
        check_outputs([args.report], [args.manifest, *model_files(args.model)])
    with TemporaryDirectory() if args.report and not args.out else nullcontext(args.out) as out:
        scores = run_evaluate(args.model, args.manifest, args.split, out, options, extra=extra, watch=watch)
        objects = None if watch is None else watch.scores()
        if objects is not None and args.out:
            objects.write(args.out)
        pages = [*([Path(args.out) / REPORT] if args.out else []), *([args.report] if args.report else [])]
        for page in pages:
            write_report(out, page, ReportOptions(speed=False))
    if args.json:
        print_json(scores.to_dict() | ({} if objects is None else {"objects": objects.to_dict()}))
    else:
        print(scores if objects is None else f"{scores}\n\n{objects}")
