"""``geodistill robustness``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import DEVICE, MANIFEST, MODEL, SPLIT_NAMES, VerbParser, options_of, parse
from geodistill.cli.terminal import print_json


def robustness_parser() -> VerbParser:
    """Return the parser of ``robustness``."""
    from geodistill.evaluation.evaluate_options import EvaluateOptions

    parser = VerbParser(
        "robustness",
        "How a model's maps change where images are shifted, turned, brighter, darker, noisier, hazier, compressed, of "
        "another ground sampling distance, or with swapped bands.",
        "geodistill robustness runs/student manifest.parquet --out runs/student/robustness",
        typed=["model", "manifest"],
    )
    add = parser.add_group("input")
    add("--model", f"{MODEL}, or an ONNX file", required=True)
    add("--manifest", MANIFEST, required=True)
    add("--split", "split to look at", default="test", choices=SPLIT_NAMES)
    add("--images", "images of it at most, spread over it", type=int, default=100)
    add = parser.add_group("output")
    add("--out", "directory of robustness.json, .csv and .png", otherwise="the table is printed, nothing is written")
    add.switch("--json", "print JSON")
    add = parser.add_group("quality")
    add("--overlap", "overlap of the sliding window, 0 to 0.75", type=float, default=EvaluateOptions.overlap)
    add("--resamples", "draws of the bootstrap", type=int, default=1000)
    add("--seed", "random seed of noise and draws", type=int, default=0)
    add = parser.add_group("speed")
    add("--batch-size", "batch size (windows per forward pass)", type=int, default=EvaluateOptions.batch_size)
    add("--device", DEVICE, default="auto")
    return parser


def robustness(argv: Sequence[str]) -> None:
    """Measure how a model stands perturbed images."""
    args = parse(robustness_parser(), argv)
    from geodistill.data.manifest import Manifest
    from geodistill.evaluation.results import check_place, model_files, read_files
    from geodistill.evaluation.robustness import RobustnessOptions
    from geodistill.evaluation.robustness import robustness as run_robustness
    from geodistill.evaluation.robustness_report import claim_report, write_report

    options = options_of(RobustnessOptions, args)
    manifest = Manifest.load(args.manifest)
    if args.out is not None:
        check_place(Path(args.out))
        claim_report(Path(args.out), [*read_files(manifest.entries, manifest.path), *model_files(args.model)])
    measured = run_robustness(args.model, manifest, args.split, options)
    if args.out is not None:
        about = {"model": args.model, "manifest": args.manifest, "split": args.split, "seed": args.seed}
        write_report(Path(args.out), measured, about)
    print_json(measured.to_dict()) if args.json else print(measured)
