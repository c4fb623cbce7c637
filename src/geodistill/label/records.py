"""What every annotation reader gives: boxes in pixels of their image, and what could not be used, with its reason.

Axes: ``x`` grows to the right and ``y`` downwards, both in pixels of the image; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["hbox", "rbox", "polygon"]
"""``hbox`` horizontal box, ``rbox`` oriented box (any four corners), ``polygon`` outline of the object itself."""

Reason = Literal[
    "malformed",
    "another size",
    "not finite",
    "zero area",
    "outside the image",
    "duplicate",
    "unknown class",
    "difficult",
    "crowd",
    "unreadable image",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Why a box that was read is not used: ``malformed`` where its file writes it in no form that can be read, ``another
size`` where annotations give the image a size that no scaling brings to its own, ``not finite`` where a coordinate is
no number or beyond any image."""

Bounds = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax in pixels."""


@dataclass(frozen=True, eq=False)
class Box:
    """One annotated object.

    Attributes:
        polygon: ``(V, 2)`` float64, x and y in pixels of the image, V >= 3; may reach beyond the image.
        category: Class name.
        difficult: 0 easy, 1 difficult, 2 cut off when the image was split (as DOTA writes it).
        source: Where it was read, for messages: ``file:line`` or ``file:object 3``.
        kind: What the polygon is.
        index: Position among its image's annotations, from 0, counted before anything was dropped.
        segmentation: True mask where the set has one: COCO run lengths ``{"size": [height, width], "counts": text}``
            in the frame of the image, as `geodistill.label.masks.Runs` reads and writes them.
        horizontal: The set's own horizontal box where it has one beside an oriented one (HRSC2016), else ``None``.
    """

    polygon: NDArray[np.float64]
    category: str
    difficult: int
    source: str
    kind: Kind
    index: int = 0
    segmentation: dict[str, Any] | None = None
    horizontal: Bounds | None = None

    @cached_property
    def box(self) -> Bounds:
        """Bounds of the vertices; the papers' RH-Box where the polygon is oriented."""
        (left, top), (right, bottom) = self.polygon.min(axis=0).tolist(), self.polygon.max(axis=0).tolist()
        return left, top, right, bottom

    @property
    def corners(self) -> NDArray[np.float64]:
        """Four corners ``(4, 2)`` of the oriented box: the polygon itself, or its smallest enclosing rectangle."""
        if len(self.polygon) == 4:
            return self.polygon
        # Float32 holds whole pixels to 2**24 only; taking the first vertex as origin keeps fractions.
        origin = self.polygon[0]
        rectangle = cv2.minAreaRect((self.polygon - origin).astype(np.float32))
        corners: NDArray[np.float64] = np.asarray(cv2.boxPoints(rectangle), np.float64) + origin
        return corners


@dataclass(frozen=True)
class Dropped:
    """A box that was read and cannot be used; attributes as those of `Box`, and why."""

    reason: Reason
    category: str
    source: str


@dataclass(frozen=True)
class ImageBoxes:
    """One image with its boxes.

    Attributes:
        key: Names the image: path below the folder of images without suffix, with forward slashes.
        image: The file.
        width: Pixels; 0 where the image cannot be opened.
        height: Pixels; 0 where the image cannot be opened.
        boxes: Usable boxes in the order of the annotation.
        dropped: The others.
        source: The annotation file, or ``None`` where the image has none.
    """

    key: str
    image: Path
    width: int
    height: int
    boxes: tuple[Box, ...]
    dropped: tuple[Dropped, ...]
    source: Path | None


@dataclass(frozen=True)
class Annotations:
    """A detection data set.

    Attributes:
        images: Every image found, sorted by key; those without any annotation have no boxes.
        unmatched: Annotation entries that belong to no image found.
        categories: Class names: as asked for, in the format's own order, or sorted.
    """

    images: tuple[ImageBoxes, ...]
    unmatched: tuple[str, ...]
    categories: tuple[str, ...]


def rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Return the corners ``(4, 2)`` of a horizontal box: top left, top right, bottom right, bottom left."""
    return np.array(((left, top), (right, top), (right, bottom), (left, bottom)), np.float64)


def rotated(x: float, y: float, width: float, height: float, angle: float) -> NDArray[np.float64]:
    """Return the corners ``(4, 2)`` of an oriented box.

    Args:
        x: Centre.
        y: Centre.
        width: Side along the angle, in pixels.
        height: The other side, in pixels.
        angle: Radians from the x axis towards the y axis, which is clockwise as one looks at the image.
    """
    if not math.isfinite(angle):
        return np.full((4, 2), np.nan)
    with np.errstate(invalid="ignore"):  # numbers that are not finite come out as such
        along = np.array((math.cos(angle), math.sin(angle))) * width / 2
        across = np.array((-math.sin(angle), math.cos(angle))) * height / 2
    return np.array((x, y)) + np.stack((-along - across, along - across, along + across, across - along))


def kind_of_corners(corners: NDArray[np.float64], tolerance: float = 1e-3) -> Kind:
    """Tell a horizontal box from an oriented one by its four corners ``(4, 2)``, in any order, in pixels."""
    # Plain numbers: for four corners numpy would take ten times as long, and there may be 100,000 boxes.
    xs, ys = corners.T.tolist()
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    touched = set()
    for x, y in zip(xs, ys, strict=True):
        at_left, at_top = x - left <= tolerance, y - top <= tolerance
        if not (at_left or right - x <= tolerance) or not (at_top or bottom - y <= tolerance):
            return "rbox"
        touched.add((at_left, at_top))
    return "hbox" if len(touched) == 4 else "rbox"
