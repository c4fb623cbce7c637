"""What images go through on their way to a deployed model, as functions of pixels, and how maps come back from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""``(C, H, W)``, sensor units; 0 where there is no data."""

Valid = NDArray[np.bool_]
"""``(H, W)``: where there is data."""

Change = Callable[[Image, Valid, np.random.Generator], tuple[Image, Valid]]
"""Returns the changed image, and where that has data; what it measures, it measures where there is some."""

SHIFT = 7
"""Pixels of the shift: no multiple of any network's stride."""

_BYTE = 255.0


@dataclass(frozen=True)
class Perturbation:
    """One change of images.

    Attributes:
        name: What it is called in tables.
        change: The changed image; of the same size unless ``back`` says otherwise.
        back: Brings ``(H, W)`` classes of the changed image onto the pixels of a shape ``(H, W)``, 255 where there are
            none; ``None`` where they lie there already.
    """

    name: str
    change: Change
    back: Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]] | None = None


def shifted(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Return the image without its first rows and columns."""
    return image[:, SHIFT:, SHIFT:], valid[SHIFT:, SHIFT:]


def unshifted(classes: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return classes where they were before `shifted`."""
    whole = np.full(shape, 255, np.uint8)
    whole[SHIFT:, SHIFT:] = classes
    return whole


def turned(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Return the image turned by 90 degrees."""
    return np.rot90(image, 1, (1, 2)), np.rot90(valid)


def times(factor: float) -> Change:
    """Return a change that multiplies samples, as brighter and darker light does."""
    return lambda image, valid, rng: (image * np.float32(factor), valid)


def known_samples(image: Image, valid: Valid) -> Image:
    """Return the samples of an image that are data, ``(C, 1, N)``; all where none are."""
    return (image[:, valid] if valid.any() else image.reshape(len(image), -1))[:, None]


def noisy(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Add normal noise of a tenth of each band's own deviation."""
    deviation = known_samples(image, valid).std(2, keepdims=True) / 10
    noise: Image = (rng.standard_normal(image.shape) * deviation).astype(np.float32)
    return image + noise, valid


def hazy(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Mix in 30 percent of a white veil: the 98th percentile of each band (transmission 0.7)."""
    veil = np.percentile(known_samples(image, valid), 98, axis=2, keepdims=True)
    mixed: Image = (0.7 * image + 0.3 * veil).astype(np.float32)
    return mixed, valid


def jpeg(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Return what JPEG of quality 50 leaves: of three 8-bit bands together, else of each band alone, in 256 steps."""
    samples = known_samples(image, valid)
    low, high = samples.min(2, keepdims=True), samples.max(2, keepdims=True)
    if low.min() >= 0 and _BYTE / 4 <= high.max() <= _BYTE:
        low, high = np.zeros_like(low), np.full_like(high, _BYTE)
    span = np.maximum(high - low, 1e-12)
    steps = np.rint((image - low) / span * _BYTE).clip(0, _BYTE).astype(np.uint8)
    groups = [steps] if len(steps) == 3 and (high == _BYTE).all() else [band[None] for band in steps]
    back = []
    for group in groups:
        # OpenCV takes and returns BGR, and JPEG keeps red better than blue.
        bgr = np.ascontiguousarray(np.moveaxis(group[::-1], 0, -1))
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
        back.append(np.moveaxis(np.atleast_3d(pixels), -1, 0)[::-1])
    pictured: Image = np.concatenate(back).astype(np.float32) / np.float32(_BYTE) * span + low
    return pictured.astype(np.float32), valid


def at_distance(factor: float) -> Change:
    """Return a change of the ground sampling distance: pixels of ``factor`` times the side, means or interpolated.

    Of what is data: a pixel that is not, by half or more of it, is none.
    """

    def change(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
        height, width = (max(round(side / factor), 1) for side in valid.shape)
        how = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
        known = valid.astype(np.float32)
        *bands, share = (cv2.resize(band, (width, height), interpolation=how) for band in (*(image * known), known))
        return np.stack(bands) / np.maximum(share, 0.5, dtype=np.float32), share > 0.5

    return change


def enlarged(classes: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the class of the pixel that each pixel of a shape lies in."""
    rows, cols = ((np.arange(new) + 0.5) * old / new for new, old in zip(shape, classes.shape, strict=True))
    picked: NDArray[np.uint8] = classes[rows.astype(int)[:, None], cols.astype(int)]
    return picked


def swapped(image: Image, valid: Valid, rng: np.random.Generator) -> tuple[Image, Valid]:
    """Return the bands in the opposite order, as BGR for RGB."""
    return image[::-1], valid


PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation(f"shifted by {SHIFT} pixels", shifted, unshifted),
    Perturbation("turned by 90 degrees", turned, lambda classes, shape: np.rot90(classes, -1)),
    Perturbation("brighter, x 1.25", times(1.25)),
    Perturbation("darker, x 0.8", times(0.8)),
    Perturbation("noise, 0.1 of a deviation", noisy),
    Perturbation("haze, 30 percent", hazy),
    Perturbation("JPEG, quality 50", jpeg),
    Perturbation("0.5 times the distance", at_distance(0.5), enlarged),
    Perturbation("0.75 times the distance", at_distance(0.75), enlarged),
    Perturbation("1.5 times the distance", at_distance(1.5), enlarged),
    Perturbation("2 times the distance", at_distance(2.0), enlarged),
    Perturbation("bands swapped", swapped),
)
"""All that are tried, in the order of the table."""


def within(image: Image, like: NDArray[Any]) -> Image:
    """Return samples rounded and clipped to what the file's sample type can hold."""
    if like.dtype.kind not in "iu":
        return np.ascontiguousarray(image, np.float32)
    bounds = np.iinfo(like.dtype)
    return np.rint(np.ascontiguousarray(image)).clip(bounds.min, bounds.max).astype(np.float32)
