"""Smaller maps of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geodistill.spec import IGNORE_INDEX


def majority(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class that most of each 2 x 2 pixels have: ``(H, W)`` uint8 -> half as many rows and columns.

    Pixels without data do not count where others have some; of classes as frequent, the first in reading order is
    taken. An odd last row or column stands for two.
    """
    height, width = classes.shape
    if height % 2 or width % 2:
        classes = np.pad(classes, ((0, height % 2), (0, width % 2)), mode="edge")
    parts = [classes[row::2, col::2] for row in (0, 1) for col in (0, 1)]
    best, most = parts[0].copy(), None
    for index, part in enumerate(parts):
        votes = np.zeros(part.shape, np.int8)
        for other, theirs in enumerate(parts):
            votes += (part == theirs) & (other != index)
        votes[part == IGNORE_INDEX] = -1
        if most is None:
            most = votes
            continue
        np.copyto(best, part, where=votes > most)
        np.maximum(most, votes, out=most)
    return best
