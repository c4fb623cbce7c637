"""The prompts that a promptable segmenter gets for each box: the SAMRS paper's six prompts and their combinations.

``cp`` centre point, ``hbox`` horizontal box (H-Box), ``rhbox`` bounds of the oriented box (RH-Box), ``hbox-mask``,
``rbox-mask`` and ``rhbox-mask`` the same boxes and the oriented box (R-Box) as filled mask prompts.
Axes: ``N`` boxes, ``V`` vertices; x to the right and y downwards, in pixels of the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.label.records import Bounds, Box, rectangle

PROMPTS = ("cp", "hbox", "rhbox", "hbox-mask", "rbox-mask", "rhbox-mask")
"""Kinds of prompts; the first is a point, the next two are boxes, the last three are masks."""

AUTO = "auto"
"""The H-Box where the set has one, else the RH-Box."""

COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("cp",),
    ("hbox",),
    ("hbox-mask",),
    ("cp", "hbox"),
    ("hbox", "hbox-mask"),
    ("cp", "hbox-mask"),
    ("cp", "hbox", "hbox-mask"),
    ("rbox-mask",),
    ("cp", "rbox-mask"),
    ("rhbox",),
    ("rhbox-mask",),
    ("cp", "rhbox"),
    ("rhbox", "rhbox-mask"),
    ("cp", "rhbox-mask"),
    ("cp", "rhbox", "rhbox-mask"),
)
"""The fifteen rows of the SAMRS paper's table 1, in its order."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of ``N`` objects of one tile; what is not used is ``None``, and at least one of the three is used.

    Attributes:
        points: ``(N, 2)`` float32 x, y of one foreground point each.
        boxes: ``(N, 4)`` float32 xmin, ymin, xmax, ymax.
        polygons: ``N`` arrays ``(V, 2)`` float64, outlines that are filled to mask prompts.
        outlines: ``N`` arrays ``(V, 2)`` float64, the annotated shapes themselves. No prompt of the papers; segmenters
            without weights fill them (`box`).
    """

    points: NDArray[np.float32] | None = None
    boxes: NDArray[np.float32] | None = None
    polygons: tuple[NDArray[np.float64], ...] | None = None
    outlines: tuple[NDArray[np.float64], ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.points, self.boxes, self.polygons) if part is not None}
        if len(lengths) != 1:
            raise ValueError(f"prompts for {sorted(lengths)} objects; expected points, boxes or polygons, equally many")

    def __len__(self) -> int:
        """Return the number of objects."""
        return next(len(part) for part in (self.boxes, self.points, self.polygons) if part is not None)

    def part(self, first: int, last: int) -> Prompts:
        """Return the prompts of the objects ``first`` to before ``last``."""
        chosen = slice(first, last)
        return replace(
            self,
            points=None if self.points is None else self.points[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
            polygons=None if self.polygons is None else self.polygons[chosen],
            outlines=None if self.outlines is None else self.outlines[chosen],
        )


def parse_prompt(text: str) -> tuple[str, ...]:
    """Read ``auto`` or prompts joined by ``+``, such as ``cp+hbox+hbox-mask``.

    Raises:
        UnknownNameError: A prompt has no such name.
        RecipeError: Two points, two boxes or two masks are combined; a segmenter takes one of each.
    """
    kinds = tuple(part.strip() for part in text.split("+"))
    if kinds == (AUTO,):
        return kinds
    for kind in kinds:
        if kind not in PROMPTS:
            mend = f"{AUTO} stands alone" if kind == AUTO else "join several with +"
            raise UnknownNameError("prompt", kind, PROMPTS, mend)
    groups = [_group(kind) for kind in kinds]
    if len(set(groups)) != len(groups):
        raise RecipeError(f"prompt {text!r}", "at most one point, one box and one mask")
    return kinds


def build_prompts(boxes: Sequence[Box], kinds: tuple[str, ...]) -> Prompts:
    """Turn boxes into prompts.

    Args:
        boxes: Objects of one tile, in its pixels, clipped to it; at least one.
        kinds: As `parse_prompt` gives them.

    Raises:
        UnknownNameError: A prompt has no such name.
        ValueError: There are no boxes.
    """
    if not boxes:
        raise ValueError("no boxes to make prompts of")
    points, bounds, polygons = None, None, None
    for kind in ("hbox",) if kinds == (AUTO,) else kinds:
        if kind == "cp":
            points = np.array([_centre(box.box) for box in boxes], np.float32)
        elif kind in _BOUNDS:
            bounds = np.array([_BOUNDS[kind](box) for box in boxes], np.float32)
        elif kind in _OUTLINES:
            polygons = tuple(_OUTLINES[kind](box) for box in boxes)
        else:
            raise UnknownNameError("prompt", kind, (*PROMPTS, AUTO))
    return Prompts(points, bounds, polygons, tuple(box.polygon for box in boxes))


def _group(kind: str) -> str:
    return "mask" if kind.endswith("-mask") else "point" if kind == "cp" else "box"


def _centre(bounds: Bounds) -> tuple[float, float]:
    left, top, right, bottom = bounds
    return (left + right) / 2, (top + bottom) / 2


def _horizontal(box: Box) -> Bounds:
    return box.horizontal or box.box


def _bounds(box: Box) -> Bounds:
    return box.box


def _corners(box: Box) -> NDArray[np.float64]:
    return box.corners


_BOUNDS: dict[str, Callable[[Box], Bounds]] = {"hbox": _horizontal, "rhbox": _bounds}
_OUTLINES: dict[str, Callable[[Box], NDArray[np.float64]]] = {
    "hbox-mask": lambda box: rectangle(*_horizontal(box)),
    "rbox-mask": _corners,
    "rhbox-mask": lambda box: rectangle(*_bounds(box)),
}
