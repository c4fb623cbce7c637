"""The verb ``compare``: students compared with their teacher, or ways of training with each other."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import DEVICE, SPLIT_NAMES, VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_message, print_result
from geodistill.errors import RecipeError


def compare_parser() -> VerbParser:
    """Return the parser of ``compare``."""
    from geodistill.evaluation.evaluate_options import EvaluateOptions

    parser = VerbParser(
        "compare",
        "Compare students with their teacher: parameters, operations, images per second on this machine, mIoU, and the"
        " share of the teacher's mIoU that each keeps. A student's teacher is taken from its recipe. With --ab, whether"
        " a way of training pays on this data: recipes are trained at an equal budget and over several seeds.",
        "geodistill compare runs/mafl-student runs/alone --manifest town/manifest.parquet --csv compared.csv",
    )
    add = parser.add_group("input")
    runs = "runs, Segmenter directories or hub ids; with --ab recipes, the first of which the others are compared with"
    add("runs", runs, nargs="+", required=True, metavar="RUN")
    add("--teacher", "the teacher of all of them; not with --ab", otherwise="what their recipes say")
    add("--manifest", "score on this data", otherwise="the validation scores of training")
    add("--split", "split of the manifest", default="test", choices=SPLIT_NAMES)
    add = parser.add_group("quality")
    add.switch("--ab", "train the recipes and compare what they score")
    add("--seeds", "seeds that each is trained with", type=int, nargs="+", default=[0, 1, 2])
    add("--steps", "steps of each run, those before the labels among them", type=int, otherwise="the first recipe's")
    add("--minutes", "wall time after which every run ends, besides", type=float, otherwise="no limit")
    add(
        "--out",
        "directory of the runs and of verdict.json and .png; called again, what is there is kept",
        otherwise="needed with --ab",
    )
    add = parser.add_group("output")
    add("--csv", "also write the table to this file; not with --ab")
    add("--report", "also write a page, .html, to this file; not with --ab")
    add.switch("--json", "print JSON")
    add = parser.add_group("speed")
    add("--size", "side in pixels of the images timed", type=int, otherwise="the largest tile")
    add("--batch-size", "batch size (images per forward pass)", type=int, default=EvaluateOptions.batch_size)
    add("--repeats", "timed passes of each model", type=int, default=5)
    add("--device", DEVICE, default="auto")
    return parser


def compare(argv: Sequence[str]) -> None:
    """Print what each model costs and scores."""
    parser = compare_parser()
    args = parse(parser, argv)
    if args.ab:
        idle = ["--teacher", "--csv", "--report", "--size", "--batch-size", "--repeats"]
        refuse_idle(parser, args, idle, "with --ab")
        _compare_arms(args)
        return
    refuse_idle(parser, args, ["--seeds", "--steps", "--minutes", "--out"], "without --ab")
    if args.manifest is None:
        refuse_idle(parser, args, ["--split"], "without --manifest")
    from geodistill.evaluation.comparison import compare as run_compare

    models = [*args.runs, *([args.teacher] if args.teacher else [])]
    if args.csv:
        _check_output(args.csv, (".csv",), models, args.manifest, args.split)
    if args.report:
        from geodistill.report.page import PAGES

        _check_output(args.report, PAGES, models, args.manifest, args.split)
    comparison = run_compare(
        args.runs,
        teacher=args.teacher,
        manifest=args.manifest,
        split=args.split,
        size=args.size,
        batch_size=args.batch_size,
        repeats=args.repeats,
        device=args.device,
    )
    if args.csv:
        comparison.write_csv(args.csv)
    if args.report:
        from geodistill.report.write import write_comparison

        write_comparison(comparison, args.report)
    print_result(args.json, comparison.to_dict(), str(comparison))


def _compare_arms(args: Namespace) -> None:
    """Train what is to be compared, and print the verdict."""
    if args.manifest is None or args.out is None:
        raise RecipeError("compare --ab without --manifest and --out", "the data, and a directory for the runs")
    from geodistill.training.arms import ArmsOptions, compare_arms

    options = ArmsOptions(Path(args.manifest), tuple(args.seeds), args.steps, args.minutes, args.split, args.device)
    verdict = compare_arms(args.runs, Path(args.out), options, say=print_message)
    print_result(args.json, verdict.to_dict(), str(verdict))


def _check_output(out: str, suffixes: tuple[str, ...], models: Sequence[str], manifest: str | None, split: str) -> None:
    """Refuse a file that could not be written, or would be over an input, before any model is timed."""
    from geodistill.data.manifest import Manifest
    from geodistill.evaluation.results import check_place, model_files, read_files
    from geodistill.files import check_outputs, check_suffix

    check_suffix(out, suffixes)
    check_place(Path(out).parent)
    rows = () if manifest is None else Manifest.load(manifest).rows(split)
    check_outputs([out], [*read_files(rows, manifest), *(file for model in models for file in model_files(model))])
