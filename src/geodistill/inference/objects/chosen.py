"""Which classes of a map are objects, and where these are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import RecipeError, check_name
from geodistill.spec import IGNORE_INDEX, Legend

BOUNDARY_NAMES = ("boundary", "border", "contour", "edge")
"""Names of a class that parts touching objects; one of them is taken for that where it is no object itself."""


@dataclass(frozen=True)
class ObjectClasses:
    """Which classes of a map are objects.

    Attributes:
        indices: The classes.
        squared: Those whose outlines get right angles.
        boundary: The class that parts touching objects, where the model has one.
    """

    indices: Sequence[int]
    squared: Sequence[int]
    boundary: int | None

    def table(self) -> NDArray[np.uint8]:
        """Return ``(256,)``: what regions are traced on. With a boundary class objects and boundary are one region."""
        table = np.full(256, IGNORE_INDEX, np.uint8)
        indices = [*self.indices, *([] if self.boundary is None else [self.boundary])]
        table[indices] = indices if self.boundary is None else 0
        return table


def find_classes(legend: Legend, objects: Sequence[str], squared: Sequence[str] = ()) -> ObjectClasses:
    """Return which classes of a legend are objects.

    Raises:
        UnknownNameError: A name is not in the legend.
        RecipeError: A class is to get right angles that is no object.
    """
    for name in (*objects, *squared):
        check_name("class", name, legend.names)
    if odd := [name for name in squared if name not in objects]:
        raise RecipeError(f"right angles for {odd[0]}", "classes that are objects")
    boundary = next((n for n in legend.names if n.casefold() in BOUNDARY_NAMES and n not in objects), None)
    return ObjectClasses(
        [legend.names.index(name) for name in dict.fromkeys(objects)],
        [legend.names.index(name) for name in squared],
        None if boundary is None else legend.names.index(boundary),
    )


def object_files(classes: Path, kind: str) -> list[Path]:
    """Return where the objects of a map go, and their style where it is a file of its own."""
    path = classes.with_name(f"{classes.stem}_objects.{kind}")
    return [path] if kind == "gpkg" else [path, path.with_suffix(".qml")]
