"""``geodistill label``: build, stats, export, ablate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.cli.shared import Verbs, parse, print_json, refuse_idle, run_verb, verb_parser
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.lazy import load
from geodistill.outputs import check_outputs

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.label.config import LabelSettings
    from geodistill.label.labelling import WorkerOptions
    from geodistill.label.postprocess import Rules


SETTINGS = ("format", "category_field", "segmenter", "prompt", "tile", "overlap", "share", "order", "background")
"""Flags that override a preset and the defaults of `geodistill.label.config.LabelSettings`."""


def _add_input(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--images", required=True, help="folder of the images")
    add("--boxes", required=True, help="file or folder of the annotations")
    add("--format", help="dota, voc, fair1m, hrsc, coco, yolo or geojson")
    add("--category-field", help="column of the class (geojson), or its tag (hrsc)")
    add("--segmenter", help="grabcut, box, or sam:DIR, sam2:DIR, sam3:DIR, edgetam:DIR (hub id or directory)")
    add("--tile", type=int, help="cut images into tiles of this side in pixels")
    add("--overlap", type=int, help="pixels that neighbouring tiles share")
    add("--share", type=float, help="least share of a box inside a tile for it to belong there (0.7)")
    add("--bands", type=int, nargs="+", help="one or three bands, from 1, that the segmenter sees (1 2 3)")


def _add_rules(parser: ArgumentParser, default: str, scores: str) -> None:
    add = parser.add_argument
    add("--keep-component", help=f"keep the piece of a mask that holds the prompt, yes or no ({default})")
    add("--fill-holes", help=f"fill what a mask encloses, yes or no ({default})")
    add("--max-outside", help="drop masks of which more than this share lies outside the box, or none")
    add("--min-score", help=f"take the filled oriented box below this score of the segmenter, or none ({scores})")


def _add_work(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--engine", default="local", help="local or ray")
    add("--workers", type=int, default=1, help="processes on this machine, or items at once on the cluster")
    add("--address", help="Ray cluster to join; by default one is started here")
    add("--gpus", type=float, default=0.0, help="GPUs that Ray sets aside for each worker")
    add("--device", default="auto", help="where the segmenter runs: auto, cpu, cuda ...")
    add("--json", action="store_true", help="print JSON")


def _work(parser: ArgumentParser, args: Namespace, batch: int | None = None) -> WorkerOptions:
    from geodistill.label.labelling import WorkerOptions

    if args.engine == "local":
        refuse_idle(parser, args, ["--address", "--gpus"], "without --engine ray")
    return WorkerOptions(args.engine, args.workers, args.address, args.device, batch, args.gpus)


def _rules(args: Namespace, default: Rules) -> Rules:
    from geodistill.label.postprocess import Rules

    return Rules(
        keep_component=_switch("--keep-component", args.keep_component, default.keep_component),
        fill_holes=_switch("--fill-holes", args.fill_holes, default.fill_holes),
        max_outside=_share("--max-outside", args.max_outside, default.max_outside),
        min_score=_share("--min-score", args.min_score, default.min_score),
    )


def _switch(flag: str, text: str | bool | None, default: bool) -> bool:
    if text is None:
        return default
    values = {"yes": True, "no": False, "true": True, "false": False}
    if str(text).lower() not in values:
        raise RecipeError(f"{flag} {text}", "yes or no")
    return values[str(text).lower()]


def _share(flag: str, text: str | None, default: float | None) -> float | None:
    if text is None:
        return default
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise RecipeError(f"{flag} {text}", "a share from 0 to 1, or none") from error


def build_parser() -> ArgumentParser:
    """Return the parser of ``label build``."""
    parser = verb_parser(
        "label build",
        "Masks for every box of a detection data set, with COCO instances, a manifest for 'fit' and label.json, which"
        " accounts for every image and box. A killed run is continued with --resume.",
        "geodistill label build --images town/images --boxes town/boxes.json --format coco --out town-labelled",
    )
    _add_input(parser)
    add = parser.add_argument
    add("--out", required=True, help="a new folder, or with --resume that of an earlier run")
    add("--preset", help="sota, sior or fast: the settings of the SAMRS paper's sets; other flags override it")
    add("--prompt", help="auto, or cp, hbox, rhbox, hbox-mask, rbox-mask, rhbox-mask joined by + (auto)")
    add("--classes", nargs="+", help="classes in the order of their indices; boxes of others are dropped and counted")
    add("--legend", help="YAML or JSON file of classes and colours, instead of --classes")
    add("--background", help="name of a class 0 for everything that no box touches; else that stays unlabelled")
    add("--empty", default="drop", help="keep or drop tiles without any label")
    add("--difficult", default="keep", help="keep or drop boxes marked as difficult")
    add("--order", help="what lies on top: large-first (small objects survive) or annotation (later ones)")
    _add_rules(parser, "yes", "0.75 for grabcut, else none")
    add("--fractions", nargs=3, type=float, default=[0.7, 0.15, 0.15], help="shares of train, val and test")
    add("--group-regex", help="names the group of an image from its key; a group stays in one split")
    add("--seed", type=int, default=0, help="random seed of the split")
    add("--batch-size", type=int, help="tiles that go through the segmenter's encoder at once (8 on a GPU, else 1)")
    add("--resume", action="store_true", help="continue a run that was stopped")
    add("--keep-going", action="store_true", help="end with status 0 although some images do not decode")
    _add_work(parser)
    return parser


def build(argv: Sequence[str]) -> None:
    """Label a detection data set."""
    parser = build_parser()
    args = parse(parser, argv)
    from geodistill.label.labelling import build as run_build
    from geodistill.label.labelling import format_account

    account = run_build(
        settings_of(args),
        args.out,
        work=_work(parser, args, args.batch_size),
        resume=args.resume,
        keep_going=args.keep_going,
        progress=True,
    )
    if args.json:
        print_json(account)
    else:
        print(format_account(account, Path(args.out)))


def settings_of(args: Namespace) -> LabelSettings:
    """Return the settings: flags override the preset, which overrides the defaults.

    Raises:
        RecipeError: No format is given, or a flag has a value of another form.
        UnknownNameError: There is no such preset or choice.
    """
    from geodistill.label.config import LabelSettings
    from geodistill.label.postprocess import default_rules

    preset = None
    if args.preset is not None:
        from geodistill.label.presets import PRESETS

        if args.preset not in PRESETS:
            raise UnknownNameError("preset", args.preset, PRESETS)
        preset = PRESETS[args.preset]
    given: dict[str, Any] = {}
    if preset is not None:
        names = ("format", "segmenter", "prompt", "classes", "colours", "tile", "overlap", "share", "order")
        given = {name: getattr(preset, name) for name in names}
    given |= {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if "format" not in given:
        raise RecipeError("label build without --format", "--format or --preset")
    if args.difficult not in ("keep", "drop"):
        raise UnknownNameError("choice of --difficult", args.difficult, ("keep", "drop"))
    return LabelSettings(
        images=Path(args.images),
        boxes=Path(args.boxes),
        **given | _classes(args),
        empty=args.empty,
        keep_difficult=args.difficult == "keep",
        rules=_rules(args, preset.rules if preset else default_rules(given.get("segmenter", "grabcut"))),
        bands=tuple(args.bands) if args.bands else None,
        fractions=tuple(args.fractions),
        group_regex=args.group_regex,
        seed=args.seed,
    )


def _classes(args: Namespace) -> dict[str, Any]:
    if args.legend and args.classes:
        raise RecipeError("both --legend and --classes", "one of them")
    if args.legend:
        from geodistill.spec import Legend

        legend = Legend.load(args.legend)
        return {"classes": legend.names, "colours": legend.colours}
    return {"classes": tuple(args.classes), "colours": None} if args.classes else {}


def ablate(argv: Sequence[str]) -> None:
    """Compare prompts against true masks."""
    parser = verb_parser(
        "label ablate",
        "How good the masks of each prompt are against true instance masks: the SAMRS paper's table 1 for any set with"
        " COCO segmentations, HRSC2016's LandMask, or pictures with one colour per instance.",
        "geodistill label ablate --images town/images --boxes town/boxes.json --format coco --out town-prompts",
    )
    _add_input(parser)
    add = parser.add_argument
    add("--out", help="directory for ablation.json and ablation.csv")
    add("--prompts", nargs="+", help="combinations such as hbox cp+hbox; all fifteen by default")
    add("--instances", help="folder of instance pictures, where the annotations hold no masks (iSAID)")
    _add_rules(parser, "no", "none")
    add("--keep-going", action="store_true", help="end with status 0 although some images do not decode")
    _add_work(parser)
    args = parse(parser, argv)
    from geodistill.label.ablation import PromptAblation, ablation_files, format_ablation, write_ablation
    from geodistill.label.ablation import ablate as run_ablate
    from geodistill.label.postprocess import NO_RULES
    from geodistill.label.segmenters.promptable import COMBINATIONS, parse_prompt

    if not args.format:
        raise RecipeError("label ablate without --format", "--format NAME")
    given = {name: getattr(args, name) for name in ("segmenter", "tile", "overlap", "share")}
    question = PromptAblation(
        **{name: value for name, value in given.items() if value is not None},
        prompts=tuple(parse_prompt(text) for text in args.prompts) if args.prompts else COMBINATIONS,
        rules=_rules(args, NO_RULES),
        bands=tuple(args.bands) if args.bands else None,
        instances=Path(args.instances) if args.instances else None,
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
        work=_work(parser, args),
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


def stats(argv: Sequence[str]) -> None:
    """Figures of one labelled set, or of several side by side."""
    parser = verb_parser(
        "label stats",
        "Pixels and instances of each class, sizes of masks and instances per image (figures 5 and 6 of the SAMRS"
        " paper); of several sets also a comparison (the columns of its table 2).",
        "geodistill label stats --set town-labelled --out town-figures",
    )
    add = parser.add_argument
    add("--set", nargs="+", required=True, help="folders of 'label build', COCO json files with masks, or manifests")
    add("--out", help="directory for the CSV files and pictures")
    add("--regions", action="store_true", help="of manifests: count each connected region of a class as an instance")
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.label.stats import set_files, set_name
    from geodistill.label.stats import stats as run_stats
    from geodistill.label.tables import format_comparison, format_statistics, statistics_files, write_statistics

    if args.out:
        read = [file for place in args.set for file in set_files(place)]
        check_outputs(statistics_files([set_name(place) for place in args.set], args.out), read)
    sets = [run_stats(place, regions=args.regions, progress=True) for place in args.set]
    if args.out:
        write_statistics(sets, args.out)
    if args.json:
        print_json([one.to_dict() for one in sets])
    else:
        print("\n\n".join(format_statistics(one) for one in sets))
        if len(sets) > 1:
            print(f"\n{format_comparison(sets)}")


def export(argv: Sequence[str]) -> None:
    """Write a label set in another form."""
    parser = verb_parser(
        "label export",
        "A label set in the form that other programs train on: yolo-seg (ultralytics) or samrs (the lists and folders"
        " of SAMRS's code). Images are copied; the folder appears whole or not at all.",
        "geodistill label export --labels town-labelled --to yolo-seg --out town-yolo",
    )
    add = parser.add_argument
    add("--labels", required=True, help="finished folder of 'label build'")
    add("--to", required=True, help="yolo-seg or samrs")
    add("--out", required=True, help="a new folder, or an earlier export")
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.label.export import export_labels

    summary = export_labels(args.labels, args.to, args.out, progress=True)
    if args.json:
        print_json(summary)
        return
    splits = ", ".join(f"{split} {count}" for split, count in summary["images"].items())
    left_out = ""
    if summary["left_out"]:
        left_out = f"; {summary['left_out']} images with another number of bands are left out"
    images = sum(summary["images"].values())
    print(f"{args.out}: {images} images copied ({splits}), {summary['objects']} objects{left_out}")


LABEL_VERBS: Verbs = {
    "build": ("boxes -> masks, instances and a manifest; says what became of every box", "geodistill.cli.label:build"),
    "stats": (
        "pixels, instances and mask sizes of labelled sets, as table, CSV and pictures",
        "geodistill.cli.label:stats",
    ),
    "export": ("a label set as YOLO segmentation or in SAMRS's form", "geodistill.cli.label:export"),
    "ablate": ("prompts compared against true masks", "geodistill.cli.label:ablate"),
}


def label(argv: Sequence[str]) -> None:
    """Label a detection data set, count what it holds, or compare prompts."""
    run_verb(LABEL_VERBS, "geodistill label", argv)
