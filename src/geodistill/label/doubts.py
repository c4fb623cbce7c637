"""Which images of a label set a person looks at: those with the most doubtful objects, and some at random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.label.annotated_masks import checked_runs
from geodistill.label.label_set import Labelled, LabelSet
from geodistill.label.masks import Runs
from geodistill.label.postprocess import CHANGES
from geodistill.reading import well_formed

LOW_SCORE = 0.75


@dataclass(frozen=True, eq=False)
class Shown:
    """An object of a view, in pixels of its image.

    Attributes:
        number: Its COCO id.
        value: Of its class in the masks.
        score: The segmenter's own estimate, 0 to 1.
        changed: Which rules changed its mask.
        box: xmin, ymin, xmax, ymax as annotated.
        corners: ``(4, 2)`` of the oriented box.
        runs: Its mask.
        reviewed: Whether a person decided about it.
    """

    number: int
    value: int
    score: float
    changed: tuple[str, ...]
    box: tuple[float, float, float, float]
    corners: NDArray[np.float64]
    runs: Runs
    reviewed: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether a rule changed the mask, or its score is low, and no person has decided about it."""
        return not self.reviewed and (bool(self.changed) or self.score < LOW_SCORE)

    @property
    def doubt(self) -> float:
        """How doubtful the mask is: a box in its place most, then by score, each other change counting a tenth."""
        if self.reviewed:
            return 0.0
        return 2.0 * (CHANGES[0] in self.changed) + (1 - self.score) + 0.1 * len(self.changed)


@dataclass
class ViewedImage:
    """An image with its objects, the most doubtful first."""

    image: Labelled
    objects: list[Shown] = field(default_factory=list)


def choose_views(label_set: LabelSet, count: int, seed: int, progress: bool) -> list[ViewedImage]:
    """Choose half of the views by their most doubtful object, the others at random.

    The objects are read twice, so that a set of millions needs no memory: for the worst, for the shown.

    Raises:
        DataError: An annotation is malformed.
    """
    worst: dict[int, float] = {}
    for number, entry in _entries(label_set, progress):
        worst[number] = max(worst.get(number, 0.0), _shown(entry, label_set, number).doubt)
    order = sorted(worst, key=lambda number: (-worst[number], number))
    first, rest = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    drawn = np.random.default_rng(seed).permutation(len(rest))[: count - len(first)].tolist()
    views = {number: ViewedImage(label_set.images[number]) for number in (*first, *(rest[at] for at in drawn))}
    for number, entry in _entries(label_set, progress):
        if number in views:
            views[number].objects.append(_shown(entry, label_set, number))
    for view in views.values():
        view.objects.sort(key=lambda one: -one.doubt)
    return list(views.values())


def shown_objects(label_set: LabelSet) -> Iterator[tuple[Labelled, Shown]]:
    """Yield every object of a set with its image.

    Raises:
        DataError: An annotation is malformed.
    """
    for number, entry in _entries(label_set, False):
        yield label_set.images[number], _shown(entry, label_set, number)


def _entries(label_set: LabelSet, progress: bool) -> Iterable[tuple[int, Any]]:
    for entry in progress_bar(label_set.annotations(), "reading objects", progress):
        number = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(number, int):
            raise DataError(f"{label_set.folder}: an object of no image", "annotations that 'label build' wrote")
        if number in label_set.images:
            yield number, entry


def _shown(entry: dict[str, Any], label_set: LabelSet, number: int) -> Shown:
    image, source = label_set.images[number], f"{label_set.folder}: object {str(entry.get('id'))[:20]}"
    with well_formed(source, "an annotation that 'label build' wrote"):
        left, top, width, height = (float(v) for v in entry["annotated_bbox"])
        value = int(entry["mask_value"])
        if not 0 <= value < len(label_set.legend):
            raise ValueError(f"mask value {value}")
        changed = tuple(name for name in CHANGES if name in entry.get("changed", ()))
        corners = np.array(entry["rbox"], np.float64).reshape(4, 2)
        runs = Runs.from_coco(checked_runs(entry["segmentation"], image.width, image.height, source))
        box = (left, top, left + width, top + height)
        if not np.isfinite([*box, *corners.ravel()]).all():
            raise ValueError("a coordinate that is no number")
        reviewed = "reviewed" in entry
        return Shown(int(entry["id"]), value, float(entry["score"]), changed, box, corners, runs, reviewed)
