"""The verb ``prompts``: where scenes lie and what their classes look like there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.cli.shared import parse, print_json, refuse_idle, verb_parser
from geodistill.errors import RecipeError, ServiceError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.text.places import Group, Place, Setting
    from geodistill.text.templates import Prompt

_ALONE = ("input", "lonlat", "date", "gsd", "elevation")


def prompts(argv: Sequence[str]) -> None:
    """Print zone, season and prompt of scenes, or of all images of a manifest."""
    parser = _parser()
    args = parse(parser, argv)
    if args.llm is None:
        refuse_idle(parser, args, ["--llm-model", "--answers", "--llm-fallback", "--yes"], "without --llm")
    if args.manifest is None:
        refuse_idle(parser, args, ["--seasons"], "without --manifest")
    if args.scenes:
        args.input = [*args.scenes, *(args.input or [])]
    if args.manifest:
        _of_manifest(args)
    else:
        _of_scenes(args)


def _parser() -> ArgumentParser:
    parser = verb_parser(
        "prompts",
        "Zone, season and the text of each class for scenes: from their georeferencing, a manifest, a coordinate, a"
        " region or a zone; by built-in knowledge or a language model.",
        "geodistill prompts --lonlat 39.2 -6.1 --legend legend.yaml --gsd 0.1 --date 2018-07-01",
    )
    add = parser.add_argument
    add("scenes", nargs="*", help="rasters that say where they lie")
    add("--input", nargs="+", help="the same")
    add("--manifest", help="a manifest: every distinct prompt among its images, as training asks for them")
    add("--lonlat", type=float, nargs=2, help="longitude and latitude in degrees")
    add("--zone", help="a climate zone's code, such as Cfb")
    add("--region", help="a place of a benchmark set, such as potsdam or aachen; file where files are named by it")
    add("--legend", help="legend file with the classes; by default the manifest's")
    add("--classes", nargs="+", help="class names, instead of a legend")
    add("--date", help="day of acquisition, YYYY-MM-DD")
    add("--gsd", type=float, help="metres per pixel")
    add("--elevation", type=float, help="metres above the sea")
    add("--seasons", action="store_true", help="with --manifest: tell seasons apart, as text.seasons does")
    add("--kind", default="climate", help="climate, no-climate, plain or none")
    add("--text-encoder", default="words", help="counts the tokens: words, a hub id or a directory")
    add("--llm", help="address of an OpenAI-compatible endpoint, such as http://localhost:11434/v1")
    add("--llm-model", help="name of the model there; its key comes from GEODISTILL_LLM_KEY")
    add("--answers", default="prompts.json", help="JSON file of the answers, to be read and edited")
    add("--llm-fallback", action="store_true", help="built-in knowledge where the endpoint fails")
    add("--yes", action="store_true", help="ask the model without showing the cost first")
    add("--json", action="store_true", help="print JSON")
    return parser


def _of_manifest(args: Namespace) -> None:
    from geodistill.data.manifest import Manifest
    from geodistill.text.places import group_places, manifest_places

    if other := [f"--{name}" for name in _ALONE if getattr(args, name) is not None]:
        raise RecipeError(
            f"--manifest with {', '.join(other)}", "--zone or --region at most: the rest is in the manifest"
        )
    manifest = Manifest.load(args.manifest)
    legend = manifest.legend.names if manifest.legend else ()
    classes = _classes(args) or list(legend)
    groups = group_places(manifest_places(manifest, zone=args.zone, region=args.region), seasons=args.seasons)
    records = [
        _record_of_group(group) | written
        for group, written in zip(groups, _written(args, [group.setting for group in groups], classes), strict=True)
    ]
    if args.json:
        print_json(records)
        return
    print(f"{args.manifest}: {len(manifest.entries)} images, {len(groups)} settings")
    for record in records:
        print(f"\n{_told_of_group(record)}{_told_prompt(record)}")


def _of_scenes(args: Namespace) -> None:
    from geodistill.text.places import find_place, group_places

    scenes = args.input or [None]
    places = [
        find_place(
            scene,
            lonlat=tuple(args.lonlat) if args.lonlat else None,
            zone=args.zone,
            region=args.region,
            day=args.date,
            gsd=args.gsd,
            elevation=args.elevation,
        )
        for scene in scenes
    ]
    classes = _classes(args)
    records = [
        _record(place) | ({} if scene is None else {"scene": scene, "tiles": _tiles(scene, args)})
        for scene, place in zip(scenes, places, strict=True)
    ]
    if len(scenes) == 1:
        record = records[0] | _written(args, [places[0].setting], classes)[0]
        if args.json:
            print_json(record)
        else:
            print(f"{_told(record)}{_told_prompt(record)}")
        return
    groups = group_places(places)
    settings = [
        _record_of_group(group) | written
        for group, written in zip(groups, _written(args, [group.setting for group in groups], classes), strict=True)
    ]
    if args.json:
        print_json({"scenes": records, "settings": settings if classes else []})
        return
    width = max(len(str(scene)) for scene in scenes)
    print("\n".join(f"{record['scene']:<{width}}  {_line(record)}" for record in records))
    if classes:
        print("".join(f"\n{_told_of_group(record)}{_told_prompt(record)}\n" for record in settings), end="")


def _tiles(scene: str, args: Namespace) -> dict[str, int]:
    """Zones of the tiles of a raster that lies where it says."""
    from geodistill.raster import Raster
    from geodistill.text.places import zone_shares

    if args.zone or args.region or args.lonlat:
        return {}
    with Raster(scene) as raster:
        grid = raster.grid
    return {} if grid.crs is None or grid.transform.is_identity else zone_shares(grid)


def _classes(args: Namespace) -> list[str]:
    if args.legend and args.classes:
        raise RecipeError("prompts with both of --legend and --classes", "one of them")
    if args.classes:
        return list(args.classes)
    if not args.legend:
        return []
    from geodistill.spec import Legend

    return list(Legend.load(Path(args.legend)).names)


def _written(args: Namespace, settings: Sequence[Setting], classes: list[str]) -> list[dict[str, Any]]:
    """Write the prompt of each setting, as JSON; nothing without classes."""
    if not classes:
        if args.llm:
            raise RecipeError("--llm without classes", "--legend or --classes")
        return [{} for _ in settings]
    from geodistill.text.features import MOST_TOKENS, open_text_encoder, token_count

    encoder = open_text_encoder(args.text_encoder)
    records = []
    for prompt in _write(args, settings, classes):
        tokens = token_count(encoder, prompt)
        parts = [{"name": part.name, "text": part.text, "source": part.source} for part in prompt.parts]
        record = {"id": prompt.id, "tokens": tokens, "text_encoder": args.text_encoder, "classes": parts}
        records.append(record | {"too_long": tokens > MOST_TOKENS})
    return records


def _write(args: Namespace, settings: Sequence[Setting], classes: list[str]) -> list[Prompt]:
    from geodistill.text.templates import questions, write_prompt

    if not args.llm:
        return [write_prompt(setting, classes, args.kind) for setting in settings]
    if not args.llm_model:
        raise RecipeError("--llm without --llm-model", "the model's name at that endpoint")
    from geodistill.text.features import fitting_words
    from geodistill.text.llm import LlmWriter

    writer = LlmWriter(args.llm, args.llm_model, Path(args.answers), words=fitting_words(len(classes)))
    asked = [one for setting in settings for one in questions(setting, classes, args.kind)]
    if writer.pending(asked) and not args.yes:
        print(writer.cost(asked), file=sys.stderr)
        if not sys.stdin.isatty() or input("ask? [y/N] ").strip().lower() != "y":
            raise RecipeError("the language model was not asked", "--yes, or y at the question")
    prompts, down = [], False
    for setting in settings:
        # An endpoint that is down is not waited for again, but what it answered before is used.
        if not (down and writer.pending(questions(setting, classes, args.kind))):
            try:
                prompts.append(write_prompt(setting, classes, args.kind, writer, args.llm_model))
                continue
            except ServiceError as error:
                if not args.llm_fallback:
                    raise
                down = True
                print(f"geodistill: {error}; built-in knowledge is used", file=sys.stderr)
        prompts.append(write_prompt(setting, classes, args.kind))
    return prompts


def _record(place: Place) -> dict[str, Any]:
    return {
        "zone": place.zone.code,
        "climate": place.zone.name,
        "from": place.source,
        "km_from_land_cell": round(place.zone.distance, 1),
        "lon": place.lon,
        "lat": place.lat,
        "season": place.setting.season,
        "gsd": place.setting.gsd,
    }


def _record_of_group(group: Group) -> dict[str, Any]:
    return {
        "zone": group.setting.zone,
        "climate": group.places[0].zone.name,
        "season": group.setting.season,
        "gsd": group.setting.gsd,
        "images": len(group.places),
        "from": group.sources,
        "seasons": group.seasons,
    }


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items())


def _line(record: dict[str, Any]) -> str:
    """Tell of a scene's place on one line."""
    parts = [f"{record['zone']} ({record['climate']})", record["season"]]
    parts.append(f"{record['gsd']:.3g} m" if record["gsd"] else None)
    at = "" if record["lon"] is None else f" at {record['lon']:.4f}, {record['lat']:.4f}"
    parts.append(f"from {record['from']}{at}")
    if record["km_from_land_cell"]:
        parts.append(f"{record['km_from_land_cell']:.0f} km off its land")
    if len(record["tiles"]) > 1:
        parts.append(f"tiles {_counts(record['tiles'])}")
    return ", ".join(part for part in parts if part)


def _told(record: dict[str, Any]) -> str:
    at = "" if record["lon"] is None else f" at {record['lon']:.4f}, {record['lat']:.4f}"
    off = f", {record['km_from_land_cell']:.0f} km off its land" if record["km_from_land_cell"] else ""
    lines = [f"zone    {record['zone']} ({record['climate']}), from {record['from']}{at}{off}"]
    if len(record.get("tiles", ())) > 1:
        lines.append(f"tiles   {_counts(record['tiles'])}")
    lines.append(f"season  {record['season'] or 'not used (no date, or in the tropics)'}")
    if record["gsd"]:
        lines.append(f"gsd     {record['gsd']:.3g} m")
    return "\n".join(lines)


def _told_of_group(record: dict[str, Any]) -> str:
    lines = [f"zone    {record['zone']} ({record['climate']}), {record['images']} images: {_counts(record['from'])}"]
    if record["season"]:
        lines.append(f"season  {record['season']}")
    elif record["seasons"]:
        lines.append(f"season  not told apart: {_counts(record['seasons'])}")
    else:
        lines.append("season  not used (no dates, or in the tropics)")
    if record["gsd"]:
        lines.append(f"gsd     {record['gsd']:.3g} m")
    return "\n".join(lines)


def _told_prompt(record: dict[str, Any]) -> str:
    """Tell of a prompt, from a line of its own on; nothing where none was written."""
    if "id" not in record:
        return ""
    from geodistill.text.features import MOST_TOKENS

    long = f", more than text.tokens {MOST_TOKENS}" if record["too_long"] else ""
    lines = [f"prompt  {record['id']}, {record['tokens']} tokens of {record['text_encoder']}{long}"]
    lines += [f"  [{part['source']}] {part['text'] or '(no text)'}" for part in record["classes"]]
    return "\n" + "\n".join(lines)
