"""``geodistill predict``: its flags, and what it prints of each scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geodistill.cli.arguments import (
    DEVICE,
    LONLAT,
    MODEL,
    SCALES,
    VerbParser,
    add_machines,
    machines_of,
    options_of,
    parse,
    refuse_idle,
)
from geodistill.cli.terminal import print_json
from geodistill.engine import Machines
from geodistill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.inference.layers import SceneMap
    from geodistill.inference.options import PredictOptions
    from geodistill.segmenter import Segmenter


def predict(argv: Sequence[str]) -> None:
    """Map whole scenes."""
    parser = predict_parser()
    args = parse(parser, argv)
    machines = machines_of(Machines, parser, args)
    if args.vector is None:
        refuse_idle(parser, args, ["--min-area", "--simplify", "--objects"], "without --vector")
        if not args.confidence:
            refuse_idle(parser, args, ["--confidence-as"], "without --confidence or --vector")
    if args.objects is None:
        refuse_idle(parser, args, ["--right-angles"], "without --objects")
    model = model_of(parser, args)
    from geodistill.inference.predict import predict as run_predict

    def show(scene_map: SceneMap) -> None:
        if not args.json:
            print(line(scene_map), flush=True)

    scene_maps = run_predict(
        model,
        args.input,
        args.out,
        flagged_options(args),
        stack=args.stack,
        mosaic=args.mosaic,
        machines=machines,
        each=show,
    )
    if args.json:
        print_json([summary(scene_map) for scene_map in scene_maps])
    failed = sum(scene_map.error is not None for scene_map in scene_maps)
    if failed:
        raise DataError(f"{failed} of {len(scene_maps)} scenes have no map", "", "see the lines above")


def predict_parser() -> VerbParser:
    """Return the verb's parser; defaults and choices are those of `geodistill.inference.options`."""
    from geodistill.inference.options import GSDS, VECTOR_FORMATS, PredictOptions

    parser = VerbParser(
        "predict",
        "Classify scenes of any size into georeferenced maps, in memory that does not grow with the height.",
        "geodistill predict scene.tif --model runs/student --out map.tif",
        typed=["input"],
    )
    add, default = parser.add_group("most used"), PredictOptions
    scenes = "rasters: files, https:// or s3:// addresses, /vsi paths, folders of rasters or band files"
    add("--input", f"{scenes}, STAC items (.json), tile indexes (.parquet)", nargs="+", required=True, metavar="SCENE")
    add("--model", MODEL, required=True)
    add("--out", "the map; a directory for several scenes", required=True)
    gsd = "ground sampling distance of the map; auto is the model's where the scene's differs by more than 1.5 times"
    add("--gsd", gsd, default=default.gsd, choices=GSDS)
    parser.old_forms["--resample"] = ("--gsd", "model")
    add(
        "--bands",
        "bands by number from 1 or by name, such as 4,3,2 or red,green,blue",
        otherwise="by the model's names",
    )
    add.switch("--confidence", "also write how sure the model is of the class")
    add("--vector", "also write polygons, and confidence", choices=VECTOR_FORMATS)
    add("--device", DEVICE, default=default.device)
    add.switch("--resume", "continue interrupted maps, leave finished ones as they are")
    add("--workers", "scenes, or blocks of them, at once", type=int, default=1)
    _add_input(parser)
    _add_output(parser)
    _add_quality(parser)
    _add_speed(parser)
    _add_place(parser)
    blocks = "cut each scene into this many blocks of rows"
    add_machines(parser)("--blocks", blocks, type=int, otherwise="as many as keep the workers busy")
    return parser


def _add_input(parser: VerbParser) -> None:
    add = parser.add_group("input")
    add.switch("--stack", "the inputs are band files of one scene")
    add.switch("--mosaic", "the inputs are neighbouring parts of one scene; where they overlap, the first lies on top")
    add("--aoi", "vector file: map only what lies in its polygons", otherwise="whole scenes")
    web = "zoom level of web maps: addresses with {z}, {x} and {y}, WMS and WMTS"
    add("--zoom", web, type=int, otherwise="for other scenes")
    nodata = "value that means no data, for scenes that do not say so themselves"
    add("--nodata", nodata, type=float, otherwise="what each scene says")
    local = "read nothing over the network, nor files outside the folder of each input: for untrusted files"
    add.switch("--local-only", local)
    add.switch("--keep-going", "make holes of what cannot be read, and go on to the next scene")
    inside = "what the file or an MLM item beside it says"
    add("--classes", "ONNX models: legend file, or class names such as water,forest", otherwise=inside)
    add("--scale", "ONNX models: what samples are multiplied by, such as 1/255", otherwise=inside)
    add("--model-gsd", "ONNX models: metres per pixel of the training", type=float, otherwise=inside)
    add("--tile", "ONNX models: side of the windows in pixels, where they take any", type=int, otherwise=inside)


def _add_output(parser: VerbParser) -> None:
    from geodistill.description import COVERAGES
    from geodistill.inference.options import CONFIDENCES, SAMPLES, TILE_SETS, PredictOptions

    add = parser.add_group("output")
    meaning = "what confidence is: the class's probability, how far it is above the next, or 1 less the entropy"
    add("--confidence-as", meaning, default=PredictOptions.confidence_as, choices=CONFIDENCES)
    add("--probabilities", "also write one band per class, of this sample type", choices=SAMPLES)
    sets = "also write the classes that each pixel may have, which hold the true one of this share of the pixels"
    add("--class-sets", sets, choices=[f"{coverage:g}" for coverage in COVERAGES])
    add.switch("--stac", "also write a STAC item")
    add.switch("--preview", "also write a picture")
    add("--web-tiles", "also write map tiles for the web, with --vector of the polygons too", choices=TILE_SETS)
    add.switch("--unlike", "also write where the scene lies outside what the model was trained on")
    smallest = "leave smaller polygons out, square metres"
    add("--min-area", smallest, type=float, default=PredictOptions.min_area)
    simplify = "simplification tolerance of polygons in pixels (topology-preserving)"
    add("--simplify", simplify, type=float, default=PredictOptions.simplify)
    objects = "also write the objects of these classes one by one, touching ones separated"
    add("--objects", objects, nargs="+", metavar="CLASS", otherwise="none")
    squared = "classes of --objects whose outlines get right angles, shared walls kept"
    add("--right-angles", squared, nargs="+", metavar="CLASS", otherwise="none")
    add.switch("--json", "print JSON")


def _add_quality(parser: VerbParser) -> None:
    from geodistill.inference.options import AVERAGES, BLENDS, PredictOptions

    add, default = parser.add_group("quality"), PredictOptions
    add("--overlap", "overlap of neighbouring windows, 0 to 0.75", type=float, default=default.overlap)
    add("--blend", "how overlapping windows become one", default=default.blend, choices=BLENDS)
    average = "test-time averaging, flips over 4 mirrors, d4 over 8 mirrors and turns"
    add("--tta", average, default=default.tta, choices=AVERAGES)
    add("--scales", SCALES, type=float, nargs="+", metavar="N", otherwise="the model's own, mostly 1")


def _add_speed(parser: VerbParser) -> None:
    from geodistill.inference.options import BACKENDS, PRECISIONS, PredictOptions

    add, default = parser.add_group("speed"), PredictOptions
    batch = "batch size (windows per forward pass), or auto to measure"
    add("--batch", batch, otherwise="what suits the device")
    backend = "what runs the network; auto is the fastest that gives torch's classes"
    add("--backend", backend, default=default.backend, choices=BACKENDS)
    precision = "arithmetic; auto is the fastest that gives the classes of fp32"
    add("--precision", precision, default=default.precision, choices=PRECISIONS)
    add.switch("--compile", "compile the network with torch")
    memory = "most memory a scene takes beside the network, such as 2GB; wider ones are cut in columns"
    add("--max-memory", memory, otherwise="whole rows")
    add("--readers", "threads that read", type=int, otherwise="1, or 4 for sources on the network")


def _add_place(parser: VerbParser) -> None:
    add, scenes = parser.add_group("place"), "what the scenes say"
    add("--lonlat", LONLAT, type=float, nargs=2, metavar=("LON", "LAT"), otherwise=scenes)
    add("--zone", "climate zone of the scenes (MetaSegNet only)", otherwise=scenes)
    region = "place of the scenes, such as potsdam, or file for the files' names (MetaSegNet only)"
    add("--region", region, otherwise=scenes)
    add("--date", "day of acquisition, YYYY-MM-DD (MetaSegNet with seasons only)", otherwise=scenes)


def model_of(parser: VerbParser, args: Namespace) -> Segmenter | str:
    """Return the model as `predict` takes it: an ONNX file is opened with what the flags say of it."""
    from geodistill.description import is_graph

    if not is_graph(args.model):
        refuse_idle(parser, args, ["--classes", "--scale", "--model-gsd", "--tile"], "without an ONNX file as --model")
        return str(args.model)
    from geodistill.backends.graph_model import GraphFlags, GraphSegmenter
    from geodistill.spec import Legend

    classes = None
    if args.classes is not None:
        is_file = args.classes.lower().endswith((".yaml", ".yml", ".json"))
        classes = Legend.load(args.classes) if is_file else Legend(tuple(args.classes.split(",")))
    return GraphSegmenter(args.model, GraphFlags(classes, args.scale, args.model_gsd, args.tile))


def flagged_options(args: Namespace) -> PredictOptions:
    """Return the options of flags.

    Raises:
        RecipeError: A value cannot be used.
        UnknownNameError: A name is not known.
    """
    from geodistill.inference.options import PredictOptions, parse_bytes

    read: dict[str, Any] = {
        "batch": _batch(args.batch),
        "bands": tuple(args.bands.split(",")) if args.bands else None,
        "objects": tuple(args.objects or ()),
        "right_angles": tuple(args.right_angles or ()),
        "class_sets": float(args.class_sets) if args.class_sets else None,
        "max_memory": parse_bytes(args.max_memory) if args.max_memory else None,
        "lonlat": tuple(args.lonlat) if args.lonlat else None,
        "scales": None if args.scales is None else tuple(args.scales),
    }
    return options_of(PredictOptions, args, read)


def _batch(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal():
        raise RecipeError(f"--batch {text}", "a number or auto")
    return int(text)


def summary(scene_map: SceneMap) -> dict[str, Any]:
    """Return a scene's map in a JSON-ready form."""
    return {
        "source": scene_map.source,
        **({} if scene_map.error else {key: str(path) for key, path in _files(scene_map).items()}),
        "windows": scene_map.windows,
        "holes": [hole.to_dict() for hole in scene_map.holes],
        "finished_before": scene_map.finished_before,
        "chosen": "; ".join(scene_map.notes),
        "error": str(scene_map.error) if scene_map.error is not None else None,
    }


def _files(scene_map: SceneMap) -> dict[str, Path]:
    """Return the files of a scene's map by name, in the order of `SceneMap`; that of classes is called ``map``."""
    values = {field.name: getattr(scene_map, field.name) for field in fields(scene_map)}
    return {"map" if name == "path" else name: value for name, value in values.items() if isinstance(value, Path)}


def line(scene_map: SceneMap) -> str:
    """Return a line on a scene's map, and others on its holes and on what was chosen for it."""
    if scene_map.error is not None:
        return f"{scene_map.path}: failed: {scene_map.error}"
    lines = [" ".join(map(str, _files(scene_map).values()))]
    if scene_map.finished_before:
        lines[0] += " (finished before)"
    if scene_map.holes:
        pixels = sum(hole.window.height * hole.window.width for hole in scene_map.holes)
        lines.append(f"  {len(scene_map.holes)} holes, {pixels} pixels: {scene_map.holes[0].reason}")
    if scene_map.notes:
        lines.append(f"  {'; '.join(scene_map.notes)}")
    return "\n".join(lines)
