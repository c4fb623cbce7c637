"""``geodistill predict``: its flags, and what it tells of each scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from geodistill.cli.shared import parse, plain_warnings, print_json, refuse_idle, verb_parser
from geodistill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.inference.options import Options
    from geodistill.inference.scene_map import SceneMap


def predict(argv: Sequence[str]) -> None:
    """Map whole scenes."""
    parser = flags()
    args = parse(parser, argv)
    if args.engine == "local":
        refuse_idle(parser, args, ["--address", "--gpus"], "without --engine ray")
    if args.vector is None:
        refuse_idle(parser, args, ["--min-area", "--simplify"], "without --vector")
    from geodistill.inference.predict import iter_maps

    options = options_of(args)
    failed, told = 0, []
    maps = iter_maps(
        args.model,
        args.input,
        args.out,
        options,
        stack=args.stack,
        engine=args.engine,
        workers=args.workers,
        address=args.address,
        gpus=args.gpus,
    )
    with plain_warnings():
        for _, made in maps:
            failed += made.error is not None
            told.append(summary(made))
            if not args.json:
                print(line(made), flush=True)
    if args.json:
        print_json(told)
    if failed:
        raise DataError(f"{failed} of {len(told)} scenes have no map", "", "see the lines above")


def flags() -> ArgumentParser:
    """Give the verb's parser."""
    parser = verb_parser(
        "predict",
        "Classify scenes of any size into georeferenced maps, in memory that does not grow with the height.",
        "geodistill predict --model runs/student --input scene.tif --out map.tif",
    )
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
        help="nothing over the network, and of inputs nothing outside their folder: for files from strangers",
    )
    add("--stack", action="store_true", help="the inputs are band files of one scene")
    add("--bands", help="bands by number from 1 or by name, such as 4,3,2 or red,green,blue")
    add("--nodata", type=float, help="value that means no data, for scenes that do not say so themselves")
    add("--resample", action="store_true", help="bring scenes to the model's ground sampling distance")
    add("--lonlat", type=float, nargs=2, help="longitude and latitude of the scenes, for a model that asks where")
    add("--zone", help="climate zone of the scenes, for such a model")
    add("--region", help="place of the scenes, such as potsdam, for such a model; file where files are named by it")
    add("--date", help="day of acquisition, YYYY-MM-DD, for a model that tells seasons apart")
    add("--overlap", type=float, default=0.25, help="overlap of neighbouring windows, 0 to 0.75")
    add("--blend", default="cosine", help="cosine or none")
    add("--tta", default="none", help="average over none, flips (4 mirrors) or d4 (8 mirrors and turns)")
    add("--probabilities", help="also write one band a class: uint8, float16 or float32")
    add("--confidence", action="store_true", help="also write the probability of the class")
    add("--stac", action="store_true", help="also write a STAC item")
    add("--vector", help="also write polygons, and confidence: gpkg, parquet, fgb or geojson")
    add("--min-area", type=float, default=0.0, help="leave smaller polygons out, square metres")
    add("--simplify", type=float, default=0.0, help="how coarse outlines may become, pixels; shared borders stay so")
    add("--batch", help="windows a forward pass, or auto to measure; by default what suits the device")
    add("--device", default="auto", help="auto, cpu, cuda ...")
    add("--precision", default="auto", help="fp32, bf16, fp16, or auto: the fastest that gives the classes of fp32")
    add("--backend", default="auto", help="auto (the fastest that gives torch's classes), torch, onnx or openvino")
    add("--compile", action="store_true", help="compile the network with torch")
    add("--max-memory", help="most memory a scene takes beside the network, such as 2GB; wider ones are cut in columns")
    add("--readers", type=int, help="threads that read; by default 1, or 4 for sources on the network")
    add("--resume", action="store_true", help="continue interrupted maps, leave finished ones as they are")
    add("--keep-going", action="store_true", help="make holes of what cannot be read, and go on to the next scene")
    add("--engine", default="local", help="local or ray")
    add("--address", help="of the Ray cluster, such as auto")
    add("--workers", type=int, default=1, help="scenes, or blocks of them, at once")
    add("--blocks", type=int, help="cut each scene in this many blocks of rows for the workers")
    add("--gpus", type=float, default=0, help="GPUs a worker on the cluster takes")
    add("--json", action="store_true", help="print JSON")
    return parser


def options_of(args: Namespace) -> Options:
    """Make options of flags.

    Raises:
        RecipeError: A value cannot be used.
        UnknownNameError: A name is not known.
    """
    from geodistill.inference.location import Whereabouts
    from geodistill.inference.options import Options, parse_bytes
    from geodistill.inference.reduce import Wanted
    from geodistill.inference.sliding import Settings
    from geodistill.inference.vector import VectorOptions

    return Options(
        Settings(
            overlap=args.overlap,
            blend=args.blend,
            tta=args.tta,
            wanted=Wanted(args.confidence, args.probabilities),
            threads=args.readers,
            keep_going=args.keep_going,
        ),
        batch=_batch(args.batch),
        device=args.device,
        backend=args.backend,
        precision=args.precision,
        compile=args.compile,
        bands=tuple(args.bands.split(",")) if args.bands else None,
        nodata=args.nodata,
        resample=args.resample,
        max_memory=parse_bytes(args.max_memory) if args.max_memory else None,
        resume=args.resume,
        blocks=args.blocks,
        stac=args.stac,
        local_only=args.local_only,
        whereabouts=Whereabouts(tuple(args.lonlat) if args.lonlat else None, args.zone, args.region, args.date),
        vector=VectorOptions(args.vector, args.min_area, args.simplify) if args.vector else None,
    )


def _batch(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdigit():
        raise RecipeError(f"--batch {text}", "a number or auto")
    return int(text)


def summary(made: SceneMap) -> dict[str, Any]:
    """Give what was made of a scene in a JSON-ready form."""
    files = {"map": made.path, "confidence": made.confidence, "probabilities": made.probabilities, "stac": made.stac}
    files["vectors"] = made.vectors
    return {
        "source": made.source,
        **{key: str(path) for key, path in files.items() if path is not None and made.error is None},
        "windows": made.windows,
        "holes": [hole.to_dict() for hole in made.holes],
        "finished_before": made.finished_before,
        "chosen": made.told,
        "error": str(made.error) if made.error is not None else None,
    }


def line(made: SceneMap) -> str:
    """Tell of a scene on one line, and on another what was chosen for it."""
    if made.error is not None:
        return f"{made.path}: failed: {made.error}"
    parts = [
        str(path)
        for path in (made.path, made.confidence, made.probabilities, made.stac, made.vectors)
        if path is not None
    ]
    told = " ".join(parts) + (" (finished before)" if made.finished_before else "")
    if made.holes:
        pixels = sum(hole.window.height * hole.window.width for hole in made.holes)
        first = made.holes[0]
        told += f"\n  {len(made.holes)} holes, {pixels} pixels: {first.reason}"
    return told + (f"\n  {made.told}" if made.told else "")
