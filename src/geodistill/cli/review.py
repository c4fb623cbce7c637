"""``geodistill review``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import DEVICE, MODEL, VerbParser, parse, refuse_idle
from geodistill.cli.shared import print_result
from geodistill.errors import RecipeError


def review_parser() -> VerbParser:
    """Return the parser of ``review``."""
    parser = VerbParser(
        "review",
        "A page in the browser of this machine to decide about the objects of 'label build', one key each: a random"
        " sample first, which tells the share of good labels, then the most doubtful. --export writes what was decided"
        " into the label folder.",
        "geodistill review town-labelled",
        typed=["labels"],
    )
    add = parser.add_group("input")
    add("--labels", "finished folder of 'label build'", required=True)
    add("--model", f"trained model whose disagreement counts as doubt: {MODEL}", otherwise="none")
    add("--reviewer", "name of who decides, which the page can change", otherwise="the user's")
    add("--sample", "objects drawn at random that come first", type=int, default=50)
    jitter = "boxes near each box that the segmenter is asked about too; a mask that changes is doubtful"
    add("--jitter", jitter, type=int, default=0)
    add = parser.add_group("output")
    add("--port", "of the page on 127.0.0.1; 0 takes any free one", type=int, default=0)
    add.switch("--export", "write the decisions into the label folder, and end")
    add.switch("--json", "with --export: print JSON, the content of label.json")
    parser.add_group("speed")("--device", DEVICE, default="auto")
    return parser


def review(argv: Sequence[str]) -> None:
    """Look at labels, or write back what was decided."""
    parser = review_parser()
    args = parse(parser, argv)
    from geodistill.label.labelling import format_account
    from geodistill.review.review_labels import ReviewOptions, export_review
    from geodistill.review.review_labels import review as run_review

    if args.export:
        idle = ["--model", "--reviewer", "--sample", "--jitter", "--port", "--device"]
        refuse_idle(parser, args, idle, "with --export")
        account = export_review(args.labels, progress=True)
        print_result(args.json, account, format_account(account, Path(args.labels)))
        return
    refuse_idle(parser, args, ["--json"], "without --export")
    if not 0 <= args.port < 1 << 16:
        raise RecipeError(f"--port {args.port}", "0 to 65535")
    options = ReviewOptions(args.model, args.sample, args.jitter, args.port, args.reviewer, args.device)
    run_review(args.labels, options, say=_say, progress=True)


def _say(line: str) -> None:
    print(line, flush=True)
