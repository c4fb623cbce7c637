"""The drawing surface of made-up scenes: colour, class and shadow at twice the resolution, then a sensor's view."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.legend_entries import Colour
from geodistill.synthetic.region import (
    BUILDING,
    CAR,
    IMPERVIOUS,
    LEGEND,
    LOW_VEGETATION,
    SOIL,
    TREE,
    WATER,
    TownRegion,
)

Points = NDArray[np.float64]
"""Corners ``(N, 2)``, or one point ``(2,)``, as x, y."""

OVERSAMPLING = 2
"""Canvas samples a pixel and axis."""

SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""

TEXTURE: dict[int, tuple[float, float, float]] = {
    IMPERVIOUS: (0.025, 0.035, 0.045),
    BUILDING: (0.030, 0.025, 0.020),
    LOW_VEGETATION: (0.050, 0.070, 0.080),
    TREE: (0.130, 0.080, 0.050),
    CAR: (0.010, 0.010, 0.000),
    WATER: (0.012, 0.015, 0.060),
    SOIL: (0.045, 0.060, 0.075),
}
"""Relative brightness variation of each class at about 1 pixel, 1.5 metres and 20 metres."""

SHADOW_TINT = (0.40, 0.44, 0.52)
"""What is left of each band in full shadow: sky light is blue."""


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour that many times as bright."""
    r, g, b = (min(255, max(0, round(c * factor))) for c in colour)
    return r, g, b


class Canvas:
    """Three layers of one scene, drawn in pixels of the finished image (x right, y down, corners at integers).

    Image and mask come from the same filled shapes, so they agree to half a pixel. All begins as ground of one class.
    """

    def __init__(self, height: int, width: int, ground: Colour, label: int) -> None:
        size = (height * OVERSAMPLING, width * OVERSAMPLING)
        self.height, self.width = height, width
        self.colour = np.full((*size, 3), ground, np.uint8)
        self.label = np.full(size, label, np.uint8)
        self.shadow = np.zeros(size, np.uint8)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        fixed: NDArray[np.int32] = np.round((points * OVERSAMPLING - 0.5) * (1 << SHIFT)).astype(np.int32)
        return fixed

    def sees(self, points: Points, margin: float = 0.0) -> bool:
        """Return whether the bounding box of ``points`` comes within ``margin`` pixels of the image."""
        (left, top), (right, bottom) = points.min(0) - margin, points.max(0) + margin
        return bool(left < self.width and right > 0 and top < self.height and bottom > 0)

    def fill(self, points: Points, colour: Colour, label: int | None = None) -> None:
        """Fill a polygon with a colour and, where given, a class."""
        if self.sees(points):
            fixed = [self._fixed(points)]
            cv2.fillPoly(self.colour, fixed, colour, cv2.LINE_8, SHIFT)
            if label is not None:
                cv2.fillPoly(self.label, fixed, label, cv2.LINE_8, SHIFT)

    def disc(self, centre: Points, radius: float, colour: Colour, label: int | None = None) -> None:
        """Fill a circle (radius in pixels) with a colour and, where given, a class."""
        x, y = self._fixed(centre)
        at, size = (int(x), int(y)), round(radius * OVERSAMPLING * (1 << SHIFT))
        cv2.circle(self.colour, at, size, colour, cv2.FILLED, cv2.LINE_8, SHIFT)
        if label is not None:
            cv2.circle(self.label, at, size, label, cv2.FILLED, cv2.LINE_8, SHIFT)

    def darken(self, points: Points, depth: int = 255) -> None:
        """Set the shadow inside a polygon: 0 none, 255 full."""
        if self.sees(points):
            cv2.fillPoly(self.shadow, [self._fixed(points)], depth, cv2.LINE_8, SHIFT)

    def darken_disc(self, centre: Points, radius: float, depth: int = 255) -> None:
        """Set the shadow inside a circle: 0 none, 255 full."""
        x, y = self._fixed(centre)
        size = round(radius * OVERSAMPLING * (1 << SHIFT))
        cv2.circle(self.shadow, (int(x), int(y)), size, depth, cv2.FILLED, cv2.LINE_8, SHIFT)

    def mask(self) -> NDArray[np.uint8]:
        """Return the classes at image resolution: ``(H, W)`` uint8."""
        return np.ascontiguousarray(self.label[1::OVERSAMPLING, 1::OVERSAMPLING])

    def render(self, region: TownRegion, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return what the region's sensor sees: texture, shadow, haze, blur and noise; ``(3, H, W)`` uint8."""
        size = (self.width, self.height)
        image = cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        light = 1 + self._texture(region, rng)
        shadow = cv2.resize(self.shadow, size, interpolation=cv2.INTER_AREA)
        shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.25 / region.gsd, 0.4)).astype(np.float32) / 255
        for band, (tint, (factor, offset)) in enumerate(zip(SHADOW_TINT, region.haze, strict=True)):
            image[..., band] *= light * (factor * (1 - (1 - tint) * shadow))
            image[..., band] += offset
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), region.blur), np.float32)
        image += region.noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.ascontiguousarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8).transpose(2, 0, 1))

    def _texture(self, region: TownRegion, rng: np.random.Generator) -> NDArray[np.float32]:
        mask = self.mask()
        table = np.array([TEXTURE[label] for label in range(len(LEGEND))], np.float32)
        texture = np.zeros(mask.shape, np.float32)
        for level, metres in enumerate((0.0, 1.5, 20.0)):
            amplitude = np.zeros(256, np.float32)
            amplitude[: len(table)] = table[:, level]
            texture += smooth_noise(self.height, self.width, metres / region.gsd, rng) * cv2.LUT(mask, amplitude)
        return texture


def smooth_noise(height: int, width: int, grain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of zero mean, about unit standard deviation and grains of that many pixels: ``(H, W)`` float32."""
    if grain < 1.5:
        return rng.standard_normal((height, width), dtype=np.float32)
    rows, cols = math.ceil(height / grain) + 3, math.ceil(width / grain) + 3
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    fine = cv2.resize(coarse, (round(cols * grain), round(rows * grain)), interpolation=cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, max(1, round(grain)))) for _ in range(2))
    noise: NDArray[np.float32] = fine[top : top + height, left : left + width] * 1.25
    return noise
