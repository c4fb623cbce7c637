"""``data stats``: class balance, band mean and deviation, sizes and ground sampling distance of a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geodistill.data.findings import ImageSummary, PixelDigest, compare_companions, refuse_elsewhere
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import (
    decode_mask,
    ignored_labels,
    label_counts,
    label_name,
    read_labels,
    size_mismatch_error,
    strips,
    unknown_labels_error,
)
from geodistill.data.statistics import SPLITS, RunningMoments, Spread, Statistics
from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.legend_entries import Colour
from geodistill.raster import Raster
from geodistill.raster.raster import open_image
from geodistill.spec import Legend


@dataclass
class _Measured:
    """Figures of one row."""

    moments: RunningMoments
    classes: NDArray[np.int64]
    valid: int = 0
    ignored: int = 0
    unknown: dict[int | Colour, int] = field(default_factory=dict)
    ignored_labels: Counter[int | Colour] = field(default_factory=Counter)
    summary: ImageSummary | None = None


def measure(manifest: Manifest, *, progress: bool = False) -> Statistics:
    """Measure a data set, reading each file once in strips of bounded memory.

    Band figures are of valid pixels of the ``train`` images (of all images where there is no such split), so that
    nothing of the test images enters the normalisation. An image that cannot be measured is left out and named
    among `Statistics.problems`, and so is all that `data check` calls an error.
    """
    labelled = manifest.legend is not None
    splits = ("train",) if manifest.rows("train") else tuple(s for s in SPLITS if manifest.rows(s))
    moments = RunningMoments(len(manifest.bands))
    images, pixels, valid, ignored = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    classes: dict[str, NDArray[np.int64]] = {}
    unknown, left_out = Counter[str](), Counter[str]()
    problems: list[str] = []
    images_read: list[ImageSummary] = []
    for row in progress_bar(manifest.entries, "measuring", progress, unit="image"):
        images[row.split] += 1
        pixels[row.split] += row.window.height * row.window.width
        try:
            figures_of_row = _measure(row, manifest)
        except DataError as error:
            problems.append(str(error))
            continue
        valid[row.split] += figures_of_row.valid
        images_read += [] if figures_of_row.summary is None else [figures_of_row.summary]
        if row.split in splits:
            moments.merge(figures_of_row.moments)
        if row.mask is not None and manifest.legend is not None:
            ignored[row.split] += figures_of_row.ignored
            classes[row.split] = classes.get(row.split, 0) + figures_of_row.classes
            unknown.update({label_name(label): count for label, count in figures_of_row.unknown.items()})
            left_out.update({label_name(label): count for label, count in figures_of_row.ignored_labels.items()})
            if figures_of_row.unknown and not manifest.ignore_unknown:
                problems.append(str(unknown_labels_error(row.mask, figures_of_row.unknown, manifest.legend)))
    problems += [finding.line for finding in compare_companions(images_read) if finding.severity == "error"]
    figures = (moments.mean, moments.std, moments.minimum, moments.maximum) if moments.count else ((), (), (), ())
    mean, std, minimum, maximum = (tuple(float(v) for v in figure) for figure in figures)
    readable = [row for row in manifest.entries if row.window.height]
    return Statistics(
        splits=splits,
        mean=mean,
        std=std,
        minimum=minimum,
        maximum=maximum,
        images=dict(images),
        pixels=dict(pixels),
        valid_pixels=dict(valid),
        class_pixels={split: tuple(counts.tolist()) for split, counts in classes.items()} if labelled else {},
        ignored_pixels=dict(ignored),
        unknown_labels=dict(unknown),
        ignored_labels=dict(left_out),
        height=Spread.of([row.window.height for row in readable]),
        width=Spread.of([row.window.width for row in readable]),
        gsd=Spread.of([row.gsd for row in manifest.entries if row.gsd is not None]),
        problems=tuple(problems),
    )


def _measure(row: Row, manifest: Manifest) -> _Measured:
    with open_image(row.image, manifest.bands) as image:
        if image.channels != len(manifest.bands):
            raise DataError(f"{row.image} has {image.channels} bands", f"{len(manifest.bands)} as its companions")
        if row.mask is None or manifest.legend is None:
            return _walk(row, image, None, Legend(("none",)))
        with Raster(row.mask) as mask:
            size, mask_size = (image.grid.height, image.grid.width), (mask.grid.height, mask.grid.width)
            if size != mask_size:
                raise size_mismatch_error(row.image, size, row.mask, mask_size)
            refuse_elsewhere(row, image, mask)
            return _walk(row, image, mask, manifest.legend)


def _walk(row: Row, image: Raster, mask: Raster | None, legend: Legend) -> _Measured:
    figures = _Measured(RunningMoments(image.channels), np.zeros(len(legend), np.int64))
    digest = PixelDigest(image, row.window)
    for strip in strips(row.window):
        pixels, valid = image.read(strip)
        digest.add(pixels)
        everywhere = bool(valid.all())
        figures.moments.update(pixels.reshape(len(pixels), -1) if everywhere else pixels[:, valid])
        figures.valid += int(valid.sum())
        if mask is not None:
            labels = read_labels(mask, strip)
            indices, unnamed = decode_mask(mask, legend, labels=labels)
            counts, ignored = label_counts(indices if everywhere else indices[valid], len(legend))
            figures.classes += counts
            figures.ignored += ignored
            if ignored:
                figures.ignored_labels.update(ignored_labels(mask, legend, labels))
            for label, count in unnamed.items():
                figures.unknown[label] = figures.unknown.get(label, 0) + count
    moments = figures.moments
    varies = bool(moments.count and (moments.minimum < moments.maximum).any())
    pixels_of = digest.bytes() if varies else None
    figures.summary = ImageSummary(row, str(image.dtype), image.grid.georeferenced, pixels_of)
    return figures
