"""``geodistill label stats | export | preview``: what reads finished label sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from geodistill.cli.arguments import VerbParser, parse
from geodistill.cli.terminal import print_json, print_result
from geodistill.errors import counted
from geodistill.files import check_outputs


def stats_parser() -> VerbParser:
    """Return the parser of ``label stats``."""
    parser = VerbParser(
        "label stats",
        "Pixels and instances of each class, sizes of masks and instances per image (figures 5 and 6 of the SAMRS"
        " paper); of several sets also a comparison (the columns of its table 2).",
        "geodistill label stats town-labelled --out town-figures",
        typed=["set"],
    )
    add = parser.add_group("input")
    sets = "folders of 'label build' or of SAMRS, COCO json files with masks, or manifests"
    add("--set", sets, nargs="+", required=True)
    add.switch("--regions", "of manifests: count each connected region of a class as an instance")
    add = parser.add_group("output")
    add("--out", "directory for the CSV files and pictures", otherwise="nothing is written")
    add.switch("--json", "print JSON")
    return parser


def stats(argv: Sequence[str]) -> None:
    """Figures of one labelled set, or of several side by side."""
    args = parse(stats_parser(), argv)
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


def export_parser() -> VerbParser:
    """Return the parser of ``label export``."""
    from geodistill.label.export import FORMS

    parser = VerbParser(
        "label export",
        "A label set in the form that other programs train on: yolo-seg (ultralytics) or samrs (the lists and folders"
        " of SAMRS's code). Images are copied; the folder appears whole or not at all.",
        "geodistill label export town-labelled --to yolo-seg --out town-yolo",
        typed=["labels"],
    )
    parser.add_group("input")("--labels", "finished folder of 'label build'", required=True)
    add = parser.add_group("output")
    add("--to", "form", required=True, choices=FORMS)
    add("--out", "a new folder, or an earlier export", required=True)
    add.switch("--pickles", "with samrs: ins/*.pkl too, as its authors' code reads instances")
    add.switch("--json", "print JSON")
    return parser


def export(argv: Sequence[str]) -> None:
    """Write a label set in another form."""
    args = parse(export_parser(), argv)
    from geodistill.label.export import export_labels

    written = export_labels(args.labels, args.to, args.out, pickles=args.pickles, progress=True)
    if args.json:
        print_json(asdict(written))
        return
    splits = ", ".join(f"{split} {count}" for split, count in written.images.items())
    left_out = f"; {counted(written.left_out, 'image')} not in the manifest left out" if written.left_out else ""
    images = sum(written.images.values())
    print(f"{args.out}: {images} images copied ({splits}), {written.objects} objects{left_out}")


def preview_parser() -> VerbParser:
    """Return the parser of ``label preview``."""
    parser = VerbParser(
        "label preview",
        "Pictures of a label set to look at: boxes and prompts, masks in a colour for each object, classes; the most"
        " doubtful objects first. Writes contact.png and index.html, a page that needs no other file.",
        "geodistill label preview town-labelled --out town-preview",
        typed=["labels"],
    )
    add = parser.add_group("input")
    add("--labels", "finished folder of 'label build'", required=True)
    add("--count", "images at most: half the most doubtful, half at random", type=int, default=24)
    add("--seed", "random seed of the second half", type=int, default=0)
    add = parser.add_group("output")
    add.switch("--prompts", "draw the six basic prompts of each object instead of masks and classes")
    add("--out", "directory for contact.png and index.html", required=True)
    add.switch("--json", "print JSON")
    return parser


def preview(argv: Sequence[str]) -> None:
    """Draw a label set."""
    args = parse(preview_parser(), argv)
    from geodistill.label.preview import preview as draw

    summary = draw(args.labels, args.out, count=args.count, seed=args.seed, prompts=args.prompts, progress=True)
    message = (
        f"{args.out}: {summary['images']} images with {summary['objects']} objects, {summary['doubtful']} doubtful"
    )
    print_result(args.json, summary, message)
