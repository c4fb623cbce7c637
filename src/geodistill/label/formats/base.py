"""What a reader hands on before anything is judged: objects as the file says, and the image they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.label.formats.images import Picture, Pictures
from geodistill.label.records import Bounds, Kind, Reason

Scale = tuple[float, float]
"""By what x and y of annotations are multiplied to be pixels of the image file."""


@dataclass(frozen=True, eq=False)
class Found:
    """One object as an annotation file says it; attributes as those of `geodistill.label.records.Box`.

    Attributes:
        crowd: Whether it stands for a group that nobody counted (COCO).
        fault: Why an object cannot be used whatever its polygon, or ``None``.
        reason: Under which reason one with a fault is counted.
    """

    polygon: NDArray[np.float64]
    category: str
    source: str
    kind: Kind
    difficult: int = 0
    segmentation: dict[str, Any] | None = None
    horizontal: Bounds | None = None
    crowd: bool = False
    fault: DataError | None = None
    reason: Reason = "malformed"

    def scaled(self, scale: Scale) -> Found:
        """Return the object with polygon and horizontal box scaled; a mask is in the frame of the file already."""
        if scale == (1.0, 1.0):
            return self
        (x, y), horizontal = scale, self.horizontal
        if horizontal is not None:
            horizontal = (horizontal[0] * x, horizontal[1] * y, horizontal[2] * x, horizontal[3] * y)
        return replace(self, polygon=self.polygon * scale, horizontal=horizontal)


def attempt(make: Callable[[], Found], source: str, category: str | None = None) -> Found:
    """Return what ``make`` returns; where it raises a DataError, an object that will be dropped as malformed."""
    try:
        return make()
    except DataError as error:
        return lost(error, source, category)


def lost(error: DataError, source: str, category: str | None, reason: Reason = "malformed") -> Found:
    """Return an object that will be dropped, with no place."""
    return Found(np.full((4, 2), np.nan), category or NO_CLASS, source, "hbox", fault=error, reason=reason)


NO_CLASS = "(no class)"
"""Class under which objects are counted that name none."""


@dataclass(frozen=True)
class Entry:
    """Everything that one file says about one image."""

    picture: Picture
    source: Path
    objects: Sequence[Found]


@dataclass
class Read:
    """What a reader found.

    Attributes:
        entries: One an image that has annotations, even empty ones.
        unmatched: Annotation entries without an image.
        categories: Class names in the format's own order, or ``None`` where it has no list of them.
        faults: What is wrong with objects that are unmatched because they cannot be read.
    """

    entries: list[Entry] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    categories: tuple[str, ...] | None = None
    faults: list[DataError] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What a person may say about the annotations.

    Attributes:
        categories: Classes wanted, or ``None`` for all.
        category_field: Where an object's class stands, in formats that leave it open (GeoJSON, GeoPackage) or have
            more than one (HRSC2016).
        progress: Show a progress bar on a terminal.
    """

    categories: tuple[str, ...] | None = None
    category_field: str | None = None
    progress: bool = False


Reader = Callable[[Path, Pictures, Options], Read]
"""A format: reads a place with annotations (file or folder) over these images."""
