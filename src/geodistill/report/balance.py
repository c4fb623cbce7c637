"""The section of the data: how many images and pixels each split has, and how the classes share them."""

from __future__ import annotations

from geodistill.data.manifest import Manifest
from geodistill.data.statistics import SPLITS
from geodistill.report.charts import interval_bar
from geodistill.report.markup import Html, element, join
from geodistill.report.page import Section, class_colour, swatch, wide
from geodistill.spec import Legend

_RARE = 0.01


def balance_section(manifest: Manifest, shown: Legend | None) -> Section:
    """Return the section of a data set's splits and classes, in the colours of the page's legend."""
    splits = [split for split in SPLITS if manifest.rows(split)]
    counts = {split: len(manifest.rows(split)) for split in splits}
    statistics, legend = manifest.statistics, manifest.legend
    figures: dict[str, object] = {"manifest": str(manifest.path or ""), "images": counts, "bands": list(manifest.bands)}
    sentences = [_sizes(manifest, counts)]
    parts: list[Html] = []
    if statistics is not None and legend is not None:
        pixels = {split: list(statistics.class_pixels.get(split, ())) for split in splits}
        pixels = {split: each for split, each in pixels.items() if len(each) == len(legend) and any(each)}
        figures |= {"class_pixels": pixels, "ignored_pixels": dict(statistics.ignored_pixels)}
        if pixels:
            parts.append(_table(legend.names, pixels, shown))
            sentences += _remarks(legend.names, pixels)
    body = join(*(element("p", None, sentence) for sentence in sentences), *parts)
    return Section("data", "Data", body, figures)


def _sizes(manifest: Manifest, counts: dict[str, int]) -> str:
    images = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    places = len({row.group for row in manifest.entries if row.group})
    grouped = f", from {places:,} places that are never divided between splits" if places else ""
    gsd = "" if manifest.gsd is None else f", {manifest.gsd:.3g} m per pixel"
    bands = f"{len(manifest.bands)} bands ({', '.join(manifest.bands[:12])})"
    return f"Images: {images}{grouped}; {bands}{gsd}."


def _remarks(names: tuple[str, ...], pixels: dict[str, list[int]]) -> list[str]:
    """Say which classes are rare in training or missing in a split."""
    remarks = []
    train = pixels.get("train")
    if train is not None:
        rare = [name for name, count in zip(names, train, strict=True) if 0 < count < _RARE * sum(train)]
        if rare:
            remarks.append(f"Under one percent of the training pixels: {', '.join(rare)}.")
    for split, counts in pixels.items():
        absent = [name for name, count in zip(names, counts, strict=True) if not count]
        if absent:
            remarks.append(f"Without a pixel in {split}: {', '.join(absent)}.")
    return remarks


def _table(names: tuple[str, ...], pixels: dict[str, list[int]], shown: Legend | None) -> Html:
    head = [element("th", {"scope": "col", "colspan": 2}, split) for split in pixels]
    rows = []
    for k, name in enumerate(names):
        colour, cells = class_colour(name, shown), []
        for counts in pixels.values():
            part = counts[k] / sum(counts)
            cells.append(element("td", {"class": "n"}, f"{100 * part:.1f} %"))
            cells.append(element("td", None, interval_bar(part, None, colour)))
        rows.append(element("tr", None, element("th", {"scope": "row"}, swatch(colour), name), cells))
    table = element(
        "table",
        {"class": "balance"},
        element("caption", None, "Share of the labelled pixels by class"),
        element("thead", None, element("tr", None, element("th", {"scope": "col"}, "class"), head)),
        element("tbody", None, rows),
    )
    return wide("Class balance", table)
