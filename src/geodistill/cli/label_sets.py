"""``geodistill label stats | export | preview``: what reads a labelled set."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.cli.shared import parse, print_json, print_result, verb_parser
from geodistill.outputs import check_outputs


def stats(argv: Sequence[str]) -> None:
    """Figures of one labelled set, or of several side by side."""
    parser = verb_parser(
        "label stats",
        "Pixels and instances of each class, sizes of masks and instances per image (figures 5 and 6 of the SAMRS"
        " paper); of several sets also a comparison (the columns of its table 2).",
        "geodistill label stats --set town-labelled --out town-figures",
    )
    add = parser.add_argument
    add("--set", nargs="+", required=True, help="folders of 'label build' or of SAMRS, COCO json files, manifests")
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
    add("--pickles", action="store_true", help="with samrs: ins/*.pkl too, as its authors' code reads instances")
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.label.export import export_labels

    summary = export_labels(args.labels, args.to, args.out, pickles=args.pickles, progress=True)
    if args.json:
        print_json(summary)
        return
    splits = ", ".join(f"{split} {count}" for split, count in summary["images"].items())
    left_out = ""
    if summary["left_out"]:
        left_out = f"; {summary['left_out']} images with another number of bands are left out"
    images = sum(summary["images"].values())
    print(f"{args.out}: {images} images copied ({splits}), {summary['objects']} objects{left_out}")


def preview(argv: Sequence[str]) -> None:
    """Draw a label set."""
    parser = verb_parser(
        "label preview",
        "Pictures of a label set to look at: boxes and prompts, masks in a colour for each object, classes; the most"
        " doubtful objects first. Writes contact.png and index.html, a page that needs no other file.",
        "geodistill label preview --labels town-labelled --out town-preview",
    )
    add = parser.add_argument
    add("--labels", required=True, help="finished folder of 'label build'")
    add("--out", required=True, help="directory for contact.png and index.html")
    add("--count", type=int, default=24, help="images at most: half the most doubtful, half at random (24)")
    add("--seed", type=int, default=0, help="random seed of the second half")
    add("--json", action="store_true", help="print JSON")
    args = parse(parser, argv)
    from geodistill.label.preview import preview as draw

    summary = draw(args.labels, args.out, count=args.count, seed=args.seed, progress=True)
    message = (
        f"{args.out}: {summary['images']} images with {summary['objects']} objects, {summary['doubtful']} doubtful"
    )
    print_result(args.json, summary, message)
