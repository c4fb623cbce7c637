"""What annotation readers share: images found by name and compared in size, objects as a file says them."""

from __future__ import annotations

import math
import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.data.splits import folder_splits
from geodistill.errors import DataError, GeodistillWarning
from geodistill.files import files_below
from geodistill.label.boxes import Bounds, Kind, Reason
from geodistill.raster import IMAGE_SUFFIXES, Grid, Raster


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file; opened when its size is first asked for.

    Attributes:
        key: Path below the folder of images without suffix, with forward slashes.
        path: The file.
    """

    key: str
    path: Path

    @cached_property
    def grid(self) -> Grid | None:
        """Size and place on the ground, or ``None`` where the file cannot be opened."""
        try:
            with Raster(self.path) as raster:
                return raster.grid
        except DataError:
            return None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, or ``None`` where the file cannot be opened."""
        return None if self.grid is None else (self.grid.width, self.grid.height)

    @property
    def turned(self) -> bool:
        """Whether the stored picture lies otherwise than viewers show it, by its EXIF orientation."""
        try:
            with Raster(self.path) as raster:
                return raster.turned
        except DataError:
            return False


class Pictures:
    """All images of a folder and its subfolders, or one image file.

    Args:
        place: The folder or file.

    Raises:
        DataError: The place is missing, holds no image, or two images have one key.
    """

    def __init__(self, place: Path) -> None:
        self.place = Path(os.path.abspath(place))  # noqa: PTH100 - linked folders keep the name they were given by
        if not self.place.exists():
            raise DataError(f"no images at {place}", "a folder of images or an image file")
        paths = files_below(self.place, IMAGE_SUFFIXES)
        if not paths:
            raise DataError(f"no image in {place}", f"files {', '.join(IMAGE_SUFFIXES)}")
        self._root = root = self.place if self.place.is_dir() else self.place.parent
        pictures: dict[str, Picture] = {}
        for path in paths:
            key = path.relative_to(root).with_suffix("").as_posix()
            if key in pictures:
                raise DataError(f"{pictures[key].path} and {path.name}", "one image of a name", "move one elsewhere")
            pictures[key] = Picture(key, path)
        self.all = tuple(pictures[key] for key in sorted(pictures))
        self._by_stem: dict[str, list[Picture]] = defaultdict(list)
        for picture in self.all:
            self._by_stem[_folded(picture.path.stem)].append(picture)

    def find(self, name: str, source: Path, below: str = "") -> Picture | None:
        """Return the image of a name, with or without folders and suffix, or ``None``.

        Where several folders hold an image of that name, the one whose path ends like the name wins, then one in
        the subfolder ``below`` (that of the annotation file), then the one whose path has most in common with that of
        the annotation file, ``source``. Where a folder of the name, or else of ``below``, is that of a split, an image
        that lies in a folder called alike but for the split is not meant: sets number the images of every split from 1.

        Raises:
            DataError: Several images fit equally well.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        last = parts.pop()
        named = Path(last)
        candidates = self._by_stem.get(_folded(named.stem), []) if named.suffix.lower() in IMAGE_SUFFIXES else []
        # A name may hold dots of its own: P0003.v2 is a stem, not a file of kind v2.
        candidates = candidates or self._by_stem.get(_folded(last), [])
        folders = Path(os.path.abspath(source)).parts  # noqa: PTH100
        # A folder that holds the annotations too says nothing of either, nor do those above the images' place.
        root = () if self._root.parts == folders[: len(self._root.parts)] else (self._root.name,)
        meant = {**folder_splits(below.split("/")), **folder_splits(parts)}
        candidates = [picture for picture in candidates if _may_mean(meant, picture.key.split("/")[:-1], root)]
        if len(candidates) < 2:
            return candidates[0] if candidates else None

        def likeness(picture: Picture) -> tuple[int, bool, int]:
            folders_of = picture.path.parent.parts
            tail = _equal(reversed(folders_of), reversed(parts))
            parent = picture.key.rpartition("/")[0]
            return tail, parent == below, _equal(folders_of, folders)

        ranked = sorted(candidates, key=likeness, reverse=True)
        if likeness(ranked[0]) == likeness(ranked[1]):
            both = " and ".join(str(picture.path) for picture in ranked[:2])
            raise DataError(f"{source}: {name!r} could be {both}", "one image of that name", "label them separately")
        return ranked[0]


def _may_mean(meant: dict[str, set[str]], folders: Sequence[str], root: Sequence[str]) -> bool:
    """Whether an image in these folders, or else this root, is of no other split than the one meant."""
    splits = {**folder_splits(root), **folder_splits(folders)}
    return not any(meant[rest].isdisjoint(splits[rest]) for rest in meant.keys() & splits.keys())


def _equal(first: Iterable[str], second: Iterable[str]) -> int:
    """Count how many parts are equal from the beginning."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))))


def _folded(stem: str) -> str:
    """Archives made on a Mac write an accent as a character of its own."""
    return unicodedata.normalize("NFC", stem)


Scale = tuple[float, float]
"""By what x and y of annotations are multiplied to be pixels of the image file."""

SAME: Scale = (1.0, 1.0)

_LARGEST = 1e7
"""Pixels of a side; what says more is no size."""


class Frames:
    """Compares sizes image by image, and tells at the end how many images were annotated at another size."""

    def __init__(self) -> None:
        self._scaled: list[str] = []

    def scale(self, picture: Picture, width: object, height: object, source: Path) -> Scale:
        """Return by what annotated x and y are multiplied: the ratios of the sides, where these agree to a pixel.

        Width and height are pixels as the file ``source`` writes them. Where they are missing, 0 or no numbers they say
        nothing; nor can an image be compared that cannot be opened.

        Raises:
            DataError: The image has another aspect ratio, for example because one of the two is turned or cut off; at
                which end it was cut, nobody knows.
        """
        across, down = side(width), side(height)
        if picture.size is None or across is None or down is None or picture.size == (across, down):
            return SAME
        own_across, own_down = picture.size
        if not _alike(across, down, own_across, own_down):
            raise DataError(
                f"{source} speaks of {across:g} x {down:g} pixels, {picture.path} has {own_across} x {own_down}"
                + _turned(picture, across, down),
                "one size, or one aspect ratio",
                "give the images that were annotated, as they were shown",
            )
        self._scaled.append(
            f"{picture.path.name} is {own_across} x {own_down} and was annotated at {across:g} x {down:g}"
        )
        return own_across / across, own_down / down

    def tell(self) -> None:
        """Warn where boxes were scaled."""
        if self._scaled:
            warnings.warn(
                f"boxes of {len(self._scaled)} images were scaled to another size ({self._scaled[0]})",
                GeodistillWarning,
                stacklevel=3,
            )


def side(value: object) -> float | None:
    """Return a side in pixels as annotations write it, number or text; ``None`` where it says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 < number < _LARGEST else None


def _alike(across: float, down: float, own_across: float, own_down: float) -> bool:
    """Whether two sizes have one aspect ratio: a side follows from the other to a pixel, in either frame."""
    return (
        abs(across * own_down / down - own_across) <= 1
        or abs(down * own_across / across - own_down) <= 1
        or abs(own_across * down / own_down - across) <= 1
        or abs(own_down * across / own_across - down) <= 1
    )


def _turned(picture: Picture, across: float, down: float) -> str:
    """Say where a turn by 90 degrees explains the difference."""
    if picture.size is None or not _alike(down, across, *picture.size):
        return ""
    if picture.turned:
        return " when turned as its EXIF orientation asks"
    return ": its sides are exchanged, as by a turn that EXIF orientation asked for"


@dataclass(frozen=True, eq=False)
class RawBox:
    """One object as an annotation file says it; attributes as those of `geodistill.label.boxes.Box`.

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
    holes: tuple[NDArray[np.float64], ...] = ()

    def scaled(self, scale: Scale) -> RawBox:
        """Return the object with all but its mask scaled, which is in the frame of the file already."""
        if scale == (1.0, 1.0):
            return self
        (x, y), horizontal = scale, self.horizontal
        if horizontal is not None:
            horizontal = (horizontal[0] * x, horizontal[1] * y, horizontal[2] * x, horizontal[3] * y)
        holes = tuple(hole * scale for hole in self.holes)
        return replace(self, polygon=self.polygon * scale, horizontal=horizontal, holes=holes)


def attempt(make: Callable[[], RawBox], source: str, category: str | None = None) -> RawBox:
    """Return what ``make`` returns; where it raises a DataError, an object that will be dropped as malformed."""
    try:
        return make()
    except DataError as error:
        return lost(error, source, category)


def lost(error: DataError, source: str, category: str | None, reason: Reason = "malformed") -> RawBox:
    """Return an object that will be dropped, with no place."""
    return RawBox(np.full((4, 2), np.nan), category or NO_CLASS, source, "hbox", fault=error, reason=reason)


NO_CLASS = "(no class)"
"""Class under which objects are counted that name none."""


@dataclass(frozen=True)
class ImageAnnotations:
    """Everything that the annotations say about one image; ``gsd`` in metres per pixel."""

    picture: Picture
    objects: Sequence[RawBox]
    gsd: float | None = None


@dataclass
class ReadResult:
    """What a reader found.

    Attributes:
        entries: One an image that has annotations, even empty ones.
        unmatched: Annotation entries without an image.
        categories: Class names in the format's own order, or ``None`` where it has no list of them.
        faults: What is wrong with objects that are unmatched because they cannot be read.
        files: Every file with annotations of an image found: a run is not continued where one has changed.
        lists: Every other file that any of this depends on, such as a list of classes; nor where one of these has.
        reading: In what way the set is read, where the same files were once read otherwise.
    """

    entries: list[ImageAnnotations] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    categories: tuple[str, ...] | None = None
    faults: list[DataError] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    reading: str = ""


@dataclass(frozen=True)
class ReadOptions:
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


Reader = Callable[[Path, Pictures, ReadOptions], ReadResult]
"""A format: reads a place with annotations (file or folder) over these images."""


def points(values: Sequence[float]) -> NDArray[np.float64]:
    """Return x1, y1, x2, y2 ... as ``(V, 2)``."""
    return np.array(values, np.float64).reshape(-1, 2)


def radians_of(value: object, source: str) -> float:
    """Return an angle, written in degrees, in radians below a full turn; 0 where there is none.

    Raises:
        DataError: It is no number.
    """
    if value is None:
        return 0.0
    try:
        angle = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        angle = math.nan
    if not math.isfinite(angle):
        raise DataError(f"{source}: rotation {str(value)[:80]}", "degrees")
    return math.radians(angle % 360)
