"""Boxes in pixels of their image: what every annotation reader returns, the regions they cover, those of a window.

Axes: ``x`` grows to the right and ``y`` downwards, both in pixels of the image; pixel (0, 0) covers [0, 1) x [0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.errors import RecipeError
from geodistill.label.masks import Runs, crop_runs
from geodistill.raster import Window

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
        holes: ``(V, 2)`` float64 each, rings of an outline that the object leaves out; they may reach beyond the image.
    """

    polygon: NDArray[np.float64]
    category: str
    difficult: int
    source: str
    kind: Kind
    index: int = 0
    segmentation: dict[str, Any] | None = None
    horizontal: Bounds | None = None
    holes: tuple[NDArray[np.float64], ...] = ()

    @cached_property
    def box(self) -> Bounds:
        """Bounds of the vertices; the papers' RH-Box where the polygon is oriented."""
        (left, top), (right, bottom) = self.polygon.min(axis=0).tolist(), self.polygon.max(axis=0).tolist()
        return left, top, right, bottom

    @property
    def hbox(self) -> Bounds:
        """The set's own horizontal box where it has one, else the bounds of the vertices: the papers' H-Box."""
        return self.horizontal or self.box

    @property
    def corners(self) -> NDArray[np.float64]:
        """Vertices ``(V, 2)`` of the oriented box as a prompt: as it is clipped, or the smallest one around an outline.

        A border leaves an oriented box three to eight corners; a rectangle around these covers more than the box.
        """
        return self.rbox if self.kind == "polygon" else self.polygon

    @property
    def rbox(self) -> NDArray[np.float64]:
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
        gsd: Metres per pixel that the annotation file says.
    """

    key: str
    image: Path
    width: int
    height: int
    boxes: tuple[Box, ...]
    dropped: tuple[Dropped, ...]
    gsd: float | None = None


@dataclass(frozen=True)
class Annotations:
    """A detection data set.

    Attributes:
        images: Every image found, sorted by key; those without any annotation have no boxes.
        unmatched: Annotation entries that belong to no image found.
        categories: Class names: as asked for, in the format's own order, or sorted.
        files: Every file with annotations of these images.
        lists: Every other file that was read, such as a list of classes.
        reading: In what way the set is read, where the same files were once read otherwise.
    """

    images: tuple[ImageBoxes, ...]
    unmatched: tuple[str, ...]
    categories: tuple[str, ...]
    files: tuple[Path, ...]
    lists: tuple[Path, ...] = ()
    reading: str = ""


def rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Return the corners ``(4, 2)`` of a horizontal box: top left, top right, bottom right, bottom left."""
    return np.array(((left, top), (right, top), (right, bottom), (left, bottom)), np.float64)


def rotated(x: float, y: float, width: float, height: float, angle: float) -> NDArray[np.float64]:
    """Return the corners ``(4, 2)`` of an oriented box about its centre ``x, y``; its width lies along the angle.

    The angle is in radians from the x axis towards the y axis, which is clockwise as one looks at the image.
    """
    if not math.isfinite(angle):
        return np.full((4, 2), np.nan)
    with np.errstate(invalid="ignore"):  # numbers that are not finite come out as such
        along = np.array((math.cos(angle), math.sin(angle))) * width / 2
        across = np.array((-math.sin(angle), math.cos(angle))) * height / 2
    return np.array((x, y)) + np.stack((-along - across, along - across, along + across, across - along))


_UPRIGHT = 1e-3
"""Pixels by which corners may miss the edges of a horizontal box."""


def kind_of_corners(corners: NDArray[np.float64]) -> Kind:
    """Tell a horizontal box from an oriented one by its four corners ``(4, 2)``, in any order, in pixels."""
    # Plain numbers: for four corners numpy would take ten times as long, and there may be 100,000 boxes.
    xs, ys = corners.T.tolist()
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    touched = set()
    for x, y in zip(xs, ys, strict=True):
        at_left, at_top = x - left <= _UPRIGHT, y - top <= _UPRIGHT
        if not (at_left or right - x <= _UPRIGHT) or not (at_top or bottom - y <= _UPRIGHT):
            return "rbox"
        touched.add((at_left, at_top))
    return "hbox" if len(touched) == 4 else "rbox"


Shapes = NDArray[np.object_]
"""``(N,)`` shapely polygons."""


SMALLEST = 1e-4
"""Square pixels; what is smaller has no area: a hundredth of a pixel squared, far above the noise of reprojection."""


FAR = 1e8
"""Pixels; coordinates beyond are on no image, and would overflow in the arithmetic of overlays."""


def bounds_of(polygons: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return ``(N, 4)`` float64: xmin, ymin, xmax, ymax of each polygon ``(V, 2)``; NaN where a vertex is NaN."""
    if not polygons:
        return np.zeros((0, 4))
    vertices = np.concatenate(polygons)
    firsts = np.cumsum([0, *(len(polygon) for polygon in polygons[:-1])])
    with np.errstate(invalid="ignore"):
        low, high = np.minimum.reduceat(vertices, firsts), np.maximum.reduceat(vertices, firsts)
    return np.concatenate([low, high], axis=1)


def hulls(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Return the convex hull of each polygon: the region of a box, in whatever order its corners are written."""
    return np.asarray(shapely.convex_hull(_joined(shapely.linestrings, polygons)), object)


def outlines(polygons: Sequence[NDArray[np.float64]]) -> Shapes:
    """Return each polygon as it is, mended where it crosses itself."""
    shapes = np.asarray(shapely.polygons(_joined(shapely.linearrings, polygons)), object)
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    return shapes


def regions(polygons: Sequence[NDArray[np.float64]], boxes: Sequence[bool]) -> Shapes:
    """Return the region of each polygon: the hull where ``boxes`` says that it is a box, else its outline."""
    shapes = np.empty(len(polygons), object)
    is_box = np.asarray(boxes, bool)
    for chosen, shape in ((is_box, hulls), (~is_box, outlines)):
        places = np.flatnonzero(chosen)
        if len(places):
            shapes[places] = shape([polygons[place] for place in places.tolist()])
    return shapes


def outer_ring(shape: Any) -> NDArray[np.float64]:
    """Return the vertices ``(V, 2)`` of a region's outer line without the closing one; of several parts, the hull's.

    The region must have an area.
    """
    shape = areal(shape)
    if shape.geom_type != "Polygon":
        shape = shape.convex_hull
    ring: NDArray[np.float64] = np.asarray(shapely.get_coordinates(shape.exterior), np.float64)[:-1]
    return ring


def areal(shape: Any) -> Any:
    """Return the parts of a region that have an area: clipping leaves lines and points where it only touches."""
    parts = [part for part in shapely.get_parts(shape, return_index=False) if part.geom_type != "GeometryCollection"]
    kept = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon") and not part.is_empty]
    return kept[0] if len(kept) == 1 else shapely.union_all(kept)


def _joined(make: Any, polygons: Sequence[NDArray[np.float64]]) -> Any:
    """Make one geometry per polygon, all in one call."""
    belongs = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    return make(np.concatenate(polygons), indices=belongs)


def boxes_in(boxes: Sequence[Box], window: Window, share: float) -> list[Box]:
    """Return the boxes that belong to a window of their image, moved to its frame and clipped to it.

    A box belongs where at least ``share`` (0..1) of its area lies inside; with 0, whatever has any area inside. The
    order stays, index and source too; true masks and the set's own horizontal boxes are clipped as well.

    Raises:
        RecipeError: The share is not within 0..1.
    """
    if not 0 <= share <= 1:
        raise RecipeError(f"share {share:g} of a box", "0..1")
    if not boxes:
        return []
    left, top, right, bottom = window.col, window.row, window.col + window.width, window.row + window.height
    bounds = np.array([box.box for box in boxes])
    meets = (bounds[:, :2] < (right, bottom)).all(axis=1) & (bounds[:, 2:] > (left, top)).all(axis=1)
    near = [boxes[at] for at in np.flatnonzero(meets).tolist()]
    if not near:
        return []
    shapes = regions([box.polygon for box in near], [box.kind != "polygon" for box in near])
    clipped = shapely.clip_by_rect(shapes, left, top, right, bottom)
    areas, inside = shapely.area(shapes), shapely.area(clipped)
    # Rounding must not lose a box that lies inside whole.
    belongs = (inside >= SMALLEST) & (inside >= share * areas * (1 - 1e-9))
    return [_moved(near[at], clipped[at], window) for at in np.flatnonzero(belongs).tolist()]


def _moved(box: Box, clipped: Any, window: Window) -> Box:
    low, high = (window.col, window.row), (window.col + window.width, window.row + window.height)
    left, top, right, bottom = box.box
    polygon = box.polygon
    if left < low[0] or top < low[1] or right > high[0] or bottom > high[1]:
        polygon = outer_ring(areal(clipped))
    segmentation = box.segmentation
    if segmentation is not None and (low, high) != ((0, 0), (segmentation["size"][1], segmentation["size"][0])):
        segmentation = crop_runs(Runs.from_coco(segmentation), window).to_coco()
    horizontal = None if box.horizontal is None else _clip(box.horizontal, window)
    holes = tuple(hole - low for hole in box.holes)
    return replace(box, polygon=polygon - low, segmentation=segmentation, horizontal=horizontal, holes=holes)


def _clip(bounds: Bounds, window: Window) -> Bounds | None:
    left, top, right, bottom = bounds
    left, right = (min(max(x - window.col, 0), window.width) for x in (left, right))
    top, bottom = (min(max(y - window.row, 0), window.height) for y in (top, bottom))
    return (left, top, right, bottom) if right > left and bottom > top else None
