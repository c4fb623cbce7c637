"""``geodistill data``: scan, check, stats, leakage, patches, submission; and ``geodistill datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from geodistill.cli import Verbs, run_verb
from geodistill.cli.arguments import MANIFEST, SHARES, VerbParser, options_of, parse, refuse_idle
from geodistill.cli.terminal import print_json, print_result
from geodistill.errors import DataError, RecipeError, UnknownNameError, check_name, counted

if TYPE_CHECKING:
    from argparse import Namespace

    from geodistill.data.scan import ScanReport


SET_FLAGS = ("--root", "--layout", "--official-split", "--partial")
"""Flags of `data scan` that concern benchmark sets alone."""

FOLDER_FLAGS = (
    "--images", "--masks", "--legend", "--unlabelled", "--include", "--split", "--fractions", "--group-regex",
    "--group-file", "--groups", "--block-size", "--block-unit", "--lists", "--val-from-train", "--seed",
    "--ignore-unknown",
)  # fmt: skip
"""Those that concern a user's own folders alone: a benchmark set says all this itself."""


def scan_parser() -> VerbParser:
    """Return the parser of ``data scan``."""
    from geodistill.data.splits import SplitKind, SplitPlan

    parser = VerbParser(
        "data scan",
        "Pair images with masks by name, divide them into train, val and test, and write a manifest.",
        "geodistill data scan town --legend legend.yaml --split group --group-regex 'Tile_\\d' \\\n"
        "      --groups 'val=Tile_4 test=Tile_7' --out town/manifest.parquet",
        typed=["images"],
    )
    add = parser.add_group("most used")
    masks = "masks/ beside images/ is found at any depth"
    add("--images", f"folders or files; {masks}", nargs="+", metavar="PLACE", otherwise="none, with --dataset")
    add("--masks", "folders or files of masks, where they are elsewhere", nargs="+", otherwise="beside the images")
    add("--legend", "YAML or JSON: classes with colours or mask values, and what to ignore", otherwise=_PROPOSED)
    add("--out", "the manifest to write", default="manifest.parquet")
    add("--split", "how images are divided", default=SplitPlan.kind, choices=get_args(SplitKind))
    add("--fractions", "shares of train, val and test", nargs=3, type=float, metavar=SHARES, default=[0.7, 0.15, 0.15])
    add("--group-regex", "names each image's group from its path, such as 'Tile_\\d'", otherwise="no groups")
    add("--groups", "groups by split, such as 'val=Tile_4 test=Tile_7'", otherwise="by --fractions")
    add("--dataset", "a benchmark set in its official layout ('geodistill datasets'), instead of images")
    add("--root", "folder or zip that the set lies in", otherwise="none, needed with --dataset")
    _add_input(parser)
    add = parser.add_group("output")
    add.switch("--no-statistics", "leave band statistics to 'data stats'")
    add.switch("--json", "print JSON")
    return parser


_PROPOSED = "proposed from the masks and written beside the manifest, to be edited"


def _add_input(parser: VerbParser) -> None:
    from geodistill.data.splits import BlockUnit, SplitPlan

    add = parser.add_group("input")
    add("--include", "pattern of image file names, such as '*-21.png'", default="*")
    add.switch("--unlabelled", "take images without mask too, for feature transfer")
    add.switch("--ignore-unknown", "take labels in no legend entry as ignored")
    add("--group-file", "lines image,group instead of a pattern")
    units = get_args(BlockUnit)
    needed = "none, needed with block and window"
    add("--block-size", "side of blocks or windows, see --block-unit", type=float, otherwise=needed)
    add("--block-unit", "unit of --block-size", default=SplitPlan.block_unit, choices=units)
    add("--lists", "folder of train.txt, val.txt and test.txt", otherwise="none, needed with --split lists")
    add("--val-from-train", "share of train that becomes val where none is named", type=float, default=0.0)
    add("--seed", "random seed of the split", type=int, default=0)
    add("--layout", "variant of a benchmark set's files, such as eroded", otherwise="the set's own")
    add("--official-split", "variant of a benchmark set's split, such as val-2_10", otherwise="the set's own")
    add.switch("--partial", "go on without files that a benchmark set lists and that are not there")


def scan(argv: Sequence[str]) -> None:
    """Write a manifest."""
    parser = scan_parser()
    args = parse(parser, argv)
    if args.dataset:
        refuse_idle(parser, args, FOLDER_FLAGS, "with --dataset")
    else:
        refuse_idle(parser, args, SET_FLAGS, "without --dataset")
    from geodistill.data.scan import format_scan, write_proposal

    report = _scan_set(args) if args.dataset else _scan_folders(args)
    proposal = write_proposal(report) if report.legend_inferred else ""
    print_result(args.json, report.to_dict(), "\n".join(filter(None, (format_scan(report), proposal))))
    if problems := report.manifest.problems:
        raise DataError(
            f"{counted(len(problems), 'problem')} written into {report.manifest.path}",
            "none",
            "'geodistill data check' names them; training refuses such a manifest",
        )


def _scan_set(args: Namespace) -> ScanReport:
    from geodistill.data.catalog.declarations import CATALOG
    from geodistill.data.catalog.find import scan_set

    check_name("dataset", args.dataset, CATALOG, "see 'geodistill datasets'")
    if not args.root:
        raise RecipeError("--dataset without --root", "--dataset NAME --root FOLDER")
    return scan_set(
        CATALOG[args.dataset],
        args.root,
        args.out,
        layout=args.layout,
        split=args.official_split,
        partial=args.partial,
        statistics=not args.no_statistics,
        progress=True,
    )


def _scan_folders(args: Namespace) -> ScanReport:
    from geodistill.data.scan import scan as scan_folders
    from geodistill.data.splits import SplitPlan, parse_groups

    if not args.images:
        raise RecipeError("data scan without --images", "--images FOLDER, or --dataset NAME --root FOLDER")
    read = {
        "kind": args.split,
        "fractions": tuple(args.fractions),
        "group_file": None if args.group_file is None else Path(args.group_file),
        "groups": parse_groups(args.groups or ""),
        "lists": None if args.lists is None else Path(args.lists),
    }
    plan = options_of(SplitPlan, args, read)
    return scan_folders(
        args.images,
        args.masks,
        args.out,
        legend=args.legend,
        unlabelled=args.unlabelled,
        include=args.include,
        split=plan,
        ignore_unknown=args.ignore_unknown,
        statistics=not args.no_statistics,
        progress=True,
    )


def check_parser() -> VerbParser:
    """Return the parser of ``data check``."""
    parser = VerbParser(
        "data check",
        "Read every file of a manifest and name what is wrong with it.",
        "geodistill data check town/manifest.parquet",
        typed=["manifest"],
    )
    parser.add_group("input")("--manifest", MANIFEST, required=True)
    add = parser.add_group("quality")
    add.switch("--expect-crs", "name images without a CRS even if all lack one")
    add = parser.add_group("output")
    add.switch("--all", "list every finding of a kind, not the first five")
    add.switch("--json", "print JSON")
    return parser


def check(argv: Sequence[str]) -> None:
    """Find broken files; status 2 where any is an error."""
    args = parse(check_parser(), argv)
    from geodistill.data.check import check as run_check
    from geodistill.data.findings import format_findings
    from geodistill.data.manifest import Manifest
    from geodistill.data.reader import refuse_moved

    manifest = Manifest.load(args.manifest)
    findings = run_check(manifest, expect_crs=args.expect_crs or None, progress=True)
    print_result(
        args.json,
        [finding.to_dict() for finding in findings],
        format_findings(findings, shown=len(findings) if args.all else 5),
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        refuse_moved(manifest)
        raise DataError(
            f"{counted(len(errors), 'error')} in {args.manifest}", "none", "mend the files named above and scan again"
        )


def stats_parser() -> VerbParser:
    """Return the parser of ``data stats``."""
    parser = VerbParser(
        "data stats",
        "Class balance, band mean and deviation, sizes and ground sampling distance; kept in the manifest.",
        "geodistill data stats town",
        typed=["manifest"],
    )
    parser.add_group("input")("--manifest", MANIFEST, required=True)
    parser.add_group("output").switch("--json", "print JSON")
    return parser


def stats(argv: Sequence[str]) -> None:
    """Measure a data set and store the figures in its manifest."""
    args = parse(stats_parser(), argv)
    from geodistill.data.manifest import Manifest
    from geodistill.data.measure import measure
    from geodistill.data.reader import refuse_moved
    from geodistill.data.statistics_text import format_statistics

    manifest = Manifest.load(args.manifest)
    refuse_moved(manifest)
    measured = measure(manifest, progress=True)
    manifest.with_statistics(measured).save(manifest.path or args.manifest)
    print_result(args.json, measured.to_dict(), format_statistics(measured, manifest))


def leakage_parser() -> VerbParser:
    """Return the parser of ``data leakage``."""
    parser = VerbParser(
        "data leakage",
        "Images of different splits that overlap on the ground or look alike: what makes test scores too good.",
        "geodistill data leakage manifest.parquet",
        typed=["manifest"],
    )
    parser.add_group("input")("--manifest", MANIFEST, required=True)
    add = parser.add_group("quality")
    add(
        "--distance",
        "images look alike where at most so many of the 64 bits of their fingerprints differ",
        type=int,
        default=4,
    )
    parser.add_group("output").switch("--json", "print JSON")
    return parser


def leakage(argv: Sequence[str]) -> None:
    """Find images of different splits that show the same ground."""
    args = parse(leakage_parser(), argv)
    from geodistill.data.leakage import find_leaks, format_leaks
    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(args.manifest)
    leaks = find_leaks(manifest, args.distance, progress=True)
    print_result(args.json, [leak.to_dict() for leak in leaks], format_leaks(leaks, manifest))


def patches_parser() -> VerbParser:
    """Return the parser of ``data patches``."""
    parser = VerbParser(
        "data patches",
        "Cut the scenes of a manifest into patches with masks, as the papers' scripts do; writes a manifest of them.",
        "geodistill data patches l8.parquet --size 512 --bands red green blue --stretch --out patches",
        typed=["manifest"],
    )
    add = parser.add_group("input")
    add("--manifest", MANIFEST, required=True)
    add("--bands", "names of the bands to keep", nargs="+", otherwise="all")
    add = parser.add_group("output")
    add("--out", "folder of the patches", required=True)
    add("--size", "side in pixels; what is left at the edges is dropped", type=int, default=512)
    add.switch("--stretch", "stretch each patch from its own range to 0..255")
    return parser


def patches(argv: Sequence[str]) -> None:
    """Cut scenes into patches."""
    args = parse(patches_parser(), argv)
    from geodistill.data.manifest import Manifest
    from geodistill.data.patches import cut_patches

    cut = cut_patches(Manifest.load(args.manifest), args.out, args.size, args.bands, stretch=args.stretch)
    print(f"{cut.path}: {counted(len(cut.entries), 'patch', 'patches')}")


def datasets_parser() -> VerbParser:
    """Return the parser of ``datasets``."""
    parser = VerbParser("datasets", "The benchmark sets, or all about one.", "geodistill datasets potsdam")
    parser.add_group("input")("name", "describe this set", nargs="?", otherwise="list all")
    parser.add_group("output").switch("--json", "print JSON")
    return parser


def datasets(argv: Sequence[str]) -> None:
    """List the benchmark sets, or describe one."""
    args = parse(datasets_parser(), argv)
    from geodistill.data.catalog.benchmark import as_dict, describe
    from geodistill.data.catalog.declarations import CATALOG

    if args.name is not None and args.name not in CATALOG:
        raise UnknownNameError("dataset", args.name, CATALOG, "'geodistill datasets' lists them")
    chosen = [CATALOG[args.name]] if args.name else list(CATALOG.values())
    if args.json:
        print_json([as_dict(benchmark) for benchmark in chosen])
    elif args.name:
        print(describe(chosen[0]))
    else:
        for benchmark in chosen:
            classes = "boxes" if benchmark.legend is None else f"{len(benchmark.legend)} classes"
            print(f"{benchmark.name:<18} {classes:<11} {benchmark.title}")


DATA_VERBS: Verbs = {
    "scan": ("folder of images and masks -> manifest", "geodistill.cli.data:scan"),
    "check": ("broken files, unknown labels, duplicates across splits", "geodistill.cli.data:check"),
    "stats": ("class balance, band statistics, sizes", "geodistill.cli.data:stats"),
    "leakage": ("images of different splits that show the same ground", "geodistill.cli.data:leakage"),
    "patches": ("scenes -> patches with masks, as the papers cut them", "geodistill.cli.data:patches"),
    "submission": ("maps of a hidden test -> the zip that its server takes", "geodistill.cli.submission:submission"),
}


def data(argv: Sequence[str]) -> None:
    """Scan, check or count a data set."""
    run_verb(DATA_VERBS, "geodistill data", argv)
