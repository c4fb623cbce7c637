"""``data check``: everything that is wrong with the files of a manifest, each by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geodistill.data.findings import (
    Finding,
    ImageSummary,
    Kind,
    PixelDigest,
    compare_companions,
    compare_grids,
    ignored_note,
    lone_class_findings,
    vanished_lines,
)
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import decode_mask, ignored_labels, label_counts, label_name, read_labels, strips
from geodistill.data.statistics import misread_labels
from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.legend_entries import Colour
from geodistill.raster import Raster
from geodistill.raster.raster import open_image


def check(manifest: Manifest, *, expect_crs: bool | None = None, progress: bool = False) -> list[Finding]:
    """Read every file wholly, in strips of bounded memory, and name what is wrong, in the manifest's order.

    Found are: unreadable and truncated files, masks of another size or another place on the ground than their image,
    labels and colours in no legend entry with their counts, masks without a labelled pixel, constant images, images
    without a valid pixel, missing CRS (where any has one, or ``expect_crs`` says so), odd band counts and sample types,
    and images with equal pixels, in one split (a warning) or across splits (an error). Labels that are not there are
    reported too: a set that is mostly ignored, classes without a pixel, and (an error) one class alone.
    """
    findings: list[Finding] = []
    images: list[ImageSummary] = []
    counts: dict[str, NDArray[np.int64]] = {}
    left_out = Counter[str]()
    for row in progress_bar(manifest.entries, "checking", progress, unit="image"):
        # A row that cannot be read still gets its mask looked at: both may be broken.
        image = _check_image(row, manifest.bands, findings)
        if image is not None:
            images.append(image)
        if row.mask is not None:
            findings += _check_mask(row, row.mask, manifest, counts, left_out)
    findings += compare_companions(images, expect_crs)
    if manifest.legend is not None and counts:
        class_counts = {split: of_split[:-1].tolist() for split, of_split in counts.items()}
        ignored = {split: int(of_split[-1]) for split, of_split in counts.items()}
        pixels = int(sum(of_split.sum() for of_split in counts.values()))
        misread = misread_labels(manifest.legend, class_counts, left_out, pixels)
        lines = vanished_lines(manifest.legend, class_counts, ignored, misread)
        findings += [Finding(str(manifest.path or ""), "vanished_labels", line, "warning") for line in lines]
        findings += lone_class_findings(manifest, class_counts)
        notes = ignored_note(manifest.legend, left_out, pixels)
        findings += [Finding(str(manifest.path or ""), "ignored_labels", line, "warning") for line in notes]
    order = {str(path): i for i, row in enumerate(manifest.entries) for path in (row.image, row.mask) if path}
    return sorted(dict.fromkeys(findings), key=lambda finding: order.get(finding.file, 0))


def _check_image(row: Row, bands: Sequence[str], findings: list[Finding]) -> ImageSummary | None:
    file = str(row.image)
    low = high = None
    valid_pixels = 0
    try:
        with open_image(row.image, bands) as raster:
            if raster.channels != len(bands):
                message = f"has {raster.channels} bands, its companions {len(bands)}"
                findings.append(Finding(file, "band_count", message))
            grid = raster.grid
            window = row.window.intersection(grid.height, grid.width)
            if row.window.height == 0 or window != row.window:
                message = f"is {grid.width} x {grid.height} and was not so when it was scanned; scan again"
                findings.append(Finding(file, "size_mismatch", message))
            digest = PixelDigest(raster, window)
            for strip in strips(window):
                pixels, valid = raster.read(strip)
                digest.add(pixels)
                if not valid.any():
                    continue
                valid_pixels += int(valid.sum())
                inside = pixels[:, valid]
                lows, highs = inside.min(axis=1), inside.max(axis=1)
                low = lows if low is None else np.minimum(low, lows)
                high = highs if high is None else np.maximum(high, highs)
            kind = str(raster.dtype)
    except DataError as error:
        findings.append(Finding(file, "unreadable", str(error)))
        return None
    if low is None or high is None:
        findings.append(Finding(file, "no_valid_pixel", "has no valid pixel: all is nodata", "warning"))
    elif bool((low == high).all()):
        value = ", ".join(f"{v:g}" for v in low.tolist())
        findings.append(Finding(file, "constant_image", f"is constant: every pixel is {value}", "warning"))
    else:
        return ImageSummary(row, kind, grid.georeferenced, digest.bytes())
    return ImageSummary(row, kind, grid.georeferenced)


def _check_mask(
    row: Row, path: Path, manifest: Manifest, counts: dict[str, NDArray[np.int64]], left_out: Counter[str]
) -> list[Finding]:
    """Look at a mask.

    ``counts`` gets its pixels of each class and, last, its ignored ones, by split; ``left_out`` those of each value
    that the legend says to ignore.
    """
    findings: list[Finding] = []
    file, legend = str(path), manifest.legend
    unnamed: Counter[int | Colour] = Counter()
    labelled = 0
    try:
        with Raster(path) as mask:
            try:
                with Raster(row.image) as image:
                    findings += compare_grids(row, image.grid, mask.grid)
            except DataError:
                pass  # an unreadable image is reported elsewhere
            # Which pixels belong to the labels of a mask of another size, nobody knows.
            if legend is None or any(finding.kind == "size_mismatch" for finding in findings):
                return findings
            for strip in strips(row.window.intersection(mask.grid.height, mask.grid.width)):
                labels = read_labels(mask, strip)
                indices, unknown = decode_mask(mask, legend, labels=labels)
                unnamed.update(unknown)
                labelled_counts, ignored = label_counts(indices, len(legend))
                counts[row.split] = counts.get(row.split, 0) + np.append(labelled_counts, ignored)
                labelled += int(labelled_counts.sum())
                if ignored:
                    by_value = ignored_labels(mask, legend, labels)
                    left_out.update({label_name(label): count for label, count in by_value.items()})
    except DataError as error:
        return [*findings, Finding(file, "unreadable", str(error))]
    severity: Literal["error", "warning"] = "warning" if manifest.ignore_unknown else "error"
    if unnamed:
        kind: Kind = "unknown_label" if isinstance(next(iter(unnamed)), int) else "unknown_colour"
        findings.append(Finding(file, kind, _unknown_message(unnamed), severity))
    if not labelled and row.window.height:  # an image that cannot be read has none
        findings.append(Finding(file, "unlabelled_mask", "has no labelled pixel: all is ignored", "warning"))
    return findings


def _unknown_message(labels: Counter[int | Colour]) -> str:
    most = labels.most_common()
    named = ", ".join(f"{label_name(label)} ({count} pixels)" for label, count in most[:8])
    more = f" and {len(most) - 8} more" if len(most) > 8 else ""
    return f"has {'values' if isinstance(most[0][0], int) else 'colours'} in no legend entry: {named}{more}"
