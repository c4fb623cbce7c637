"""``geodistill review`` and ``geodistill label next``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.cli.arguments import DEVICE, MANIFEST, MODEL, VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_result
from geodistill.errors import RecipeError
from geodistill.files import check_outputs, check_suffix


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
    add("--reviewer", "name of who decides, can be changed on the page", otherwise="the user's")
    add("--sample", "objects drawn at random that come first", type=int, default=50)
    jitter = "how many shifted copies of each box the segmenter is asked about too; a mask that changes is doubtful"
    add("--jitter", jitter, type=int, default=0)
    add = parser.add_group("output")
    add("--port", "port of the page on 127.0.0.1; 0 takes any free one", type=int, default=0)
    add.switch("--export", "write the decisions into the label folder, and end")
    add.switch("--json", "with --export: print JSON, the content of label.json")
    parser.add_group("speed")("--device", DEVICE, default="auto")
    return parser


def review(argv: Sequence[str]) -> None:
    """Look at labels, or write back what was decided."""
    parser = review_parser()
    args = parse(parser, argv)
    from geodistill.label.accounts import format_account
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


def next_tiles_parser() -> VerbParser:
    """Return the parser of ``label next``."""
    parser = VerbParser(
        "label next",
        "Which tiles to label next: those that a trained model is unsure of or sees weak classes in, and that are"
        " unlike what is labelled and each other. Writes a list, and a GeoPackage where images are georeferenced.",
        "geodistill label next town/unlabelled --model runs/town --labelled labelled --out next.csv",
        typed=["images"],
    )
    add = parser.add_group("input")
    add("--images", "folders and files of images", required=True, nargs="+", metavar="IMAGES")
    add("--model", MODEL, required=True)
    add("--labelled", f"what is labelled already, {MANIFEST}", otherwise="nothing")
    add("--count", "tiles to choose", type=int, default=20)
    add("--tile", "side of the tiles in pixels", type=int, otherwise="the model's")
    add("--weak", "classes that the model is weak at", nargs="+", metavar="CLASS", otherwise="none")
    add("--encoder", "encoder whose features tiles are compared by, such as a teacher's", otherwise="the model's own")
    weights = "its weights: pretrained, or a file"
    add("--encoder-weights", weights, otherwise="pretrained")
    add = parser.add_group("output")
    add("--out", "the list, .csv; the GeoPackage lies beside it", required=True)
    add.switch("--json", "print JSON")
    return parser


def next_tiles(argv: Sequence[str]) -> None:
    """Choose tiles to label."""
    parser = next_tiles_parser()
    args = parse(parser, argv)
    if args.encoder is None:
        refuse_idle(parser, args, ["--encoder-weights"], "without --encoder")
    check_suffix(args.out, (".csv",))
    from geodistill.review.next_files import next_files, write_next
    from geodistill.review.next_tiles import NextOptions, choose_next
    from geodistill.segmenter import Segmenter

    check_outputs(next_files(args.out), [*args.images, args.model, *([args.labelled] if args.labelled else [])])
    encoder = None
    if args.encoder is not None:
        from geodistill.nn.encoders import build_encoder

        encoder = build_encoder(args.encoder, weights=args.encoder_weights or "pretrained").eval()
    options = NextOptions(args.count, args.tile, tuple(args.weak or ()), args.labelled, encoder)
    result = choose_next(args.images, Segmenter.load(args.model), options, progress=True)
    files, placed = write_next(result.tiles, args.out)
    count = len(result.tiles)
    lines = [f"{', '.join(map(str, files))}: {count} of {result.candidates} tiles"]
    if result.too_empty:
        lines.append(f"{result.too_empty} tiles have data in less than half of their pixels, and are left out")
    if placed < count:
        lines.append(f"{count - placed} of them are not georeferenced, and in the list alone")
    summary = {"files": [str(file) for file in files], "tiles": count, "candidates": result.candidates}
    print_result(args.json, summary | {"too_empty": result.too_empty, "georeferenced": placed}, "\n".join(lines))
