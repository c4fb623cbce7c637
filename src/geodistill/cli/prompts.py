"""The verb ``prompts``: where scenes lie and what their classes look like there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.cli.arguments import VerbParser, parse, refuse_idle
from geodistill.cli.terminal import print_json
from geodistill.errors import RecipeError, ServiceError

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.text.climate import Zone
    from geodistill.text.places import Group, Place, Setting
    from geodistill.text.templates import ClassText, Prompt

_ALONE = ("input", "lonlat", "date", "gsd", "elevation")


def prompts(argv: Sequence[str]) -> None:
    """Print zone, season and prompt of scenes, or of all images of a manifest."""
    parser = prompts_parser()
    args = parse(parser, argv)
    if args.llm is None:
        refuse_idle(parser, args, ["--llm-model", "--answers", "--llm-fallback", "--yes"], "without --llm")
    if args.manifest is None:
        refuse_idle(parser, args, ["--seasons"], "without --manifest")
    if args.manifest:
        _of_manifest(args)
    else:
        _of_scenes(args)


def prompts_parser() -> VerbParser:
    """Return the parser of ``prompts``."""
    from geodistill.text.templates import KINDS

    parser = VerbParser(
        "prompts",
        "Zone, season and the text of each class for scenes: from their georeferencing, a manifest, a coordinate, a"
        " region or a zone; by built-in knowledge or a language model.",
        "geodistill prompts --lonlat 39.2 -6.1 --legend legend.yaml --gsd 0.1 --date 2018-07-01",
        typed=["input"],
    )
    add = parser.add_group("input")
    add("--input", "rasters that say where they lie", nargs="+", metavar="SCENE")
    add("--manifest", "every distinct prompt among the images of a manifest, as training asks for them")
    add("--legend", "legend file with the classes", otherwise="the manifest's")
    add("--classes", "class names, instead of a legend", nargs="+")
    add = parser.add_group("place")
    scenes = "what the scenes say"
    add("--lonlat", "longitude and latitude in degrees", type=float, nargs=2, metavar=("LON", "LAT"), otherwise=scenes)
    add("--zone", "a climate zone's code, such as Cfb", otherwise=scenes)
    region = "a place of a benchmark set, such as potsdam or aachen; file where files are named by it"
    add("--region", region, otherwise=scenes)
    add("--date", "day of acquisition, YYYY-MM-DD", otherwise=scenes)
    add("--gsd", "metres per pixel", type=float, otherwise=scenes)
    add("--elevation", "metres above the sea", type=float, otherwise="not used")
    add.switch("--seasons", "with --manifest: tell seasons apart, as text.seasons does")
    add = parser.add_group("quality")
    add("--kind", "kind of text", default="climate", choices=KINDS)
    add("--text-encoder", "counts the tokens: words, a hub id or a directory", default="words")
    add("--llm", "address of an OpenAI-compatible endpoint, such as http://localhost:11434/v1")
    add(
        "--llm-model",
        "name of the model there; its key comes from GEODISTILL_LLM_KEY",
        otherwise="none, needed with --llm",
    )
    add("--answers", "JSON file of the answers, to be read and edited", default="prompts.json")
    add.switch("--llm-fallback", "built-in knowledge where the endpoint fails")
    add.switch("--yes", "ask the model without showing the cost first")
    parser.add_group("output").switch("--json", "print JSON")
    return parser


@dataclass(frozen=True)
class _Scene:
    """A scene that was asked for: its file, where it lies, and the zones of its tiles by count."""

    file: str | None
    place: Place
    tiles: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; without file and tiles where there is no file."""
        place = self.place
        return {
            "zone": place.zone.code,
            "climate": place.zone.name,
            "from": place.source,
            "km_from_land_cell": round(place.zone.distance, 1),
            "lon": place.lon,
            "lat": place.lat,
            "season": place.setting.season,
            "gsd": place.setting.gsd,
        } | ({} if self.file is None else {"scene": self.file, "tiles": self.tiles})

    @property
    def origin(self) -> str:
        """What gave the place, with its coordinate and how far off the coast it lies."""
        place, distance = self.place, round(self.place.zone.distance, 1)
        at = "" if place.lon is None else f" at {place.lon:.4f}, {place.lat:.4f}"
        return f"from {place.source}{at}" + (f", {distance:.0f} km off its land" if distance else "")

    @property
    def zone_counts(self) -> str:
        """Tiles by zone, where they lie in several."""
        return _counts(self.tiles) if len(self.tiles) > 1 else ""

    def to_line(self) -> str:
        """Return the place on one line."""
        setting, zone = self.place.setting, self.place.zone
        parts = [f"{zone.code} ({zone.name})", setting.season, f"{setting.gsd:.3g} m" if setting.gsd else None]
        parts += [self.origin, f"tiles {self.zone_counts}" if self.zone_counts else None]
        return ", ".join(part for part in parts if part)

    def to_text(self) -> str:
        """Return the place on several lines."""
        setting = self.place.setting
        season = setting.season or "not used (no date, or in the tropics)"
        return _lines(self.place.zone, self.origin, season, setting.gsd, self.zone_counts)


@dataclass(frozen=True)
class _PromptRecord:
    """A prompt with its length in the tokens of a text encoder."""

    prompt: Prompt
    tokens: int
    encoder: str

    @property
    def too_long(self) -> bool:
        """Whether it has more tokens than a prompt may have."""
        from geodistill.text.features import MOST_TOKENS

        return self.tokens > MOST_TOKENS

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        parts = [
            {"name": part.name, "text": part.text, "source": part.source}
            | ({} if known is None else {"built_in": known.text})
            for part, known in self._beside()
        ]
        record = {"id": self.prompt.id, "tokens": self.tokens, "text_encoder": self.encoder, "classes": parts}
        return record | {"too_long": self.too_long}

    def to_text(self) -> str:
        """Return the prompt, one line per class."""
        from geodistill.text.features import MOST_TOKENS

        more = f", more than text.tokens {MOST_TOKENS}" if self.too_long else ""
        lines = [f"prompt  {self.prompt.id}, {self.tokens} tokens of {self.encoder}{more}"]
        for part, known in self._beside():
            lines.append(f"  [{part.source}] {part.text or '(no text)'}")
            lines += [] if known is None else [f"    beside [{known.source}] {known.text}"]
        return "\n".join(lines)

    def _beside(self) -> list[tuple[ClassText, ClassText | None]]:
        """Return each class's text, and beside a language model's answer what the package itself says."""
        from geodistill.text.templates import write_prompt

        shipped = write_prompt(self.prompt.setting, [part.name for part in self.prompt.parts], self.prompt.kind)
        built_in = {known.name: known for known in shipped.parts}
        answered = [part.source not in ("fixed", built_in[part.name].source) for part in self.prompt.parts]
        return [
            (part, built_in[part.name] if differs else None)
            for part, differs in zip(self.prompt.parts, answered, strict=True)
        ]


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
    written = _written(args, [group.setting for group in groups], classes)
    if args.json:
        print_json([_group_dict(group) | _json(prompt) for group, prompt in zip(groups, written, strict=True)])
        return
    print(f"{args.manifest}: {len(manifest.entries)} images, {len(groups)} settings")
    for group, prompt in zip(groups, written, strict=True):
        print(f"\n{_with_prompt(_group_text(group), prompt)}")


def _of_scenes(args: Namespace) -> None:
    from geodistill.text.places import find_place, group_places

    scenes = []
    for file in args.input or [None]:
        place = find_place(
            file,
            lonlat=tuple(args.lonlat) if args.lonlat else None,
            zone=args.zone,
            region=args.region,
            day=args.date,
            gsd=args.gsd,
            elevation=args.elevation,
        )
        scenes.append(_Scene(file, place, {} if file is None else _tiles(file, args)))
    classes = _classes(args)
    if len(scenes) == 1:
        (scene,), (prompt,) = scenes, _written(args, [scenes[0].place.setting], classes)
        if args.json:
            print_json(scene.to_dict() | _json(prompt))
        else:
            print(_with_prompt(scene.to_text(), prompt))
        return
    groups = group_places(scene.place for scene in scenes)
    settings = list(zip(groups, _written(args, [group.setting for group in groups], classes), strict=True))
    if args.json:
        written = [_group_dict(group) | _json(prompt) for group, prompt in settings] if classes else []
        print_json({"scenes": [scene.to_dict() for scene in scenes], "settings": written})
        return
    width = max(len(str(scene.file)) for scene in scenes)
    print("\n".join(f"{scene.file:<{width}}  {scene.to_line()}" for scene in scenes))
    if classes:
        print("".join(f"\n{_with_prompt(_group_text(group), prompt)}\n" for group, prompt in settings), end="")


def _tiles(scene: str, args: Namespace) -> dict[str, int]:
    """Count the tiles of a georeferenced raster by zone."""
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


def _written(args: Namespace, settings: Sequence[Setting], classes: list[str]) -> list[_PromptRecord | None]:
    """Write the prompt of each setting; none without classes."""
    if not classes:
        idle = ["--kind", "--text-encoder", "--llm", "--llm-model", "--answers", "--llm-fallback", "--yes"]
        refuse_idle(prompts_parser(), args, idle, "without classes (--legend or --classes)")
        return [None for _ in settings]
    from geodistill.text.features import token_count
    from geodistill.text.text_encoders import open_text_encoder

    encoder = open_text_encoder(args.text_encoder)
    prompts = _write(args, settings, classes)
    return [_PromptRecord(prompt, token_count(encoder, prompt), args.text_encoder) for prompt in prompts]


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
    prompts, failed = [], False
    for setting in settings:
        # An endpoint that is down is not waited for again, but what it answered before is used.
        if not (failed and writer.pending(questions(setting, classes, args.kind))):
            try:
                prompts.append(write_prompt(setting, classes, args.kind, writer, args.llm_model))
                continue
            except ServiceError as error:
                if not args.llm_fallback:
                    raise
                failed = True
                print(f"geodistill: {error}; built-in knowledge is used", file=sys.stderr)
        prompts.append(write_prompt(setting, classes, args.kind))
    return prompts


def _group_dict(group: Group) -> dict[str, Any]:
    """Return the JSON form of images that share a prompt."""
    return {
        "zone": group.setting.zone,
        "climate": group.places[0].zone.name,
        "season": group.setting.season,
        "gsd": group.setting.gsd,
        "images": len(group.places),
        "from": group.sources,
        "seasons": group.seasons,
    }


def _group_text(group: Group) -> str:
    """Return what images that share a prompt have in common, on several lines."""
    season = group.setting.season or "not used (no dates, or in the tropics)"
    if not group.setting.season and group.seasons:
        season = f"not told apart: {_counts(group.seasons)}"
    origin = f"{len(group.places)} images: {_counts(group.sources)}"
    return _lines(group.places[0].zone, origin, season, group.setting.gsd)


def _lines(zone: Zone, origin: str, season: str, gsd: float | None, tiles: str = "") -> str:
    """Write a setting, one line for each thing known of it."""
    lines = [f"zone    {zone.code} ({zone.name}), {origin}"]
    lines += [f"tiles   {tiles}"] if tiles else []
    lines.append(f"season  {season}")
    lines += [f"gsd     {gsd:.3g} m"] if gsd else []
    return "\n".join(lines)


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in numbers.items())


def _json(prompt: _PromptRecord | None) -> dict[str, Any]:
    return {} if prompt is None else prompt.to_dict()


def _with_prompt(text: str, prompt: _PromptRecord | None) -> str:
    return text if prompt is None else f"{text}\n{prompt.to_text()}"
