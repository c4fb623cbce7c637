"""The objects that a mask shows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFTS = 6
"""How often ground is looked for to fill an object with; what is left keeps its own."""


def number_objects(mask: NDArray[np.integer[Any]], counted: NDArray[np.bool_], ground: int) -> NDArray[np.int32]:
    """Number the objects of a mask: connected pixels of any class but ``ground``, what lies between objects.

    Args:
        mask: Class indices ``(H, W)``.
        counted: Which pixels count, ``(H, W)``.
        ground: A class index.

    Returns:
        ``(H, W)``: from 1 in objects, 0 elsewhere.
    """
    numbers = np.zeros(mask.shape, np.int32)
    for index in np.setdiff1d(mask[counted], ground):
        _, parts = cv2.connectedComponents((counted & (mask == index)).astype(np.uint8))
        numbers = np.where(parts > 0, parts + numbers.max(), numbers)
    return numbers


def hollow_objects(
    image: NDArray[np.float32],
    numbers: NDArray[np.int32],
    counted: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Fill some of the objects, up to a rim of one to three pixels, with what lies between objects.

    What an object is then shows in its outline alone, not in what fills it. The filling is the image itself, shifted;
    a pixel stays as it is where no shift of a few brings ground to it.

    Args:
        image: Samples ``(C, H, W)``.
        numbers: `number_objects`' result.
        counted: Which pixels count, as there.
        chosen: Which numbers are filled, ``(N + 1,)``; of 0, which is no object, nothing is.
        rng: Draws the rim's width and the shifts.

    Returns:
        Samples ``(C, H, W)``.
    """
    width = 2 * int(rng.integers(1, 4)) + 1
    labels, around = numbers.astype(np.float32), np.ones((width, width), np.uint8)
    rest = (numbers > 0) & chosen[numbers] & (cv2.dilate(labels, around) == cv2.erode(labels, around))
    ground = counted & (numbers == 0)
    for _ in range(_SHIFTS if rest.any() else 0):
        shift = rng.integers(numbers.shape)
        filled = rest & np.roll(ground, shift, (0, 1))
        image = np.where(filled, np.roll(image, shift, (1, 2)), image)
        rest &= ~filled
    return image
