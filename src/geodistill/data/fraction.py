"""Few labels: a part of the labelled training images, chosen by a seed so that it covers the classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from geodistill.data.manifest import Manifest, Row
from geodistill.data.masks import decode_mask, strips
from geodistill.errors import DataError, RecipeError
from geodistill.raster import Raster
from geodistill.spec import IGNORE_INDEX, Legend


def take_fraction(manifest: Manifest, fraction: float, seed: int) -> tuple[Manifest, list[str]]:
    """Keep a part of a manifest's labelled training images; all other rows stay.

    Every mask of the training split is read once, to know which classes it holds.

    Args:
        manifest: The data set.
        fraction: Share of the labelled training images to keep, above 0 and at most 1.
        seed: The same seed chooses the same images.

    Returns:
        The manifest with fewer rows, and what to tell the user, a line each.

    Raises:
        RecipeError: The fraction is less than one image.
        DataError: A mask cannot be read, or there are no labelled training images.
    """
    rows = [row for row in manifest.some_rows("train") if row.mask is not None]
    legend = manifest.legend
    if legend is None or not rows:
        raise DataError(f"manifest {manifest.path or ''} has no labelled training images", "some, to take a part of")
    size = images_of(fraction, len(rows))
    progress = tqdm(rows, "reading masks", unit="image", disable=not sys.stderr.isatty(), delay=2, leave=False)
    classes = [classes_of(row, legend) for row in progress]
    kept = [rows[index] for index in cover_classes(classes, size, seed)]
    chosen = set(map(id, kept))
    present = frozenset().union(*classes)
    covered = frozenset().union(*(own for row, own in zip(rows, classes, strict=True) if id(row) in chosen))
    dropped = {id(row) for row in rows} - chosen
    entries = tuple(row for row in manifest.entries if id(row) not in dropped)
    told = f"{len(kept)} of {len(rows):,} labelled training images ({100 * fraction:g} %, seed {seed})"
    told += f" with {len(covered)} of the {len(present)} classes that all of them hold"
    if missing := sorted(present - covered):
        told += f"; without {', '.join(legend.names[index] for index in missing)}"
    return replace(manifest, entries=entries), [told]


def images_of(fraction: float, images: int) -> int:
    """Give the number of images that a fraction is, to the nearest.

    Raises:
        RecipeError: The fraction is less than one image.
    """
    # A millionth of an image is rounding: 0.01 of 100 images is one.
    if fraction * images < 1 - 1e-6:
        raise RecipeError(
            f"data.fraction {fraction:g} of {images} labelled training images, which is less than one",
            f"{1 / images:.3g} or more",
        )
    return min(round(fraction * images), images)


def cover_classes(classes: Sequence[frozenset[int]], count: int, seed: int) -> list[int]:
    """Choose images at random, but first those that together hold every class, as far as their number allows.

    The greedy rule: the image that holds most of the classes still missing comes next, the first of a random order
    where several hold as many. Once every class is covered, or cannot be, the random order gives the rest.

    Args:
        classes: The classes that each image holds.
        count: Images to choose, at most all.
        seed: Seed of the order.

    Returns:
        Their positions, ascending.
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
    found = np.zeros(IGNORE_INDEX + 1, bool)
    assert row.mask is not None  # a labelled row
    with Raster(row.mask) as mask:
        for strip in strips(row.window):
            found[np.unique(decode_mask(mask, legend, strip)[0])] = True
    return frozenset(int(index) for index in np.flatnonzero(found[:IGNORE_INDEX]))
