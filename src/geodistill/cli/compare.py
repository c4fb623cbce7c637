"""The verb ``compare``: students compared with their teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.shared import parse, print_result, refuse_idle, verb_parser


def compare(argv: Sequence[str]) -> None:
    """Print what each model costs and scores."""
    parser = verb_parser(
        "compare",
        "Compare students with their teacher: parameters, operations, images per second on this machine, mIoU, and the"
        " share of the teacher's mIoU that each keeps. A student's teacher is taken from its recipe.",
        "geodistill compare runs/mafl-student runs/alone --manifest town/manifest.parquet --csv compared.csv",
    )
    parser.add_argument("runs", nargs="+", help="runs, Segmenter directories or hub ids")
    parser.add_argument("--teacher", help="the teacher of all of them, instead of what their recipes say")
    parser.add_argument("--manifest", help="score on this data, instead of the validation scores of training")
    parser.add_argument("--split", default="test", help="train, val or test of the manifest")
    parser.add_argument("--size", type=int, help="side in pixels of the images timed; by default the largest tile")
    parser.add_argument("--batch-size", type=int, default=4, help="batch size (images per forward pass)")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--csv", help="also write the table to this file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    if args.manifest is None:
        refuse_idle(parser, args, ["--split"], "without --manifest")
    from geodistill.evaluation.comparison import compare as run_compare

    if args.csv:
        _check_csv(args.csv, [*args.runs, *([args.teacher] if args.teacher else [])], args.manifest, args.split)

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
    print_result(args.json, comparison.to_dict(), str(comparison))


def _check_csv(csv: str, models: Sequence[str], manifest: str | None, split: str) -> None:
    """Refuse a table that could not be written, or would be over an input, before any model is timed."""
    from geodistill.data.manifest import Manifest
    from geodistill.evaluation.results import check_place, model_files, read_files
    from geodistill.outputs import check_outputs, check_suffix

    check_suffix(csv, (".csv",))
    check_place(Path(csv).parent)
    rows = () if manifest is None else Manifest.load(manifest).rows(split)
    check_outputs([csv], [*read_files(rows, manifest), *(file for model in models for file in model_files(model))])
