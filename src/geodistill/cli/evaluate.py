"""``geodistill evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from geodistill.cli.shared import parse, print_json, verb_parser
from geodistill.errors import RecipeError
from geodistill.lazy import load

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _build_parser() -> ArgumentParser:
    parser = verb_parser(
        "evaluate",
        "Scores of a Segmenter over a whole split: table, metrics.json, metrics.csv, confusion.png, worst images.",
        "geodistill evaluate --model runs/student --manifest manifest.parquet --split test --out runs/student/test",
    )
    add = parser.add_argument
    add("--model", required=True, help="Segmenter directory, run directory or hub id")
    add("--manifest", required=True, help="manifest written by 'geodistill data scan'")
    add("--split", default="test", help="train, val or test")
    add("--out", required=True, help="directory of the results")
    add("--classes", nargs="+", help="classes the means are taken over, by default all")
    add("--lonlat", type=float, nargs=2, help="longitude and latitude (MetaSegNet only)")
    add("--zone", help="climate zone of the images (MetaSegNet only)")
    add("--region", help="place of the images, such as potsdam; file where files are named by it (MetaSegNet only)")
    add("--class-map", help="for a set of other classes: 'model=set model=set ...' or a YAML file")
    add(
        "--gsd", type=float, help="bring images to so many metres per pixel first, the model's; labels stay as they are"
    )
    add("--overlap", type=float, default=0.25, help="overlap of the sliding window, 0 to 0.75")
    add("--flips", action="store_true", help="average over horizontal and vertical flips")
    add("--batch-size", type=int, default=4, help="batch size (windows per forward pass)")
    add("--device", default="auto", help="auto, cpu, cuda ...")
    add("--padding-as", help="reproduction only: pad images and count the padding as this class")
    add("--padding-window", type=int, help="pad to a multiple of so many pixels; the model's window")
    add("--json", action="store_true", help="print JSON")
    return parser


def evaluate(argv: Sequence[str]) -> None:
    """Score a Segmenter on a split."""
    args = parse(_build_parser(), argv)
    if args.padding_window is not None and args.padding_as is None:
        raise RecipeError("evaluate --padding-window without --padding-as", "the class that padding counts as")
    from geodistill.evaluation.classmap import read_pairs
    from geodistill.evaluation.evaluate import EvaluateOptions
    from geodistill.evaluation.evaluate import evaluate as run_evaluate
    from geodistill.inference.location import LocationHint

    options = EvaluateOptions(
        overlap=args.overlap,
        flips=args.flips,
        subset=args.classes,
        class_map=read_pairs(args.class_map) if args.class_map else None,
        location=LocationHint(tuple(args.lonlat) if args.lonlat else None, args.zone, args.region),
        batch_size=args.batch_size,
        device=args.device,
        gsd=args.gsd,
    )
    extra = None
    if args.padding_as is not None:
        extra = load("geodistill.papers.padding:Padding")(args.padding_as, args.padding_window)
    scores = run_evaluate(args.model, args.manifest, args.split, args.out, options, extra=extra)
    if args.json:
        print_json(scores.to_dict())
    else:
        print(scores)
