"""What a reader hands on before anything is judged: objects as the file says, and the image they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.label.boxes.pictures import Picture, Pictures
from geodistill.label.records import Bounds, Kind


@dataclass(frozen=True, eq=False)
class Found:
    """One object as an annotation file says it; attributes as those of `geodistill.label.records.Box`.

    Attributes:
        crowd: Whether it stands for a group that nobody counted (COCO).
    """

    polygon: NDArray[np.float64]
    category: str
    source: str
    kind: Kind
    difficult: int = 0
    segmentation: dict[str, Any] | None = None
    horizontal: Bounds | None = None
    crowd: bool = False


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
    """

    entries: list[Entry] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    categories: tuple[str, ...] | None = None


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
