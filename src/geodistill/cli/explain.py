"""``geodistill explain``."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.arguments import MODEL, VerbParser, parse, refuse_idle


def explain_parser() -> VerbParser:
    """Return the parser of ``explain``."""
    parser = VerbParser(
        "explain",
        "One page of what a model sees in an image: principal components of its encoder's features beside its"
        " teacher's, similarity to a chosen place, Grad-CAM of each class, uncertainty.",
        "geodistill explain --model runs/student --input tile.tif --out explained.html",
        typed=["input"],
    )
    add = parser.add_group("input")
    add("--model", MODEL, required=True)
    add("--input", "an image with the model's bands", required=True)
    window = "part of the image in pixels: first row, first column, rows, columns"
    add(
        "--window",
        window,
        type=int,
        nargs=4,
        metavar=("ROW", "COL", "ROWS", "COLS"),
        otherwise="its middle, 512 pixels",
    )
    add("--teacher", "a Segmenter or run to set beside it", otherwise="what its recipe names")
    add.switch("--with-teacher", "look at a teacher too", default=True)
    add = parser.add_group("output")
    add("--out", "the page, .html", required=True)
    return parser


def explain(argv: Sequence[str]) -> None:
    """Write a page of feature pictures."""
    parser = explain_parser()
    args = parse(parser, argv)
    if not args.with_teacher:
        refuse_idle(parser, args, ["--teacher"], "with --no-with-teacher")
    from geodistill.explain.write_pictures import ExplainOptions
    from geodistill.explain.write_pictures import explain as run_explain
    from geodistill.raster import Window

    window = None if args.window is None else Window(*args.window)
    options = ExplainOptions(args.teacher, args.with_teacher, window)
    print(run_explain(args.model, args.input, args.out, options))
