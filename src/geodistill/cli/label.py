"""``geodistill label``: build and ablate; what reads finished sets is in `geodistill.cli.label_sets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from geodistill.cli import Verbs, run_verb
from geodistill.cli.arguments import DEVICE, SHARES, OptionGroup, VerbParser, add_machines, machines_of, parse
from geodistill.cli.terminal import print_json
from geodistill.errors import DataError, RecipeError
from geodistill.files import check_outputs, check_suffix
from geodistill.lazy import load

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.label.config import LabelSettings


SETTINGS = ("format", "category_field", "segmenter", "prompt", "tile", "overlap", "share", "order", "background",
            "empty", "split")  # fmt: skip
"""Flags that override a preset and the defaults of `geodistill.label.config.LabelSettings`."""


def _add_input(add: OptionGroup) -> None:
    from geodistill.label.formats.detection import FORMATS

    add("--images", "folder of the images", required=True, metavar="IMAGES")
    add("--boxes", "file or folder of the annotations", required=True, metavar="BOXES")
    add("--format", "format of the annotations", choices=FORMATS, otherwise="the preset's; else required")
    add("--segmenter", "grabcut, box, or sam:DIR, sam2:DIR, sam3:DIR, edgetam:DIR (hub id or directory)",
        otherwise="grabcut, or the preset's")  # fmt: skip


def _add_view(parser: VerbParser) -> OptionGroup:
    add = parser.add_group("input")
    add("--category-field", "column of the class (geojson), or its tag (hrsc)", otherwise="found by its usual names")
    add("--tile", "cut images into tiles of this side in pixels", type=int, otherwise="whole images, or the preset's")
    add("--overlap", "pixels that neighbouring tiles share", type=int, otherwise="0, or the preset's")
    share = "least share of a box inside a tile for it to belong there"
    add("--share", share, type=float, otherwise="0.7, or the preset's")
    bands = "one or three bands, from 1, that the segmenter sees"
    add("--bands", bands, type=int, nargs="+", otherwise="the first three")
    return add


def _add_rules(parser: VerbParser, on: str, outside: str, scores: str) -> OptionGroup:
    add = parser.add_group("quality")
    add.switch("--keep-component", "keep only the piece of a mask that holds the prompt", default=None, otherwise=on)
    add.switch("--fill-holes", "fill what a mask encloses", default=None, otherwise=on)
    outside_help = "drop masks of which more than this share lies outside the box, or none"
    add("--max-outside", outside_help, metavar="SHARE", otherwise=outside)
    score = "take the filled box or outline below this score of the segmenter, or none"
    add("--min-score", score, metavar="SCORE", otherwise=scores)
    return add


def _add_machines(parser: VerbParser) -> None:
    workers = "processes on this machine, or items at once on the cluster"
    add_machines(parser)("--workers", workers, type=int, default=1)


def _rules(args: Namespace) -> dict[str, Any]:
    """Return the fields of `Rules` that flags give."""
    flags = {name: getattr(args, name) for name in ("keep_component", "fill_holes", "max_outside", "min_score")}
    given = {name: value for name, value in flags.items() if value is not None}
    return {name: _share(name, value) if isinstance(value, str) else value for name, value in given.items()}


def _share(name: str, text: str) -> float | None:
    try:
        return None if text.lower() == "none" else float(text)
    except ValueError as error:
        flag = name.replace("_", "-")
        raise RecipeError(f"--{flag} {text}", "a share from 0 to 1, or none") from error


def build_parser() -> VerbParser:
    """Return the parser of ``label build``."""
    from geodistill.label.config import PRESET_NAMES, Empty

    parser = VerbParser(
        "label build",
        "Masks for every box of a detection data set, with COCO instances, a manifest for 'fit' and label.json, which"
        " accounts for every image and box. A killed run is continued with --resume.",
        "geodistill label build town/images town/boxes.json --format coco --background ground --out labelled",
        typed=["images", "boxes"],
    )
    add = parser.add_group("most used")
    _add_input(add)
    add("--out", "a new folder, or with --resume that of an earlier run", required=True)
    add("--classes", "classes in the order of their indices; boxes of others are dropped and counted", nargs="+",
        otherwise="those found")  # fmt: skip
    presets = "the settings of the SAMRS paper's sets; other flags override it"
    add("--preset", presets, choices=PRESET_NAMES)
    prompt = "auto, or cp, hbox, rhbox, hbox-mask, rbox-mask, rhbox-mask joined by +"
    add("--prompt", prompt, otherwise="auto, or the preset's")
    add("--device", DEVICE, default="auto")
    add.switch("--resume", "continue a run that was stopped")
    add = _add_view(parser)
    keep_or_drop = get_args(Empty)
    add("--difficult", "boxes marked as difficult", default="keep", choices=keep_or_drop)
    _add_output(parser, keep_or_drop)
    _add_rules(parser, "on, or the preset's", "0.5, or the preset's", "0.75 for grabcut, else none")
    add = parser.add_group("speed")
    add(
        "--batch-size",
        "tiles that go through the segmenter's encoder at once",
        type=int,
        otherwise="8 on a GPU, else 1",
    )
    _add_machines(parser)
    return parser


def _add_output(parser: VerbParser, keep_or_drop: Sequence[str]) -> None:
    from geodistill.label.config import Division, LabelSettings
    from geodistill.label.postprocess import Order

    add = parser.add_group("output")
    add("--legend", "YAML or JSON file of classes and colours, instead of --classes")
    add("--background", "name of a class 0 for everything that no box touches", otherwise="that stays unlabelled")
    empty = "tiles without any label"
    add("--empty", empty, choices=keep_or_drop, otherwise="keep with --background, else drop")
    order = "which mask lies on top; large-first: the smaller one; annotation: the later one of the file"
    add("--order", order, choices=get_args(Order), otherwise="large-first, or the preset's")
    shares = " ".join(map(str, LabelSettings.fractions))
    add(
        "--fractions",
        "shares of train, val and test",
        nargs=3,
        type=float,
        metavar=SHARES,
        otherwise=f"{shares}, or the preset's",
    )
    splits = "how images are divided; source keeps the folders train, val and test of the source"
    add("--split", splits, choices=get_args(Division), otherwise="random, or the preset's")
    lists = "folder of train.txt, val.txt and test.txt that name source images, in place of --fractions"
    add("--lists", lists, otherwise="none")
    add("--group-regex", "names the group of an image from its key; a group stays in one split", otherwise="no groups")
    add("--seed", "random seed of the split", type=int, default=LabelSettings.seed)
    add("--report", "also write a page about the labels, .html, to this file")
    add.switch("--keep-going", "end with status 0 although some images do not decode")
    add.switch("--json", "print JSON")


def build(argv: Sequence[str]) -> None:
    """Label a detection data set."""
    parser = build_parser()
    args = parse(parser, argv)
    from geodistill.label.accounts import format_account
    from geodistill.label.build_labels import WorkerOptions
    from geodistill.label.build_labels import build as run_build

    if args.report:
        check_suffix(args.report, load("geodistill.report.page:PAGES"))
        check_outputs([args.report], [args.images, args.boxes])
    account = run_build(
        settings_of(args),
        args.out,
        work=machines_of(WorkerOptions, parser, args, {"batch": args.batch_size}),
        resume=args.resume,
        keep_going=args.keep_going,
        progress=True,
    )
    if args.report:
        load("geodistill.report.write:write_report")(args.out, args.report)
    if args.json:
        print_json(account)
    else:
        print(format_account(account, Path(args.out)))


def settings_of(args: Namespace) -> LabelSettings:
    """Return the settings that flags give.

    Raises:
        RecipeError: No format is given, or a flag has a value of another form.
        UnknownNameError: There is no such choice.
    """
    from geodistill.label.config import chosen_settings

    given: dict[str, Any] = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.format is None and args.preset is None:
        raise RecipeError("label build without --format", "--format or --preset")
    if args.legend and args.classes:
        raise RecipeError("both --legend and --classes", "one of them")
    if args.lists is not None and args.fractions is not None:
        raise RecipeError("--fractions beside --lists", "one of them")
    given |= {name: tuple(getattr(args, name)) for name in ("fractions", "classes", "bands") if getattr(args, name)}
    given |= {
        name: Path(getattr(args, name)) for name in ("images", "boxes", "lists") if getattr(args, name) is not None
    }
    given |= {"keep_difficult": args.difficult == "keep", "group_regex": args.group_regex, "seed": args.seed}
    return chosen_settings(given, preset=args.preset, legend=args.legend, rules=_rules(args))


def ablate_parser() -> VerbParser:
    """Return the parser of ``label ablate``."""
    parser = VerbParser(
        "label ablate",
        "How good the masks of each prompt are against true instance masks: the SAMRS paper's table 1 for any set with"
        " COCO segmentations, HRSC2016's LandMask, or pictures with one colour per instance.",
        "geodistill label ablate town/images town/boxes.json --format coco --out town-prompts",
        typed=["images", "boxes"],
    )
    add = parser.add_group("most used")
    _add_input(add)
    add("--prompts", "combinations such as hbox cp+hbox", nargs="+", otherwise="all fifteen")
    counts = "how objects are counted; released is what SAMRS's own code does"
    add("--as", counts, default="ours", choices=("ours", "released"))
    add("--instances", "folder of instance pictures, where the annotations hold no masks (iSAID)")
    add("--out", "directory for ablation.json and ablation.csv", otherwise="nothing is written")
    add("--device", DEVICE, default="auto")
    _add_view(parser)
    add = parser.add_group("output")
    add.switch("--keep-going", "end with status 0 although some images do not decode")
    add.switch("--json", "print JSON")
    _add_rules(parser, "off", "none", "none")
    _add_machines(parser)
    return parser


def ablate(argv: Sequence[str]) -> None:
    """Compare prompts against true masks."""
    parser = ablate_parser()
    args = parse(parser, argv)
    from geodistill.label.ablation import PromptAblation, ablation_files, format_ablation, write_ablation
    from geodistill.label.ablation import ablate as run_ablate
    from geodistill.label.build_labels import WorkerOptions
    from geodistill.label.postprocess import NO_RULES
    from geodistill.label.segmenters.promptable import COMBINATIONS, parse_prompt

    if not args.format:
        raise RecipeError("label ablate without --format", "--format NAME")
    given = {name: getattr(args, name) for name in ("segmenter", "tile", "overlap", "share")}
    question = PromptAblation(
        **{name: value for name, value in given.items() if value is not None},
        prompts=tuple(parse_prompt(text) for text in args.prompts) if args.prompts else COMBINATIONS,
        rules=replace(NO_RULES, **_rules(args)),
        bands=tuple(args.bands) if args.bands else None,
        instances=Path(args.instances) if args.instances else None,
        released=getattr(args, "as") == "released",
        device=args.device,
    )
    if args.out:
        places = [args.boxes, args.images, *([args.instances] if args.instances else [])]
        check_outputs(ablation_files(Path(args.out)), places)
    ablation = run_ablate(
        args.format,
        Path(args.boxes),
        Path(args.images),
        question,
        category_field=args.category_field,
        work=machines_of(WorkerOptions, parser, args),
        progress=True,
    )
    if args.out:
        write_ablation(Path(args.out), ablation)
    if args.json:
        print_json(ablation.to_dict())
    else:
        published = load("geodistill.papers.registry:prompt_figures")() if ablation.format == "hrsc" else None
        print(format_ablation(ablation, published))
    if ablation.failures and not args.keep_going:
        raise DataError(f"{len(ablation.failures)} images could not be compared ({ablation.failures[0]})")


LABEL_VERBS: Verbs = {
    "build": ("boxes -> masks, instances and a manifest; says what became of every box", "geodistill.cli.label:build"),
    "preview": (
        "a label set as a contact sheet and a page, doubtful objects first",
        "geodistill.cli.label_sets:preview",
    ),
    "stats": (
        "pixels, instances and mask sizes of labelled sets, as table, CSV and pictures",
        "geodistill.cli.label_sets:stats",
    ),
    "export": ("a label set as YOLO segmentation or in SAMRS's form", "geodistill.cli.label_sets:export"),
    "next": ("which tiles to label next: unsure, unlike the others, weak classes", "geodistill.cli.review:next_tiles"),
    "ablate": ("prompts compared against true masks", "geodistill.cli.label:ablate"),
}


def label(argv: Sequence[str]) -> None:
    """Label a detection data set, count what it holds, or compare prompts."""
    run_verb(LABEL_VERBS, "geodistill label", argv)
