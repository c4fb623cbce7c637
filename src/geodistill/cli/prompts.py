"""The verb ``prompts``: where a scene lies and what its classes look like there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.cli.shared import parse, print_json, verb_parser
from geodistill.errors import RecipeError, ServiceError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from geodistill.context.prompts import Prompt
    from geodistill.context.setting import Place


def prompts(argv: Sequence[str]) -> None:
    """Print zone, season and prompt of a scene."""
    parser = verb_parser(
        "prompts",
        "Zone, season and the text of each class for a scene: from its georeferencing, a coordinate, a region or a"
        " zone; by built-in knowledge or a language model.",
        "geodistill prompts --lonlat 39.2 -6.1 --legend legend.yaml --gsd 0.1 --date 2018-07-01",
    )
    parser.add_argument("--input", help="a raster that says where it lies")
    parser.add_argument("--lonlat", type=float, nargs=2, help="longitude and latitude in degrees")
    parser.add_argument("--zone", help="a climate zone's code, such as Cfb")
    parser.add_argument("--region", help="a place of a benchmark set, such as potsdam or aachen")
    parser.add_argument("--legend", help="legend file with the classes")
    parser.add_argument("--classes", nargs="+", help="class names, instead of a legend")
    parser.add_argument("--date", help="day of acquisition, YYYY-MM-DD")
    parser.add_argument("--gsd", type=float, help="metres per pixel")
    parser.add_argument("--elevation", type=float, help="metres above the sea")
    parser.add_argument("--kind", default="climate", help="climate, no-climate, plain or none")
    parser.add_argument("--text-encoder", default="words", help="counts the tokens: words, a hub id or a directory")
    parser.add_argument("--llm", help="address of an OpenAI-compatible endpoint, such as http://localhost:11434/v1")
    parser.add_argument("--llm-model", help="name of the model there; its key comes from GEODISTILL_LLM_KEY")
    parser.add_argument("--answers", default="prompts.json", help="JSON file of the answers, to be read and edited")
    parser.add_argument("--llm-fallback", action="store_true", help="built-in knowledge where the endpoint fails")
    parser.add_argument("--yes", action="store_true", help="ask the model without showing the cost first")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.context.setting import find_place
    from geodistill.context.text import open_text_encoder, token_count

    place = find_place(
        args.input,
        lonlat=tuple(args.lonlat) if args.lonlat else None,
        zone=args.zone,
        region=args.region,
        day=args.date,
        gsd=args.gsd,
        elevation=args.elevation,
    )
    prompt = _write(args, place, _classes(args))
    tokens = token_count(open_text_encoder(args.text_encoder), prompt)
    if args.json:
        print_json(_record(place, prompt, tokens, args.text_encoder))
    else:
        print(_told(place, prompt, tokens, args.text_encoder))


def _classes(args: Namespace) -> list[str]:
    if bool(args.legend) == bool(args.classes):
        raise RecipeError("prompts with neither or both of --legend and --classes", "one of them")
    if args.classes:
        return list(args.classes)
    from geodistill.spec import Legend

    return list(Legend.load(Path(args.legend)).names)


def _write(args: Namespace, place: Place, classes: list[str]) -> Prompt:
    from geodistill.context.prompts import question, write_prompt

    if not args.llm:
        return write_prompt(place.setting, classes, args.kind)
    if not args.llm_model:
        raise RecipeError("--llm without --llm-model", "the model's name at that endpoint")
    from geodistill.context.llm import LlmWriter

    writer = LlmWriter(args.llm, args.llm_model, Path(args.answers))
    asked = [question(place.setting, name) for name in classes]
    if writer.pending(asked) and not args.yes:
        print(writer.cost(asked), file=sys.stderr)
        if not sys.stdin.isatty() or input("ask? [y/N] ").strip().lower() != "y":
            raise RecipeError("the language model was not asked", "--yes, or y at the question")
    try:
        return write_prompt(place.setting, classes, args.kind, writer, args.llm_model)
    except ServiceError as error:
        if not args.llm_fallback:
            raise
        print(f"geodistill: {error}; built-in knowledge is used", file=sys.stderr)
        return write_prompt(place.setting, classes, args.kind)


def _record(place: Place, prompt: Prompt, tokens: int, encoder: str) -> dict[str, Any]:
    return {
        "zone": place.zone.code,
        "climate": place.zone.name,
        "from": place.source,
        "km_from_land_cell": round(place.zone.distance, 1),
        "lon": place.lon,
        "lat": place.lat,
        "season": place.setting.season,
        "gsd": place.setting.gsd,
        "id": prompt.id,
        "tokens": tokens,
        "text_encoder": encoder,
        "classes": [{"name": p.name, "text": p.text, "source": p.source} for p in prompt.parts],
    }


def _told(place: Place, prompt: Prompt, tokens: int, encoder: str) -> str:
    at = "" if place.lon is None else f" at {place.lon:.4f}, {place.lat:.4f}"
    off = f", {place.zone.distance:.0f} km off its land" if place.zone.distance else ""
    lines = [f"zone    {place.zone.code} ({place.zone.name}), from {place.source}{at}{off}"]
    lines.append(f"season  {place.setting.season or 'not used (no date, or in the tropics)'}")
    if place.setting.gsd:
        lines.append(f"gsd     {place.setting.gsd:.3g} m")
    lines.append(f"prompt  {prompt.id}, {tokens} tokens of {encoder}")
    lines += [f"  [{part.source}] {part.text or '(no text)'}" for part in prompt.parts]
    return "\n".join(lines)
