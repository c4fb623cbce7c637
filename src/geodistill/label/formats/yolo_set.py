"""What a set of YOLO files says as a whole: the names of its classes, and what its rows are."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.formats.per_image import all_lines
from geodistill.reading import read_yaml

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")


@dataclass(frozen=True)
class ClassList:
    """Classes of a set.

    Attributes:
        file: Where they stand.
        names: Name of each class number.
        keypoints: Key points of an object, and numbers per point (2, or 3 with its visibility); ``None`` where unknown.
    """

    file: Path
    names: dict[int, str]
    keypoints: tuple[int, int] | None = None


def find_class_list(place: Path) -> ClassList | None:
    """Return the class list nearest to the annotations: in their folder or one of the two above it.

    Raises:
        DataError: It cannot be used.
    """
    folder = place.resolve() if place.is_dir() else place.resolve().parent
    for where in (folder, *list(folder.parents)[:2]):
        for name in NAME_FILES:
            if (where / name).is_file():
                return _class_read(where / name)
    return None


def _class_read(file: Path) -> ClassList:
    if file.suffix in (".yaml", ".yml"):
        return _read_yaml(file)
    # The number of a class is that of its line, so a blank one counts: it is a number without a name.
    names = {number: " ".join(line.split()) for number, line in enumerate(all_lines(file)) if line.strip()}
    if not names:
        raise DataError(f"{file} has no class names", "one name per line")
    return ClassList(file, names)


def _read_yaml(file: Path) -> ClassList:
    content: Any = read_yaml(file)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    expected = "'names' as a list, or a mapping from number to name"
    if not isinstance(names, dict) or not names:
        raise DataError(f"{file} has no class names", expected)
    numbered: dict[int, str] = {}
    for number, name in names.items():
        try:
            key = int(number) if isinstance(number, int | str) and not isinstance(number, bool) else None
        except ValueError:
            key = None
        if key is None or not isinstance(name, str | int | float) or key in numbered:
            raise DataError(f"{file} has no class names ({str(number)[:40]!r}: {str(name)[:40]!r})", expected)
        numbered[key] = str(name).strip()
    return ClassList(file, numbered, _keypoints(content.get("kpt_shape"), file))


def _keypoints(shape: Any, file: Path) -> tuple[int, int] | None:
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)):
        raise DataError(f"{file}: kpt_shape {str(shape)[:80]}", "[key points, 2 or 3 numbers per point]")
    count, numbers = shape
    if not 1 <= count <= 10_000 or numbers not in (2, 3):
        raise DataError(f"{file}: kpt_shape {shape}", "[key points, 2 or 3 numbers per point]")
    return count, numbers


@dataclass(frozen=True)
class RowForms:
    """What the rows of a set are, by their number of fields.

    Attributes:
        boxed: Numbers of fields whose rows are a box with key points, or with its confidence and number of a track.
        scored: Whether every row has one number more than a box or outline, which is its confidence.
        outlined: Whether four vertices are an outline and no oriented box.
    """

    boxed: frozenset[int]
    scored: bool
    outlined: bool


SAMPLE = 1000
"""Rows of each length that are looked at."""
_LEAST = 5
"""Fields of any row: a class and a box."""
_CORNERS = 9
"""Fields of an oriented box; two key points would have as many, and only ``kpt_shape`` tells them apart."""
_FOUR = (_CORNERS, _CORNERS + 1)
"""Fields of four vertices, with and without a confidence."""
_TRACKED = 7
"""Fields of a box with its confidence and the number of its track; those of three corners too."""
_ENOUGH = 6
"""Rows of one length, each of whose first four numbers span a box around the rest: half of all outlines do so by
chance, but not that many in a row."""
_NOTICEABLE = 0.25
"""Share of a set's rows from which on they are no mishap."""
_UNEVEN = 0.2
"""Of its longer side, how far a box's diagonals may miss each other's middle: sets draw their corners by hand."""


@dataclass
class YoloRows:
    """Collects the rows of a set, and then tells their forms.

    Attributes:
        keypoints: Key points of an object and numbers per point, where the set says so.
    """

    keypoints: tuple[int, int] | None
    _seen: dict[int, list[NDArray[np.float64]]] = field(default_factory=lambda: defaultdict(list))
    _counts: Counter[int] = field(default_factory=Counter)
    _numbered: bool = True
    _highest: int = 1

    def add(self, fields: Sequence[str]) -> None:
        """Look at one row."""
        count = len(fields)
        if count < _LEAST:
            return
        if count == _TRACKED:
            whole = fields[-1].isascii() and fields[-1].isdigit() and len(fields[-1]) < 20
            self._numbered = self._numbered and whole
            self._highest = max(self._highest, int(fields[-1]) if whole else 1)
        self._counts[count] += 1
        if count < _TRACKED or len(self._seen[count]) >= SAMPLE:
            return
        try:
            self._seen[count].append(np.array(fields[1:], np.float64))
        except ValueError:
            return  # an error names it when it is read

    def forms(self) -> RowForms:
        """Return what the rows are."""
        boxed = self._pose_counts() | self._track_counts()
        return RowForms(boxed, self._scored, self._are_outlined(boxed))

    @property
    def _scored(self) -> bool:
        return bool(self._counts) and not any(count % 2 for count in self._counts)

    def _track_counts(self) -> frozenset[int]:
        """Return the numbers of fields whose rows are a box, its confidence and the number of its track.

        A tracker numbers objects 1, 2, 3 ...: whole numbers at the end of every such row, of which one is no share.
        """
        return frozenset((_TRACKED,)) if self._numbered and self._highest > 1 else frozenset()

    def _are_outlined(self, boxed: frozenset[int]) -> bool:
        """Whether rows of four vertices are outlines: others stand beside them, and many of them are no boxes.

        In doubt they are oriented boxes: a few rows of another length are damaged or cut at a border.
        """
        readable = {count: rows for count, rows in self._seen.items() if rows and count not in boxed}
        others = [count for count in readable if count not in _FOUR and (count % 2 or self._scored)]
        corners = np.array([row[:8] for count in _FOUR for row in readable.get(count, ())]).reshape(-1, 4, 2)
        beside, rows = (sum(self._counts[count] for count in counts) for counts in (others, _FOUR))
        if not len(corners) or beside < _NOTICEABLE * rows:
            return False
        # In shares of width and height a turned rectangle is a parallelogram: both diagonals have one middle.
        apart = np.abs(corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]).max(axis=1)
        uneven = np.count_nonzero(apart > _UNEVEN * np.ptp(corners, axis=1).max(axis=1))
        if uneven < _NOTICEABLE * len(corners):
            return False
        warnings.warn(
            f"rows of four vertices are read as outlines, not as oriented boxes: {uneven} of {len(corners)} are no"
            f" rectangles, and {beside} outlines of other lengths stand beside them",
            GeodistillWarning,
            stacklevel=6,
        )
        return True

    def _pose_counts(self) -> frozenset[int]:
        """Return the numbers of fields whose rows are a box and key points."""
        if self.keypoints is not None:
            points, numbers = self.keypoints
            fields = 5 + points * numbers
            return frozenset((fields, fields + 1))  # with or without a confidence
        lengths = {count: rows for count, rows in self._seen.items() if rows and count not in (_TRACKED, _CORNERS)}
        counts = {count for count, rows in lengths.items() if _has_visibility(np.array(rows))}
        # Key points are the same number everywhere, outlines have as many vertices as they need.
        scored = int(self._scored)
        outlines = [count for count in lengths if (count - scored) % 2 and count not in counts]
        if len(outlines) == 1 and outlines[0] - scored > _CORNERS and not counts:
            (count,) = outlines
            if _has_keypoints(np.array(lengths[count])[:, : count - 1 - scored]):
                counts.add(count)
        return frozenset(counts)


def _has_visibility(rows: NDArray[np.float64]) -> bool:
    """Whether each third number after the box is 0, 1 or 2, and the points lie in their boxes: ``(R, n)`` rows."""
    if (rows.shape[1] - 4) % 3:
        return False
    points = rows[:, 4:].reshape(len(rows), -1, 3)
    marked = np.greater(points[..., 2], 0)
    inside = np.logical_or(_inside(rows, points[..., :2]), ~marked)
    return bool(np.isin(points[..., 2], (0, 1, 2)).all() and inside.all() and marked.any())


def _has_keypoints(rows: NDArray[np.float64]) -> bool:
    """Whether rows ``(R, n)`` of numbers are boxes with key points of two numbers each."""
    boxes, points = rows[:, :4], rows[:, 4:].reshape(len(rows), -1, 2)
    marked = (points != 0).any(axis=-1)  # a point that is not marked is written as 0 0
    if not ((_inside(rows, points) | ~marked).all() and marked.any(axis=1).all()):
        return False
    votes = [_is_no_outline(box, part[marked]) for box, part, marked in zip(boxes, points, marked, strict=True)]
    if len(rows) >= _ENOUGH or np.mean(votes) >= 0.3:
        return True
    warnings.warn(
        f"rows of {rows.shape[1] + 1} numbers are read as outlines, and could be boxes with key points;"
        " if they are, say so with kpt_shape in data.yaml",
        GeodistillWarning,
        stacklevel=7,
    )
    return False


def _inside(rows: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points ``(R, K, 2)`` lie in the boxes that their rows begin with, roundings apart."""
    centres, halves = rows[:, None, :2], rows[:, None, 2:4] / 2
    return np.asarray((np.abs(points - centres) <= halves * 1.02 + 0.002).all(axis=-1), bool)


def _is_no_outline(box: NDArray[np.float64], points: NDArray[np.float64]) -> bool:
    """Whether a row makes no sense as an outline and some as a box of key points.

    As an outline its first two vertices would be the centre and the size of a box: the line crosses itself then, or
    the first vertex lies amid the others.
    """
    extent = np.ptp(points, axis=0)
    fill = (extent / np.maximum(box[2:], 1e-9)).min()
    ring = np.concatenate([box.reshape(2, 2), points])
    if len(ring) < 4 or not np.isfinite(ring).all():
        return False
    if fill > 0.25 and not shapely.is_valid(shapely.Polygon(ring)):
        return True
    hull = shapely.MultiPoint(points).convex_hull.buffer(-0.02 * max(extent.max(), 1e-9))
    size, low, high = box[2:], points.min(axis=0), points.max(axis=0)
    far = bool(((size < low - extent) | (size > high + extent)).any())
    return bool(hull.contains(shapely.Point(box[:2])) and (far or fill > 0.5))


def forms_of(rows: Iterable[Sequence[str]], keypoints: tuple[int, int] | None) -> RowForms:
    """Return what the rows of a whole set are."""
    collected = YoloRows(keypoints)
    for fields in rows:
        collected.add(fields)
    return collected.forms()
