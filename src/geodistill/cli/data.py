"""``geodistill data``: scan, check, stats, leakage, patches; and ``geodistill datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geodistill.cli.shared import Verbs, parse, print_json, print_result, refuse_idle, run_verb, verb_parser
from geodistill.errors import DataError, RecipeError, UnknownNameError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.data.scan import ScanReport


SET_FLAGS = ("--root", "--layout", "--official-split", "--partial")
"""Flags of `data scan` that concern benchmark sets alone."""

FOLDER_FLAGS = (
    "--images", "--masks", "--legend", "--unlabelled", "--include", "--split", "--fractions", "--group-regex",
    "--group-file", "--groups", "--block-size", "--block-unit", "--lists", "--val-from-train", "--seed",
    "--ignore-unknown",
)  # fmt: skip
"""Those that concern a user's own folders alone: a benchmark set says all this itself."""


def _scan_parser() -> ArgumentParser:
    parser = verb_parser(
        "data scan",
        "Pair images with masks by name, divide them into train, val and test, and write a manifest.",
        "geodistill data scan --images town --legend legend.yaml --split group --group-regex 'Tile_\\d' \\\n"
        "      --groups 'val=Tile_4 test=Tile_7' --out town/manifest.parquet",
    )
    add = parser.add_argument
    add("--images", nargs="+", help="folders or files; masks/ beside images/ is found at any depth")
    add("--masks", nargs="+", help="folders or files of masks, where they are elsewhere")
    add("--out", default="manifest.parquet", help="the manifest to write")
    add("--dataset", help="a benchmark set in its official layout ('geodistill datasets'), instead of --images")
    add("--root", help="folder or zip that the set lies in")
    add("--layout", help="variant of a set's files, such as eroded")
    add("--official-split", help="variant of a set's split, such as val-2_10")
    add("--partial", action="store_true", help="go on without files that the set lists and that are not there")
    add("--legend", help="YAML or JSON: classes with colours or mask values, and what to ignore")
    add("--unlabelled", action="store_true", help="take images without mask too, for feature transfer")
    add("--include", default="*", help="pattern of image file names, such as '*-21.png'")
    add("--split", default="file", help="file, group, block, window or lists")
    add("--fractions", nargs=3, type=float, default=[0.7, 0.15, 0.15], help="shares of train, val and test")
    add("--group-regex", help="names each image's group from its path, such as 'Tile_\\d'")
    add("--group-file", help="lines image,group instead of a pattern")
    add("--groups", help="groups by split, such as 'val=Tile_4 test=Tile_7'")
    add("--block-size", type=float, help="side of blocks or windows, metres (or pixels, see --block-unit)")
    add("--block-unit", default="metres", help="metres or pixels")
    add("--lists", help="folder of train.txt, val.txt and test.txt")
    add("--val-from-train", type=float, default=0.0, help="share of train that becomes val where none is named")
    add("--seed", type=int, default=0, help="random seed of the split")
    add("--ignore-unknown", action="store_true", help="take labels in no legend entry as ignored")
    add("--no-statistics", action="store_true", help="leave band statistics to 'data stats'")
    add("--json", action="store_true", help="print JSON")
    return parser


def scan(argv: Sequence[str]) -> None:
    """Write a manifest."""
    parser = _scan_parser()
    args = parse(parser, argv)
    if args.dataset:
        refuse_idle(parser, args, FOLDER_FLAGS, "with --dataset")
    else:
        refuse_idle(parser, args, SET_FLAGS, "without --dataset")
    from geodistill.data.scan import format_scan

    report = _scan_set(args) if args.dataset else _scan_folders(args)
    print_result(args.json, report.to_dict(), format_scan(report))
    if problems := report.manifest.problems:
        raise DataError(
            f"{len(problems)} problems written into {report.manifest.path}",
            "none",
            "'geodistill data check' names them; training refuses such a manifest",
        )


def _scan_set(args: Namespace) -> ScanReport:
    from geodistill.data.catalog.declarations import CATALOG
    from geodistill.data.catalog.find import scan_set

    if args.dataset not in CATALOG:
        raise UnknownNameError("dataset", args.dataset, CATALOG, "see 'geodistill datasets'")
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
    plan = SplitPlan(
        kind=args.split,
        fractions=tuple(args.fractions),
        group_regex=args.group_regex,
        group_file=None if args.group_file is None else Path(args.group_file),
        groups=parse_groups(args.groups or ""),
        block_size=args.block_size,
        block_unit=args.block_unit,
        lists=None if args.lists is None else Path(args.lists),
        val_from_train=args.val_from_train,
        seed=args.seed,
    )
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


def check(argv: Sequence[str]) -> None:
    """Find broken files; status 2 where any is an error."""
    parser = verb_parser(
        "data check",
        "Read every file of a manifest and name what is wrong with it.",
        "geodistill data check --manifest town/manifest.parquet",
    )
    parser.add_argument("--manifest", required=True, help="written by 'geodistill data scan'")
    parser.add_argument("--expect-crs", action="store_true", help="name images without a CRS even if all lack one")
    parser.add_argument("--all", action="store_true", help="list every finding of a kind, not the first five")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.data.check import check as run_check
    from geodistill.data.check import format_findings
    from geodistill.data.manifest import Manifest

    findings = run_check(Manifest.load(args.manifest), expect_crs=args.expect_crs or None, progress=True)
    print_result(
        args.json,
        [finding.to_dict() for finding in findings],
        format_findings(findings, shown=len(findings) if args.all else 5),
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise DataError(f"{len(errors)} errors in {args.manifest}", "none", "mend the files named above and scan again")


def stats(argv: Sequence[str]) -> None:
    """Measure a data set and store the figures in its manifest."""
    parser = verb_parser(
        "data stats",
        "Class balance, band mean and deviation, sizes and ground sampling distance; kept in the manifest.",
        "geodistill data stats --manifest town/manifest.parquet",
    )
    parser.add_argument("--manifest", required=True, help="written by 'geodistill data scan'")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.data.manifest import Manifest
    from geodistill.data.measure import format_statistics, measure

    manifest = Manifest.load(args.manifest)
    measured = measure(manifest, progress=True)
    manifest.with_statistics(measured).save(args.manifest)
    print_result(args.json, measured.to_dict(), format_statistics(measured, manifest))


def leakage(argv: Sequence[str]) -> None:
    """Find images of different splits that show the same ground."""
    parser = verb_parser(
        "data leakage",
        "Images of different splits that overlap on the ground or look alike: what makes test scores too good.",
        "geodistill data leakage --manifest manifest.parquet",
    )
    parser.add_argument("--manifest", required=True, help="written by 'geodistill data scan'")
    parser.add_argument("--distance", type=int, default=4, help="bits of 64 in which fingerprints may differ")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.data.leakage import find_leaks, format_leaks
    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(args.manifest)
    leaks = find_leaks(manifest, args.distance, progress=True)
    print_result(args.json, [leak.to_dict() for leak in leaks], format_leaks(leaks, manifest))


def patches(argv: Sequence[str]) -> None:
    """Cut scenes into patches."""
    parser = verb_parser(
        "data patches",
        "Cut the scenes of a manifest into patches with masks, as the papers' scripts do; writes a manifest of them.",
        "geodistill data patches --manifest l8.parquet --size 512 --bands red green blue --stretch --out patches",
    )
    parser.add_argument("--manifest", required=True, help="written by 'geodistill data scan'")
    parser.add_argument("--size", type=int, default=512, help="side in pixels; what is left at the edges is dropped")
    parser.add_argument("--bands", nargs="+", help="names of the bands to keep, by default all")
    parser.add_argument("--stretch", action="store_true", help="each patch by its own range to 0..255")
    parser.add_argument("--out", required=True, help="folder of the patches")
    args = parse(parser, argv)
    from geodistill.data.manifest import Manifest
    from geodistill.data.patches import cut_patches

    cut = cut_patches(Manifest.load(args.manifest), args.out, args.size, args.bands, stretch=args.stretch)
    print(f"{cut.path}: {len(cut.entries)} patches")


def datasets(argv: Sequence[str]) -> None:
    """List the benchmark sets, or describe one."""
    parser = verb_parser("datasets", "The benchmark sets, or all about one.", "geodistill datasets potsdam")
    parser.add_argument("name", nargs="?", help="describe this set")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
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
}


def data(argv: Sequence[str]) -> None:
    """Scan, check or count a data set."""
    run_verb(DATA_VERBS, "geodistill data", argv)
