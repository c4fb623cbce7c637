"""How often class sets hold the true class on images that they were not fitted on, and how large they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.inference.sliding import STEPS


def count_sets(
    shares: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    labelled: NDArray[np.bool_],
    least: Mapping[str, float],
) -> NDArray[np.int64]:
    """Count over the labelled pixels of some rows what the sets of each coverage hold.

    Args:
        shares: ``(K, H, W)`` probabilities in steps of 1/`STEPS`.
        prediction: ``(H, W)`` most probable class, which every set holds.
        truth: ``(H, W)`` true class.
        labelled: ``(H, W)`` which pixels count.
        least: Probability from which on a class is in the set, by coverage.

    Returns:
        ``(coverages, 3)``: labelled pixels, those whose set holds the true class, and classes in all sets.
    """
    of_pixels, true = shares[:, labelled], truth[labelled]
    share, right = of_pixels[true, np.arange(len(true))], prediction[labelled] == true
    counts = []
    for value in least.values():
        step = round(STEPS * value)
        inside = np.count_nonzero(of_pixels >= step) + np.count_nonzero(of_pixels.max(0, initial=0) < step)
        counts.append((len(true), np.count_nonzero(right | (share >= step)), inside))
    return np.array(counts, np.int64).reshape(-1, 3)


def set_figures(least: Mapping[str, float], images: Sequence[NDArray[np.int64]]) -> list[dict[str, Any]]:
    """Return for each stated coverage the one that was found, the mean over images, and the mean number of classes.

    Args:
        least: See `count_sets`.
        images: Its results, summed over each image.
    """
    counts = np.array([image for image in images if len(image) and image[0, 0]], np.float64)
    if not len(counts):
        return []
    coverages, sizes = (counts[:, :, 1] / counts[:, :, 0]).mean(0), counts[:, :, 2].sum(0) / counts[:, :, 0].sum(0)
    return [
        {"stated": float(stated), "coverage": float(coverage), "classes": float(size), "images": len(counts)}
        for stated, coverage, size in zip(least, coverages, sizes, strict=True)
    ]
