"""Draws that are for a class, mostly a rare one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest
from geodistill.errors import DataError


def rare_classes(manifest: Manifest, split: str) -> NDArray[np.float64]:
    """Return the cumulative distribution over the classes that crops are drawn for, ``(K,)``; the last is infinite.

    A class of share ``f`` of the labelled pixels is drawn in proportion to ``exp(1 - f)`` at the temperature 0.1, the
    rare class sampling of DAFormer (Hoyer et al. 2022, Eq. 10); one without a pixel never.

    Raises:
        DataError: The manifest does not hold how many pixels each class has.
    """
    counts = () if manifest.statistics is None else manifest.statistics.class_pixels.get(split, ())
    pixels = np.array(counts, np.float64)
    if not pixels.sum():
        raise DataError(f"data.rare_classes with {manifest.path or 'data'} that does not count classes", "a scan")
    chances = np.where(pixels > 0, np.exp((1 - pixels / pixels.sum()) / 0.1), 0.0)
    cumulative: NDArray[np.float64] = np.cumsum(chances / chances.sum())
    cumulative[-1] = np.inf  # rounding must not leave a draw without a class
    return cumulative
