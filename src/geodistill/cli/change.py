"""``geodistill change``: what changed between two maps, or between two scenes by a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geodistill.cli.arguments import DEVICE, MODEL, VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_result

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.inference.options import PredictOptions


def change_parser() -> VerbParser:
    """Return the parser of ``change``."""
    from geodistill.change.compare_maps import ChangeOptions
    from geodistill.inference.options import VECTOR_FORMATS

    parser = VerbParser(
        "change",
        "What changed between two maps of one place: a map of changes, the from-to matrix with areas, polygons. With"
        " --model the two are scenes, which are mapped first.",
        "geodistill change 2024.tif 2026.tif --out change.tif --tolerance 1 --min-area 500 --vector gpkg",
        typed=["before", "after"],
    )
    add, default = parser.add_group("input"), ChangeOptions
    add("--before", "the first map, or scene", required=True)
    add("--after", "the second map, or scene", required=True)
    add("--model", f"map the two scenes first: {MODEL}", otherwise="the two are maps")
    add("--confidence", "maps of confidence of both", nargs=2, metavar=("BEFORE", "AFTER"), otherwise="none")
    add("--map", "classes under another name, several may become one", nargs="+", metavar="OLD=NEW", otherwise="none")
    legend = "YAML or JSON files of classes with values, for maps that hold no legend: one for both, or one each"
    add("--legend", legend, nargs="+", otherwise="the maps' own")
    add.switch("--align", "bring the second map onto the grid of the first (nearest pixel)")
    add = parser.add_group("output")
    add("--out", "the map of changes, a name that ends in .tif", required=True)
    add("--vector", "also write the changes as polygons", choices=VECTOR_FORMATS)
    add("--simplify", "simplification tolerance of polygons in pixels", type=float, default=default.simplify)
    add("--csv", "also write the from-to matrix to this file")
    add.switch("--json", "print JSON")
    add = parser.add_group("quality")
    tolerance = "pixels by which the maps may be shifted against each other"
    add("--tolerance", tolerance, type=int, default=default.tolerance)
    add("--min-area", "leave smaller changes out, square metres", type=float, default=default.min_area)
    parser.add_group("speed")("--device", DEVICE, default="auto")
    return parser


def change(argv: Sequence[str]) -> None:
    """Compare two maps, or map two scenes and compare these."""
    parser = change_parser()
    args = parse(parser, argv)
    if args.model is None:
        refuse_idle(parser, args, ["--device"], "without --model")
    else:
        refuse_idle(parser, args, ["--confidence", "--legend"], "with --model")
    if args.vector is None:
        refuse_idle(parser, args, ["--simplify"], "without --vector")
    from geodistill.change.compare_maps import ChangeOptions, change_outputs, compare_maps
    from geodistill.change.legends import parse_renames
    from geodistill.files import check_outputs, check_suffix, write_text
    from geodistill.inference.beside import outputs_of
    from geodistill.inference.options import PredictOptions
    from geodistill.spec import Legend
    from geodistill.writing import csv_text

    legends = [Legend.load(path) for path in args.legend or []]
    renames = parse_renames(args.map or [])
    options = ChangeOptions(renames, args.tolerance, args.min_area, args.align, args.vector, args.simplify)
    outputs = change_outputs(Path(args.out), options, True)
    if args.csv:
        check_suffix(args.csv, (".csv",))
        outputs.append(Path(args.csv))
    mapping = PredictOptions(confidence=True, device=args.device, resume=True)
    maps = _scene_maps(Path(args.out)) if args.model is not None else []
    outputs += [file for path in maps for file in outputs_of(path, mapping)]
    check_outputs(outputs, [args.before, args.after, *(args.confidence or []), *(args.legend or [])])
    before, after, confidence = args.before, args.after, args.confidence or []
    if args.model is not None:
        before, after, *confidence = _map_scenes(args, maps, mapping)
    result = compare_maps(before, after, args.out, options, confidence=confidence, legends=legends)
    if args.csv:
        write_text(args.csv, csv_text(result.matrix.rows()))
    files = {"map": result.path, "confidence": result.confidence, "vectors": result.vectors and result.vectors.path}
    named = {key: str(path) for key, path in files.items() if path is not None}
    text = f"{' '.join(named.values())}\n{result.matrix}"
    if result.vectors is not None and result.vectors.off_earth:
        text += f"\n{result.vectors.off_earth} polygons off the Earth left out"
    print_result(args.json, {**named, **result.matrix.to_dict()}, text)


def _scene_maps(out: Path) -> list[Path]:
    """Return where the maps of both scenes lie: beside the map of changes."""
    return [out.with_name(f"{out.stem}_{name}.tif") for name in ("before", "after")]


def _map_scenes(args: Namespace, paths: Sequence[Path], options: PredictOptions) -> list[Path]:
    """Map both scenes; return the maps, and those of confidence."""
    from geodistill.inference.predict import predict

    scenes = zip((args.before, args.after), paths, strict=True)
    maps = [predict(args.model, [scene], path, options)[0] for scene, path in scenes]
    return [*(one.path for one in maps), *(one.confidence for one in maps if one.confidence is not None)]
