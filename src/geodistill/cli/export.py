"""``geodistill export``: a Segmenter as ONNX, for QGIS, as a STAC item or in the Hub's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geodistill.cli.shared import parse, refuse_idle, verb_parser
from geodistill.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from geodistill.segmenter import Segmenter


def export(argv: Sequence[str]) -> None:
    """Take a model out of the house."""
    parser = verb_parser(
        "export",
        "Write a Segmenter as an ONNX file, as one for the QGIS plug-in Deepness, as a STAC item with all it links, "
        "or as a directory for the Hub.",
        "geodistill export --model runs/student --to onnx --out student.onnx",
    )
    add = parser.add_argument
    add("--model", required=True, help="Segmenter directory, run directory or hub id")
    add("--to", required=True, help="onnx, qgis, stac or hub")
    add("--out", required=True, help="the file (onnx, qgis) or directory (stac, hub) to make")
    add("--zone", help="climate zone to keep alone, of a model that asks where an image was taken, such as Cfb")
    add("--size", help="onnx: side of the images in pixels, or any; by default the windows it was trained on")
    add("--batch", default="1", help="onnx: images a call, or any")
    add("--opset", type=int, default=18, help="onnx: version of the operators")
    add("--int8", help="onnx: also make a file of 8-bit integers, calibrated on this manifest")
    add("--split", default="val", help="onnx: the split of that manifest that tells what 8-bit integers cost")
    add("--resolution", type=float, help="qgis: centimetres per pixel, by default the model's own")
    add("--overlap", type=int, default=25, help="qgis: percent of a tile that its neighbour covers too")
    add("--licence", help="hub: licence of the weights, such as apache-2.0")
    add("--scores", help="stac, hub: metrics.json of 'geodistill evaluate'")
    args = parse(parser, argv)
    if args.to not in TARGETS:
        raise UnknownNameError("export", args.to, TARGETS)
    make, own = TARGETS[args.to]
    others = {flag for _, flags in TARGETS.values() for flag in flags} - set(own)
    refuse_idle(parser, args, sorted(others), f"with --to {args.to}")
    if args.int8 is None:
        refuse_idle(parser, args, ["--split"], "without --int8")
    segmenter = _model(args)
    _check_outputs(segmenter, args)
    print(make(segmenter, args))


def _check_outputs(segmenter: Segmenter, args: Namespace) -> None:
    """Make sure that no file of the model, nor what else is named, is written over."""
    from geodistill.description import DESCRIPTION, WEIGHTS
    from geodistill.export.onnx import int8_beside, text_beside
    from geodistill.outputs import check_outputs
    from geodistill.segmenter import find_segmenter

    folder, out = find_segmenter(args.model), Path(args.out)
    read = [folder / DESCRIPTION, folder / WEIGHTS, *(Path(file) for file in (args.scores, args.int8) if file)]
    if args.to in ("stac", "hub"):
        check_outputs([out / file for file in (DESCRIPTION, WEIGHTS)], read)
        return
    beside = [int8_beside(out)] if args.int8 else []
    check_outputs([out, *beside, *([text_beside(out)] if len(segmenter.prompts) > 1 else [])], read)


def _model(args: Namespace) -> Segmenter:
    from geodistill.segmenter import Segmenter

    segmenter = Segmenter.load(args.model)
    if args.zone is None:
        return segmenter
    from geodistill.backends.text_inputs import under_zone

    return under_zone(segmenter, args.zone)


def _onnx(segmenter: Segmenter, args: Namespace) -> str:
    from geodistill.data.manifest import Manifest
    from geodistill.export.onnx import export_onnx

    made = export_onnx(
        segmenter,
        Path(args.out),
        size=segmenter.tile if args.size is None else _number("--size", args.size),
        batch=_number("--batch", args.batch),
        opset=args.opset,
        calibration=Manifest.load(args.int8) if args.int8 else None,
        split=args.split,
    )
    return str(made)


def _qgis(segmenter: Segmenter, args: Namespace) -> str:
    from geodistill.export.qgis import export_qgis

    difference = export_qgis(segmenter, Path(args.out), resolution=args.resolution, overlap=args.overlap)
    return f"{args.out}: largest difference to torch {difference:.2g}"


def _stac(segmenter: Segmenter, args: Namespace) -> str:
    from geodistill.export.stac import export_stac

    return str(export_stac(segmenter, Path(args.out), scores=_scores(args)))


def _hub(segmenter: Segmenter, args: Namespace) -> str:
    from geodistill.export.hub import export_hub

    return str(export_hub(segmenter, Path(args.out), licence=args.licence, scores=_scores(args)))


def _scores(args: Namespace) -> dict[str, float]:
    from geodistill.export.card import read_scores

    return read_scores(Path(args.scores)) if args.scores else {}


def _number(flag: str, text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdigit():
        raise RecipeError(f"{flag} {text}", "a number of at least 1, or any")
    return int(text)


TARGETS: dict[str, tuple[Callable[[Segmenter, Namespace], str], tuple[str, ...]]] = {
    "onnx": (_onnx, ("--size", "--batch", "--opset", "--int8", "--split")),
    "qgis": (_qgis, ("--resolution", "--overlap")),
    "stac": (_stac, ("--scores",)),
    "hub": (_hub, ("--licence", "--scores")),
}
"""What makes each, and the flags that concern it."""
