"""``geodistill predict``: its flags, and what it prints of each scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from geodistill.cli.shared import one_of, parse, print_json, refuse_idle, verb_parser
from geodistill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.inference.options import PredictOptions
    from geodistill.inference.scene_map import SceneMap

BESIDE = ("confidence", "probabilities", "stac", "vectors")
"""What a `SceneMap` may hold beside the map of classes."""


def predict(argv: Sequence[str]) -> None:
    """Map whole scenes."""
    parser = flags()
    args = parse(parser, argv)
    if args.engine == "local":
        refuse_idle(parser, args, ["--address", "--gpus"], "without --engine ray")
    if args.vector is None:
        refuse_idle(parser, args, ["--min-area", "--simplify"], "without --vector")
    from geodistill.inference.predict import predict as run_predict

    def show(scene_map: SceneMap) -> None:
        if not args.json:
            print(line(scene_map), flush=True)

    scene_maps = run_predict(
        args.model,
        args.input,
        args.out,
        options_of(args),
        stack=args.stack,
        engine=args.engine,
        workers=args.workers,
        address=args.address,
        gpus=args.gpus,
        each=show,
    )
    if args.json:
        print_json([summary(scene_map) for scene_map in scene_maps])
    failed = sum(scene_map.error is not None for scene_map in scene_maps)
    if failed:
        raise DataError(f"{failed} of {len(scene_maps)} scenes have no map", "", "see the lines above")


def flags() -> ArgumentParser:
    """Return the verb's parser; defaults and choices are those of `geodistill.inference.options`."""
    parser = verb_parser(
        "predict",
        "Classify scenes of any size into georeferenced maps, in memory that does not grow with the height.",
        "geodistill predict --model runs/student --input scene.tif --out map.tif",
    )
    _add_scenes(parser)
    _add_maps(parser)
    _add_running(parser)
    return parser


def _add_scenes(parser: ArgumentParser) -> None:
    """Add the flags of what is read, and where the maps go."""
    add = parser.add_argument
    add("--model", required=True, help="Segmenter directory, run directory or hub id")
    add(
        "--input",
        required=True,
        nargs="+",
        help="rasters: files, https:// or s3:// addresses, /vsi paths, folders of band files, STAC items (.json), "
        "tile indexes (.parquet)",
    )
    add("--out", required=True, help="the map; a directory for several scenes")
    add(
        "--local-only",
        action="store_true",
        help="read nothing over the network, nor files outside the folder of each input: for untrusted files",
    )
    add("--stack", action="store_true", help="the inputs are band files of one scene")
    add("--bands", help="bands by number from 1 or by name, such as 4,3,2 or red,green,blue")
    add("--nodata", type=float, help="value that means no data, for scenes that do not say so themselves")
    add("--resample", action="store_true", help="bring scenes to the model's ground sampling distance")
    add("--lonlat", type=float, nargs=2, help="longitude and latitude of the scenes (MetaSegNet only)")
    add("--zone", help="climate zone of the scenes (MetaSegNet only)")
    add("--region", help="place of the scenes, such as potsdam, or file for the files' names (MetaSegNet only)")
    add("--date", help="day of acquisition, YYYY-MM-DD (MetaSegNet with seasons only)")


def _add_maps(parser: ArgumentParser) -> None:
    """Add the flags of what is made of a scene."""
    from geodistill.inference.options import AVERAGES, BLENDS, SAMPLES, VECTOR_FORMATS, PredictOptions

    add, default = parser.add_argument, PredictOptions
    add("--overlap", type=float, default=default.overlap, help="overlap of neighbouring windows, 0 to 0.75")
    add("--blend", default=default.blend, help=one_of(BLENDS))
    add("--tta", default=default.tta, help=f"test-time averaging: {one_of(AVERAGES)} (4 mirrors, 8 mirrors and turns)")
    add("--probabilities", help=f"also write one band per class: {one_of(SAMPLES)}")
    add("--confidence", action="store_true", help="also write the probability of the class")
    add("--stac", action="store_true", help="also write a STAC item")
    add("--vector", help=f"also write polygons, and confidence: {one_of(VECTOR_FORMATS)}")
    add("--min-area", type=float, default=default.min_area, help="leave smaller polygons out, square metres")
    simplify = "simplification tolerance in pixels (topology-preserving)"
    add("--simplify", type=float, default=default.simplify, help=simplify)


def _add_running(parser: ArgumentParser) -> None:
    """Add the flags of how and where the network runs."""
    from geodistill.engine import ENGINES
    from geodistill.inference.options import BACKENDS, PRECISIONS, PredictOptions

    add, default = parser.add_argument, PredictOptions
    add("--batch", help="batch size (windows per forward pass), or auto to measure; by default what suits the device")
    add("--device", default=default.device, help="auto, cpu, cuda ...")
    precision = f"{one_of(PRECISIONS)}; auto is the fastest that gives the classes of fp32"
    add("--precision", default=default.precision, help=precision)
    backend = f"{one_of(BACKENDS)}; auto is the fastest that gives torch's classes"
    add("--backend", default=default.backend, help=backend)
    add("--compile", action="store_true", help="compile the network with torch")
    add("--max-memory", help="most memory a scene takes beside the network, such as 2GB; wider ones are cut in columns")
    add("--readers", type=int, help="threads that read; by default 1, or 4 for sources on the network")
    add("--resume", action="store_true", help="continue interrupted maps, leave finished ones as they are")
    add("--keep-going", action="store_true", help="make holes of what cannot be read, and go on to the next scene")
    add("--engine", default="local", help=one_of(ENGINES))
    add("--address", help="of the Ray cluster, such as auto")
    add("--workers", type=int, default=1, help="scenes, or blocks of them, at once")
    add("--blocks", type=int, help="cut each scene in this many blocks of rows for the workers")
    add("--gpus", type=float, default=0, help="GPUs a worker on the cluster takes")
    add("--json", action="store_true", help="print JSON")


def options_of(args: Namespace) -> PredictOptions:
    """Return the options of flags.

    Raises:
        RecipeError: A value cannot be used.
        UnknownNameError: A name is not known.
    """
    from geodistill.inference.options import PredictOptions, parse_bytes

    plain = {field.name: args[field.name] for field in fields(PredictOptions)}
    read: dict[str, Any] = {
        "batch": _batch(args.batch),
        "bands": tuple(args.bands.split(",")) if args.bands else None,
        "max_memory": parse_bytes(args.max_memory) if args.max_memory else None,
        "lonlat": tuple(args.lonlat) if args.lonlat else None,
    }
    return PredictOptions(**plain | read)


def _batch(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdigit():
        raise RecipeError(f"--batch {text}", "a number or auto")
    return int(text)


def summary(scene_map: SceneMap) -> dict[str, Any]:
    """Return a scene's map in a JSON-ready form."""
    files = {"map": scene_map.path} | {name: getattr(scene_map, name) for name in BESIDE}
    return {
        "source": scene_map.source,
        **{key: str(path) for key, path in files.items() if path is not None and scene_map.error is None},
        "windows": scene_map.windows,
        "holes": [hole.to_dict() for hole in scene_map.holes],
        "finished_before": scene_map.finished_before,
        "chosen": "; ".join(scene_map.notes),
        "error": str(scene_map.error) if scene_map.error is not None else None,
    }


def line(scene_map: SceneMap) -> str:
    """Return a line on a scene's map, and others on its holes and on what was chosen for it."""
    if scene_map.error is not None:
        return f"{scene_map.path}: failed: {scene_map.error}"
    files = (scene_map.path, *(getattr(scene_map, name) for name in BESIDE))
    lines = [" ".join(str(path) for path in files if path is not None)]
    if scene_map.finished_before:
        lines[0] += " (finished before)"
    if scene_map.holes:
        pixels = sum(hole.window.height * hole.window.width for hole in scene_map.holes)
        lines.append(f"  {len(scene_map.holes)} holes, {pixels} pixels: {scene_map.holes[0].reason}")
    if scene_map.notes:
        lines.append(f"  {'; '.join(scene_map.notes)}")
    return "\n".join(lines)
