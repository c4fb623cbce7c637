"""``geodistill export``: a Segmenter in other forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geodistill.cli.arguments import MODEL, SPLIT_NAMES, VerbParser, options_of, parse, refuse_idle
from geodistill.errors import RecipeError

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.exports.exporters import ExportOptions
    from geodistill.segmenter import Segmenter


def export_parser() -> VerbParser:
    """Return the parser of ``export``."""
    from geodistill.exports.exporters import EXPORTERS, ExportOptions

    parser = VerbParser(
        "export",
        "Write a Segmenter as an ONNX file, as one for the QGIS plug-in Deepness, as a program of torch.export, for "
        "OpenVINO, for TensorFlow Lite, as a STAC item with all it links, or as a directory for the Hub.",
        "geodistill export runs/student --to onnx --out student.onnx",
        typed=["model"],
    )
    add, default = parser.add_group("input"), ExportOptions
    add("--model", MODEL, required=True)
    add("--zone", "MetaSegNet only: the one climate zone to keep, such as Cfb", otherwise="all")
    add = parser.add_group("output")
    add("--to", "form", required=True, choices=EXPORTERS)
    folders = [form for form, each in EXPORTERS.items() if each.is_folder]
    files = [form for form in EXPORTERS if form not in folders]
    add("--out", f"the file ({', '.join(files)}) or directory ({', '.join(folders)}) to make", required=True)
    size = _help("size", "side of the images in pixels, or any")
    add("--size", size, otherwise="that of the training windows")
    add("--batch", _help("batch", "images per call, or any"), default=str(default.batch))
    add("--opset", _help("opset", "version of the operators"), type=int, default=default.opset)
    add("--resolution", _help("resolution", "centimetres per pixel"), type=float, otherwise="the model's own")
    overlap = _help("overlap", "percent of a tile that its neighbour covers too")
    add("--overlap", overlap, type=int, default=default.overlap)
    add("--licence", _help("licence", "licence of the weights, such as apache-2.0"), otherwise="not named")
    add("--scores", _help("scores", "metrics.json of 'geodistill evaluate'"), otherwise="what the model holds")
    add = parser.add_group("quality")
    add("--int8", _help("calibration", "also write an int8 file, calibrated on this manifest"))
    drop = "percentage points of mIoU that the int8 file may lose; layers are left in float until it does not"
    add("--int8-drop", _help("int8_drop", drop), type=float, default=default.int8_drop)
    add("--check", _help("check", "rasters or manifests on whose tiles it is compared with torch"), nargs="+")
    split = _help("split", "split used to measure the accuracy drop")
    add("--split", split, default=default.split, choices=SPLIT_NAMES)
    return parser


def _help(option: str, text: str) -> str:
    """Return the help of an option's flag, behind the forms that the option concerns."""
    from geodistill.exports.exporters import EXPORTERS

    return f"{', '.join(form for form, each in EXPORTERS.items() if option in each.options)}: {text}"


def export(argv: Sequence[str]) -> None:
    """Export a model."""
    parser = export_parser()
    args = parse(parser, argv)
    from geodistill.exports.exporters import EXPORTERS, find_exporter
    from geodistill.exports.exporters import export as run_export

    exporter = find_exporter(args.to)
    others = {option for one in EXPORTERS.values() for option in one.options} - set(exporter.options)
    idle = sorted("--int8" if option == "calibration" else f"--{option.replace('_', '-')}" for option in others)
    refuse_idle(parser, args, idle, f"with --to {args.to}")
    if args.int8 is None:
        refuse_idle(parser, args, ["--split", "--int8-drop"], "without --int8")
    segmenter = _model(args)
    _check_outputs(segmenter, args, exporter.is_folder)
    print(run_export(segmenter, args.to, args.out, _options(args)))


def _check_outputs(segmenter: Segmenter, args: Namespace, is_folder: bool) -> None:
    """Make sure that no file of the model, nor what else is named, is written over."""
    from geodistill.description import DESCRIPTION, WEIGHTS, find_segmenter
    from geodistill.exports.onnx import int8_beside, text_beside
    from geodistill.files import check_outputs

    folder, out = find_segmenter(args.model), Path(args.out)
    read = [
        folder / DESCRIPTION,
        folder / WEIGHTS,
        *(Path(file) for file in (args.scores, args.int8, *(args.check or ())) if file),
    ]
    if is_folder:
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


def _options(args: Namespace) -> ExportOptions:
    from geodistill.data.manifest import Manifest
    from geodistill.exports.card import read_scores
    from geodistill.exports.exporters import ExportOptions

    read = {
        "size": None if args.size is None else _number("--size", args.size),
        "batch": _number("--batch", args.batch),
        "calibration": Manifest.load(args.int8) if args.int8 else None,
        "check": tuple(args.check or ()),
        "scores": read_scores(Path(args.scores)) if args.scores else {},
    }
    return options_of(ExportOptions, args, read)


def _number(flag: str, text: str) -> int | Literal["any"]:
    if text == "any":
        return "any"
    if not text.isdecimal():
        raise RecipeError(f"{flag} {text}", "a number of at least 1, or any")
    return int(text)
