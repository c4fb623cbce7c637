"""The sections of a label set: what became of every box, how masks were mended, and which are in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodistill.data.manifest import Manifest
from geodistill.errors import counted
from geodistill.label.output_folder import ACCOUNT, MANIFEST
from geodistill.report.balance import balance_section
from geodistill.report.charts import drawing, interval_bar, text_at
from geodistill.report.evaluated import guarded
from geodistill.report.gallery import GalleryImage, gallery
from geodistill.report.labelled import Doubt, LabelledBoxes, read_labels
from geodistill.report.markup import Attributes, Html, element, join
from geodistill.report.page import Page, Section, class_colour, swatch, titled_table, wide
from geodistill.report.review_section import review_section, review_sentences

LAYERS = (("image", "Image"), ("mask", "Mask"), ("box", "Box"))


def label_sentences(labels: LabelledBoxes) -> list[str]:
    """Say what went in and what came out."""
    account, settings = labels.account, labels.account["settings"]
    images, boxes = account["images"], account["boxes"]
    lines = [
        f"{counted(boxes['in'], 'box', 'boxes')} in {counted(images['in'], 'image')} went in; {settings['segmenter']}"
        f" (prompt {settings['prompt']}) made {counted(account['instances'], 'mask')} of {boxes['labelled']:,} of them."
    ]
    dropped = {reason: count for reason, count in boxes["dropped"].items() if count}
    if dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
        lines.append(f"{counted(sum(dropped.values()), 'box', 'boxes')} gave no label: {reasons}.")
    else:
        lines.append("Every box gave a label.")
    lines.append(
        f"Images: {images['labelled']:,} labelled, {images['empty']:,} without a label, {images['failed']:,} failed."
    )
    overlaps = account["overlaps"]
    if overlaps["pixels"]:
        between, hidden = overlaps["pixels_between_classes"], overlaps["hidden_instances"]
        lines.append(
            f"{overlaps['pixels']:,} pixels are claimed by several masks, {between:,} by different classes;"
            f" {hidden:,} masks vanish under others."
        )
    return lines + review_sentences(account.get("review"))


def label_page(folder: Path, title: str | None) -> Page:
    """Return the page about a folder that ``label build`` wrote.

    Raises:
        DataError: It was altered.
    """
    labels = read_labels(folder)
    with guarded(folder / ACCOUNT):
        sections = [boxes_section(labels), review_section(labels), doubt_section(labels)]
        sentences = label_sentences(labels)
    manifest = Manifest.load(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    keys = [("boxes", f"{labels.account['boxes']['in']:,}"), ("masks", f"{labels.account['instances']:,}")]
    sections.append(None if manifest is None else balance_section(manifest, labels.legend))
    shown = [section for section in sections if section is not None]
    return Page(title or folder.resolve().name, sentences, keys, shown, labels.legend)


def boxes_section(labels: LabelledBoxes) -> Section:
    """Return the section that accounts for every box, by class."""
    classes = labels.account["classes"]
    reasons = sorted({reason for each in classes.values() for reason, count in each["dropped"].items() if count})
    changes = sorted({name for each in classes.values() for name, count in each["changed"].items() if count})
    titles = ("class", "boxes", "labelled", "", *reasons, *changes)
    rows = [_row(labels, name, each, reasons, changes) for name, each in classes.items()]
    caption = "What became of each box; a box in several tiles counts once, its changes each time"
    table = titled_table("classes", caption, titles, rows)
    failures = [element("li", None, failure["error"]) for failure in labels.account["failures"][:20]]
    failed = element("details", None, element("summary", None, "Failed images"), element("ul", None, failures))
    return Section("boxes", "Boxes", join(wide("Boxes by class", table), failed if failures else None), labels.account)


def _row(labels: LabelledBoxes, name: str, account: Mapping[str, Any], reasons: list[str], changes: list[str]) -> Html:
    part = account["labelled"] / max(account["in"], 1)
    colour = class_colour(name, labels.legend)
    counts = [account["dropped"].get(reason, 0) for reason in reasons]
    counts += [account["changed"].get(change, 0) for change in changes]
    return element(
        "tr",
        None,
        element("th", {"scope": "row"}, swatch(colour), name),
        element("td", {"class": "n"}, f"{account['in']:,}"),
        element("td", {"class": "n"}, f"{account['labelled']:,}"),
        element("td", None, interval_bar(part, None, colour)),
        *(element("td", {"class": "n"}, f"{count:,}" if count else "\u2013") for count in counts),
    )


def doubt_section(labels: LabelledBoxes) -> Section:
    """Return the section of the masks in doubt: of lowest score, then those that fill least of their box."""
    shown = [doubt for doubt in labels.doubtful if doubt.layers]
    gone = len(labels.doubtful) - len(shown)
    intro = (
        "The masks that a person should look at first: those for which the box itself was taken, then those of lowest"
        " score or that rules changed. The score is the segmenter's own and is not calibrated."
    )
    missing = f"{gone} of them are not shown, since their images are not at hand." if gone else ""
    images = [
        GalleryImage(
            "in doubt",
            doubt.category,
            (_doubt_note(doubt), doubt.image),
            doubt.layers,
        )
        for doubt in shown
    ]
    boxed = element("li", None, swatch("boxed"), "annotated box")
    body = join(
        element("p", {"class": "quiet"}, f"{intro} {missing}"),
        element(
            "figure", {"class": "narrow"}, element("figcaption", None, "Masks by score"), _histogram(labels.scores)
        ),
        gallery(images, LAYERS, "mask", labels.legend, boxed) if images else None,
    )
    figures = [
        {
            "image": doubt.image,
            "class": doubt.category,
            "score": doubt.score,
            "fill": doubt.fill,
            "changed": list(doubt.changed),
        }
        for doubt in labels.doubtful
    ]
    return Section("doubt", "In doubt", body, {"scores": list(labels.scores), "masks": figures})


def _doubt_note(doubt: Doubt) -> str:
    changed = f"; {', '.join(doubt.changed)}" if doubt.changed else ""
    return f"score {doubt.score:.2f}, {100 * doubt.fill:.0f} % of its box{changed}"


def _histogram(counts: tuple[int, ...]) -> Html:
    """Draw how many masks have which score, in tenths."""
    width, height, most = 340, 130, max(*counts, 1)
    parts = []
    for k, count in enumerate(counts):
        x, tall = 6 + 33 * k, 90 * count / most
        bar: Attributes = {"class": "bar plain", "x": x, "width": 29, "y": 105 - tall, "height": tall}
        parts += [element("rect", bar), text_at(x + 14.5, 122, f"{k / 10:.1f}")]
        parts += [text_at(x + 14.5, 101 - tall, f"{count:,}")] if count else []
    total, low = sum(counts), sum(counts[:5])
    return drawing(width, height, f"Masks by score: {low:,} of {total:,} are below 0.5.", *parts)
