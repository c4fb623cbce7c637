"""``data scan``: folders of images and masks become a manifest with splits, legend and statistics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.data.findings import ImageSummary, compare_companions, label_notes, refuse_elsewhere
from geodistill.data.inferred_legend import infer_legend
from geodistill.data.layout import find_pairs, no_pair_error
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import legend_text, size_mismatch_error
from geodistill.data.measure import measure
from geodistill.data.splits import LEFT_OUT, SplitPlan, divide
from geodistill.data.statistics import SPLITS
from geodistill.engine import progress_bar
from geodistill.errors import DataError, counted
from geodistill.files import check_outputs, check_suffix, write_text
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

Paths = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class ScanReport:
    """What a scan found.

    Attributes:
        manifest: The manifest as written.
        layout_base: Folder that image names were taken relative to.
        legend_inferred: Whether the legend was made from the values found in the masks.
        images_without_mask: Images left out (or unlabelled, where asked for) because no mask has their name.
        masks_without_image: Masks left out because no image has their name.
        left_out: Images that no list or named group takes in.
        groups: Groups of each split.
        missing: Files that a benchmark set lists and that are not there, one line each.
    """

    manifest: Manifest
    layout_base: Path
    legend_inferred: bool
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    left_out: tuple[Path, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that ``data scan --json`` prints."""
        manifest = self.manifest
        counts = Counter(row.split for row in manifest.entries)
        return {
            "manifest": str(manifest.path),
            "images": {split: counts[split] for split in SPLITS if counts[split]},
            "groups": {split: list(names) for split, names in self.groups.items()},
            "bands": list(manifest.bands),
            "legend": None if manifest.legend is None else manifest.legend.to_dict(),
            "legend_inferred": self.legend_inferred,
            "images_without_mask": [str(p) for p in self.images_without_mask],
            "masks_without_image": [str(p) for p in self.masks_without_image],
            "left_out": [str(p) for p in self.left_out],
            "missing": list(self.missing),
            "notes": label_notes(manifest),
            "problems": list(manifest.problems),
        }


def scan(
    images: Paths,
    masks: Paths | None = None,
    out: Path | str = "manifest.parquet",
    *,
    legend: Legend | Path | str | None = None,
    unlabelled: bool = False,
    include: str = "*",
    split: SplitPlan | None = None,
    ignore_unknown: bool = False,
    statistics: bool = True,
    progress: bool = False,
) -> ScanReport:
    """Write a manifest of images and their masks.

    Images and masks are paired by name, see `geodistill.data.layout.find_pairs`; how the splits are made is in
    `geodistill.data.splits.SplitPlan`. Files that cannot be opened, masks of another size or place than their image,
    labels outside the legend and all else that `data check` calls an error do not stop the scan: they stand in
    `Manifest.problems`, and training refuses the manifest until they are mended.

    Args:
        images: Folder (or folders, or one file) of images; with ``images/`` and ``masks/`` inside, at any depth, or
            ``masks/`` beside it, no ``masks`` are needed.
        masks: As many folders or files of masks.
        out: The manifest to write; a name without suffix is a folder that gets ``manifest.parquet``.
        legend: A legend, or its file; without one, classes are the values or colours found in the masks.
        unlabelled: Take images without mask too, as split ``unlabelled``.
        include: Pattern of image file names to take, such as ``*-21.png``.
        split: How to divide; by default each file by itself, 70, 15 and 15 of a hundred.
        ignore_unknown: Take labels that are in no legend entry as ignored.
        statistics: Measure the data set as well, which reads every file once.
        progress: Show progress bars on a terminal.

    Raises:
        DataError: Nothing to scan, no pair found (naming what was tried), images with different numbers of bands,
            or a plan that does not fit.
        OutputError: The manifest cannot be written, is called otherwise than a Parquet file, or would replace what
            is read.
    """
    places, target = _paths(images), manifest_path(out)
    plan = split or SplitPlan()
    classes = legend if isinstance(legend, Legend | None) else Legend.load(legend)
    layout = find_pairs(places, () if masks is None else _paths(masks), include, beside=not unlabelled)
    inputs = [path for pair in layout.pairs for path in pair if path is not None] + layout.masks_without_image
    given = [Path(path) for path in (legend, plan.group_file) if isinstance(path, str | Path)]
    given += [] if plan.lists is None else sorted(plan.lists.glob("*.txt"))
    check_outputs([target], [*inputs, *given])
    labelled = [(image, mask) for image, mask in layout.pairs if mask is not None]
    without = tuple(image for image, mask in layout.pairs if mask is None)
    if not labelled and not unlabelled:
        raise no_pair_error(layout, places)
    taken = layout.pairs if unlabelled else labelled
    opened = open_all(taken, layout.name, progress)
    inferred = classes is None and bool(labelled)
    if inferred:
        classes = infer_legend(mask for _, mask in labelled if mask is not None)
    elif classes is not None:
        refuse_impossible_values(classes, opened.mask_types)
    divided = divide([(name, row) for name, row in opened.rows if row.mask is not None], plan) if labelled else []
    entries = [replace(row, split=name, group=group) for row, name, group in divided if name != LEFT_OUT]
    entries += [replace(row, split="unlabelled") for _, row in opened.rows if row.mask is None]
    manifest = Manifest(tuple(entries), opened.bands, classes, ignore_unknown, problems=tuple(opened.problems))
    if statistics:
        manifest = manifest.with_statistics(measure(manifest, progress=progress))
    return ScanReport(
        manifest=manifest.save(target),
        layout_base=layout.base,
        legend_inferred=inferred,
        images_without_mask=without,
        masks_without_image=tuple(layout.masks_without_image),
        left_out=tuple(row.image for row, name, _ in divided if name == LEFT_OUT),
        groups=groups_by_split(entries),
    )


def groups_by_split(entries: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Return the names of the groups in each split, sorted; rows of no group add nothing."""
    return {s: tuple(sorted({e.group for e in entries if e.split == s and e.group})) for s in SPLITS}


def manifest_path(out: Path | str) -> Path:
    """Return the file that a manifest is written to; a name without suffix is a folder.

    Raises:
        OutputError: It is the name of a file of another kind.
    """
    path = Path(out)
    if not path.suffix or path.is_dir():
        return path / "manifest.parquet"
    check_suffix(path, (".parquet",))
    return path


def _paths(places: Paths) -> list[Path]:
    return [Path(places)] if isinstance(places, str | Path) else [Path(place) for place in places]


@dataclass
class Opened:
    """What opening each file once tells.

    Attributes:
        rows: Name and row of each image (height and width 0 where it cannot be opened).
        bands: Names of the bands.
        problems: One line each.
        mask_types: Sample types of the masks, where all are of values; empty where any is of colours.
    """

    rows: list[tuple[str, Row]] = field(default_factory=list)
    bands: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    mask_types: set[str] = field(default_factory=set)


def open_all(pairs: Sequence[tuple[Path, Path | None]], name: Callable[[Path], str], progress: bool) -> Opened:
    """Open each pair of image and mask once for size, place and bands; ``name`` names an image in splits.

    Raises:
        DataError: None can be opened, or they have different numbers of bands.
    """
    opened, images_read, types = Opened(), list[ImageSummary](), set[str]()
    bands: dict[int, tuple[tuple[str, ...], Path, int]] = {}
    for image, mask in progress_bar(pairs, "scanning", progress, unit="image"):
        names: tuple[str, ...] = ()
        row = Row(image, mask, "", Window(0, 0, 0, 0))
        try:
            with Raster(image) as raster:
                row, names = _row_of(image, mask, raster), raster.band_names
                images_read.append(ImageSummary(row, str(raster.dtype), raster.grid.georeferenced))
                if mask is not None:
                    types.add(_open_mask(row, raster, mask))
        except DataError as error:
            opened.problems.append(str(error))
        if names:
            first, example, count = bands.get(len(names), (names, image, 0))
            bands[len(names)] = (first, example, count + 1)
        opened.rows.append((name(image), row))
    if not bands:
        raise DataError(
            f"none of {counted(len(pairs), 'image')} can be opened: {opened.problems[0]}", "readable images"
        )
    if len(bands) > 1:
        kinds = ", ".join(f"{n} with {k} bands such as {p}" for k, (_, p, n) in sorted(bands.items()))
        raise DataError(f"images of different kinds: {kinds}", "one number of bands", "scan them apart, see 'include'")
    opened.problems += [finding.line for finding in compare_companions(images_read) if finding.severity == "error"]
    opened.bands, opened.mask_types = next(iter(bands.values()))[0], set() if "" in types else types
    return opened


def _row_of(image: Path, mask: Path | None, raster: Raster) -> Row:
    grid = raster.grid
    lon, lat = grid.lonlat or (None, None)
    window, day = grid.whole, raster.acquired or _date_in(image.stem)
    return Row(image=image, mask=mask, split="", window=window, lon=lon, lat=lat, gsd=grid.gsd, date=day)


def _open_mask(row: Row, image: Raster, path: Path) -> str:
    """Compare a mask with its image; return its type, or nothing where it is of colours."""
    with Raster(path) as mask:
        grid, size = image.grid, (mask.grid.height, mask.grid.width)
        if size != (grid.height, grid.width):
            raise size_mismatch_error(row.image, (grid.height, grid.width), path, size)
        refuse_elsewhere(row, image, mask)
        return str(mask.label_dtype) if mask.label_channels == 1 and mask.colormap is None else ""


def refuse_impossible_values(legend: Legend, mask_types: set[str]) -> None:
    """Refuse a legend with a value that not one of the masks can hold.

    Raises:
        DataError: It has one.
    """
    ranges = [np.iinfo(kind) for kind in mask_types if np.dtype(kind).kind in "ui"]
    if not ranges or len(ranges) < len(mask_types):
        return
    low, high = min(r.min for r in ranges), max(r.max for r in ranges)
    for name, value in zip(legend.names, legend.values, strict=True):
        if not low <= value <= high:
            raise DataError(
                f"legend value {value} of {name!r} for masks of {', '.join(sorted(mask_types))}",
                f"values from {low} to {high}",
            )


def _date_in(name: str) -> str | None:
    """Find a day written as 20200831, 2020-08-31 or 2020_08_31 in a file name."""
    for match in re.finditer(r"(?<!\d)((?:19|20)\d\d)([-_]?)(\d\d)\2(\d\d)(?!\d)", name):
        try:
            return date(int(match[1]), int(match[3]), int(match[4])).isoformat()
        except ValueError:
            continue
    return None


def write_proposal(report: ScanReport) -> str:
    """Write a legend that was made from the masks beside the manifest, to be edited; return a line that says so.

    A file that is there is left as it is.

    Raises:
        OutputError: It cannot be written.
    """
    legend, path = report.manifest.legend, report.manifest.path
    if legend is None or path is None:
        return ""
    file = path.with_name("legend.yaml")
    if file.exists():
        return f"{file} is there and was left as it is; --legend {file} takes it"
    write_text(file, legend_text(legend, [*legend.ignore_values, *legend.ignore_colours]))
    what = "name its classes, put what is none under 'ignore'"
    return f"{file} holds this legend: {what}, and scan again with --legend {file}"


def format_scan(report: ScanReport) -> str:
    """Write a scan's report as the text that ``data scan`` prints."""
    manifest = report.manifest
    counts = Counter(row.split for row in manifest.entries)
    per_split = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    lines = [
        f"{manifest.path}: {counted(len(manifest.entries), 'image')} ({per_split}), bands {', '.join(manifest.bands)}"
    ]
    for split, names in report.groups.items():
        if names:
            lines.append(f"{split} groups: " + (", ".join(names) if len(names) <= 12 else str(len(names))))
    if manifest.legend is not None:
        how = "proposed from what the masks hold" if report.legend_inferred else "given"
        values = [f"{name}={value}" for name, value in zip(manifest.legend.names, manifest.legend.values, strict=True)]
        lines.append(f"legend ({how}): {', '.join(values if report.legend_inferred else manifest.legend.names)}")
    unlabelled = "taken as unlabelled" if counts["unlabelled"] else "left out"
    for noun, why, paths in (
        ("image", f"without a mask, {unlabelled}", report.images_without_mask),
        ("mask", "without an image, left out", report.masks_without_image),
        ("image", "in no list or named group, left out", report.left_out),
    ):
        if paths:
            more = " ..." if len(paths) > 3 else ""
            lines.append(f"{counted(len(paths), noun)} {why}: {', '.join(str(p) for p in paths[:3])}{more}")
    if manifest.statistics is not None and manifest.statistics.unknown_labels and manifest.ignore_unknown:
        total = sum(manifest.statistics.unknown_labels.values())
        named = ", ".join(list(manifest.statistics.unknown_labels)[:6])
        legend = manifest.legend
        how = "taken as the nearest entry" if legend is not None and legend.nearest else "ignored"
        lines.append(f"{total} pixels with labels in no legend entry are {how}: {named}")
    lines += [f"note: {line}" for line in label_notes(manifest)]
    lines += [f"missing: {line}" for line in report.missing[:10]]
    if len(report.missing) > 10:
        lines.append(f"... and {counted(len(report.missing) - 10, 'more missing file')}")
    lines += [f"problem: {problem}" for problem in manifest.problems[:10]]
    if len(manifest.problems) > 10:
        lines.append(f"... and {counted(len(manifest.problems) - 10, 'more problem')}")
    return "\n".join(lines)
