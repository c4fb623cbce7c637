"""A part of the labels: windows of the training images, chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geodistill.data.data_config import Choice
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import decode_mask, label_counts, strips
from geodistill.data.reader import WindowReader
from geodistill.data.statistics import NOTHING_TO_LEARN
from geodistill.engine import progress_bar
from geodistill.errors import DataError, RecipeError
from geodistill.raster import Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend


def take_fraction(
    manifest: Manifest, fraction: float, seed: int, crop: int, choice: Choice = "classes"
) -> tuple[Manifest, list[str]]:
    """Keep a share of the windows of a manifest's labelled training images, the same for a seed; other rows stay.

    A window is a part of an image of about the crop's side; smaller images are one each. Every window's labels are
    read once, to know which classes it holds, and those of the kept windows are counted: what weighs or draws classes
    by their share of the labels means those that are trained on.

    Args:
        manifest: The data set.
        fraction: Share of the windows, above 0, at most 1.
        seed: Chooses them.
        crop: Side of a window in pixels, about.
        choice: As `geodistill.data.data_config.DataConfig.fraction_choice`.

    Returns:
        The manifest with a row for each window in place of those of its images, and their labels in place of the
        training labels' counts; and what to tell the user, one line each.

    Raises:
        RecipeError: The fraction is less than one window.
        DataError: A mask cannot be read, there are no labelled training images, or the windows hold one class or none
            where all together hold more.
    """
    labelled = [row for row in manifest.some_rows("train") if row.mask is not None]
    legend = manifest.legend
    if legend is None or not labelled:
        raise DataError(f"manifest {manifest.path or ''} has no labelled training images", "some, to take a part of")
    windows = [replace(row, window=window) for row in labelled for window in cut(row.window, crop)]
    size = windows_of(fraction, len(windows))
    shown = progress_bar(windows, "reading masks", unit="window", delay=2, leave=False)
    classes = [classes_of(row, legend) for row in shown]
    if choice == "classes":
        chosen = cover_classes(classes, size, seed)
    elif choice == "random":
        chosen = sorted(np.random.default_rng(seed).permutation(len(windows))[:size].tolist())
    else:
        chosen = neighbours(windows, size, seed)
    kept = [windows[index] for index in chosen]
    counts, ignored = count_labels(replace(manifest, entries=tuple(kept)), legend)
    present, covered = frozenset().union(*classes), frozenset(np.flatnonzero(counts).tolist())
    if len(covered) <= 1 < len(present):
        what = f"of {legend.names[min(covered)]!r} alone: {NOTHING_TO_LEARN}" if covered else "of no class"
        raise DataError(
            f"data.fraction {fraction:g} (seed {seed}) with labels {what}",
            "two classes or more",
            "take a larger fraction, another data.seed or data.fraction_choice classes",
        )
    dropped = set(map(id, labelled))
    entries = (*kept, *(row for row in manifest.entries if id(row) not in dropped))
    images = len({row.image for row in kept})
    note = f"{len(kept)} of {len(windows):,} labelled training windows ({100 * fraction:g} %, seed {seed}, by {choice})"
    note += f" in {images} images with {len(covered)} of the {len(present)} classes that all of them hold"
    if missing := sorted(present - covered):
        note += f"; without {', '.join(legend.names[index] for index in missing)}"
    statistics = manifest.statistics and replace(
        manifest.statistics,
        class_pixels=manifest.statistics.class_pixels | {"train": tuple(counts.tolist())},
        ignored_pixels=manifest.statistics.ignored_pixels | {"train": ignored},
    )
    return replace(manifest, entries=entries, statistics=statistics), [note]


def count_labels(manifest: Manifest, legend: Legend) -> tuple[NDArray[np.int64], int]:
    """Count the valid pixels of each class, and the ignored ones, of a manifest's rows, each read whole.

    Raises:
        DataError: A file cannot be read, or has a label outside the legend.
    """
    reader = WindowReader(legend, manifest.bands, ignore_unknown=manifest.ignore_unknown)
    counts, ignored = np.zeros(len(legend), np.int64), 0
    for row in progress_bar(manifest.entries, "counting labels", unit="window", delay=2, leave=False):
        patch = reader.read(row, Window(0, 0, row.window.height, row.window.width))
        of_row, lost = label_counts(patch.mask[patch.valid], len(legend))
        counts, ignored = counts + of_row, ignored + lost
    reader.close()
    return counts, ignored


def cut(window: Window, side: int) -> list[Window]:
    """Cut a window into nearly equal parts of about ``side`` pixels, one at least; together they are the whole."""
    parts = ((length, max(1, round(length / side))) for length in (window.height, window.width))
    rows, cols = ([length * i // count for i in range(count + 1)] for length, count in parts)
    return [
        Window(window.row + top, window.col + left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(cols)
    ]


def check_fraction(manifest: Manifest, fraction: float, crop: int) -> None:
    """Refuse a fraction that is less than one window, before anything is read; arguments as of `take_fraction`.

    Raises:
        RecipeError: It is.
    """
    windows_of(fraction, sum(len(cut(row.window, crop)) for row in manifest.rows("train") if row.mask is not None))


def windows_of(fraction: float, windows: int) -> int:
    """Return the number of windows that a fraction is, to the nearest.

    Raises:
        RecipeError: The fraction is less than one window.
    """
    # A millionth of a window is rounding: 0.01 of 100 windows is one.
    if fraction * windows < 1 - 1e-6:
        raise RecipeError(
            f"data.fraction {fraction:g} of {windows} labelled training windows, which is less than one",
            f"{1 / windows:.3g} or more",
        )
    return min(round(fraction * windows), windows)


def neighbours(rows: Sequence[Row], count: int, seed: int) -> list[int]:
    """Choose a window at random and those nearest to it: of its image first, then of the images nearest on the ground.

    Images without a place follow in a random order. Returned are the positions of the chosen, ascending.
    """
    rng = np.random.default_rng(seed)
    first = rows[int(rng.integers(len(rows)))]
    turns = dict(zip(dict.fromkeys(row.image for row in rows), rng.permutation(len(rows)).tolist(), strict=False))

    def away(index: int) -> tuple[float, ...]:
        row = rows[index]
        if row.image == first.image:
            centre, other = ((w.row + w.height / 2, w.col + w.width / 2) for w in (first.window, row.window))
            return 0.0, np.hypot(centre[0] - other[0], centre[1] - other[1]), 0.0
        if None in (row.lon, row.lat, first.lon, first.lat):
            return 2.0, turns[row.image], 0.0
        east = ((row.lon or 0.0) - (first.lon or 0.0)) * np.cos(np.radians(first.lat or 0.0))
        return 1.0, float(np.hypot(east, (row.lat or 0.0) - (first.lat or 0.0))), turns[row.image]

    return sorted(sorted(range(len(rows)), key=away)[:count])


def cover_classes(classes: Sequence[frozenset[int]], count: int, seed: int) -> list[int]:
    """Choose ``count`` windows at random, first those that together hold every class, as far as their number allows.

    The greedy rule: the window that holds most of the classes still missing comes next, the first of a random order
    where several hold as many. Once every class is covered, or cannot be, the random order gives the rest. Returned are
    the positions of the chosen, ascending.
    """
    left = [int(index) for index in np.random.default_rng(seed).permutation(len(classes))]
    missing = frozenset().union(*classes)
    chosen: list[int] = []
    while missing and len(chosen) < count:
        best = max(left, key=lambda index: len(classes[index] & missing))
        left.remove(best)
        chosen.append(best)
        missing -= classes[best]
    return sorted(chosen + left[: count - len(chosen)])


def classes_of(row: Row, legend: Legend) -> frozenset[int]:
    """Read which classes a row's labels hold.

    Raises:
        DataError: The mask cannot be read.
    """
    present = np.zeros(IGNORE_INDEX + 1, bool)
    assert row.mask is not None  # a labelled row
    with Raster(row.mask) as mask:
        for strip in strips(row.window):
            present[np.unique(decode_mask(mask, legend, strip)[0])] = True
    return frozenset(int(index) for index in np.flatnonzero(present[:IGNORE_INDEX]))
