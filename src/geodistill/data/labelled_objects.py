"""The objects that a mask shows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def number_objects(mask: NDArray[np.integer[Any]], counted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the objects of a mask: connected pixels of any class but its most frequent one.

    Args:
        mask: Class indices ``(H, W)``.
        counted: Which pixels count, ``(H, W)``.

    Returns:
        ``(H, W)``: from 1 in objects, 0 elsewhere.
    """
    numbers = np.zeros(mask.shape, np.int32)
    present, pixels = np.unique(mask[counted], return_counts=True)
    for index in np.delete(present, pixels.argmax()) if len(present) else ():
        _, parts = cv2.connectedComponents((counted & (mask == index)).astype(np.uint8))
        numbers = np.where(parts > 0, parts + numbers.max(), numbers)
    return numbers
