"""The figures of a data set: band moments, class balance, sizes and ground sampling distance."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, listed, shown
from geodistill.spec import IGNORE_INDEX, Legend, hexadecimal

SPLITS = ("train", "val", "test", "unlabelled")
"""Splits a row can be in. ``unlabelled`` rows have no mask and serve feature transfer only."""

MOST_IGNORED = 0.5
"""Share of ignored pixels above which a set is reported."""


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some numbers."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread | None:
        """Summarise ``numbers``; ``None`` where there are none."""
        return cls(min(numbers), float(np.median(numbers)), max(numbers)) if numbers else None


@dataclass(frozen=True)
class Statistics:
    """What `geodistill.data.measure.measure` measures.

    Attributes:
        splits: The splits whose images gave the band figures: ``train`` where there is one.
        mean: Mean of each band over valid pixels, sensor units.
        std: Standard deviation of each band over valid pixels (population), sensor units.
        minimum: Smallest valid sample of each band.
        maximum: Largest valid sample of each band.
        images: Number of images (or areas of images) in each split.
        pixels: Number of pixels in each split.
        valid_pixels: Number of valid pixels in each split.
        class_pixels: Valid pixels of each class, by split.
        ignored_pixels: Valid pixels whose label is ignored, by split.
        unknown_labels: Valid pixels of each mask value or colour that is in no legend entry, over all splits.
        ignored_labels: Valid pixels of each mask value or colour that the legend says to ignore, over all splits.
        height: Rows of the images.
        width: Columns of the images.
        gsd: Ground sampling distance in metres per pixel; ``None`` where no image says.
        problems: One line for each image that could not be measured, or whose mask has unknown labels.
    """

    splits: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    images: dict[str, int]
    pixels: dict[str, int]
    valid_pixels: dict[str, int]
    class_pixels: dict[str, tuple[int, ...]]
    ignored_pixels: dict[str, int]
    unknown_labels: dict[str, int] = field(default_factory=dict)
    ignored_labels: dict[str, int] = field(default_factory=dict)
    height: Spread | None = None
    width: Spread | None = None
    gsd: Spread | None = None
    problems: tuple[str, ...] = ()

    @property
    def ground(self) -> int:
        """Index of the class that most of the training masks' pixels have; 0 where none were counted."""
        counts = self.class_pixels.get("train", ())
        return int(np.argmax(counts)) if counts else 0

    @property
    def mask_pixels(self) -> int:
        """Number of valid pixels of all masks, ignored ones included."""
        return sum(map(sum, self.class_pixels.values())) + sum(self.ignored_pixels.values())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], bands: int | None = None) -> Statistics:
        """Read what `to_dict` wrote, also after a turn through JSON; of ``bands`` bands, where given.

        Raises:
            DataError: It is something else.
        """
        known = {field.name for field in fields(cls)}
        data = {"ignored_labels": {}} | dict(data)  # which manifests of before do not have
        if set(data) != known:
            raise DataError(f"statistics with {listed(sorted(set(data) ^ known))} missing or unknown", "all figures")
        values = dict(data)
        for key in ("splits", "problems"):
            values[key] = tuple(_each(data[key], str, key))
        for key in ("mean", "std", "minimum", "maximum"):
            values[key] = tuple(_each(data[key], int | float, key))
            if bands is not None and len(values[key]) not in (0, bands):
                raise DataError(f"statistics with {len(values[key])} {key}", f"{bands}, one per band")
        for key in ("images", "pixels", "valid_pixels", "ignored_pixels", "unknown_labels", "ignored_labels"):
            _each(_mapping(data[key], key).values(), int, key)
        for key in ("height", "width", "gsd"):
            values[key] = None if data[key] is None else _spread(data[key], key)
        by_split = _mapping(data["class_pixels"], "class_pixels")
        values["class_pixels"] = {
            split: tuple(_each(counts, int, "class_pixels")) for split, counts in by_split.items()
        }
        return cls(**values)


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"statistics with {key} {shown(value)}", "figures by split")
    return value


def _each(values: Any, kind: Any, key: str) -> list[Any]:
    """Return a list of one kind; numbers must be finite, counts from 0."""
    items = list(values) if isinstance(values, Collection) and not isinstance(values, str | Mapping) else [None]
    for value in items:
        other_kind = isinstance(value, bool) or not isinstance(value, kind)
        if (
            other_kind
            or (isinstance(value, int) and kind is int and value < 0)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise DataError(f"statistics with {key} {shown(values)}", "the figures that were measured")
    return items


def _spread(value: Any, key: str) -> Spread:
    if set(_mapping(value, key)) != {"minimum", "median", "maximum"}:
        raise DataError(f"statistics with {key} {shown(value)}", "the figures that were measured")
    return Spread(*_each([value[name] for name in ("minimum", "median", "maximum")], int | float, key))


class RunningMoments:
    """Mean, deviation and range of each band over pixels seen part by part, in float64 (Chan et al. 1979, eq. 2.1).

    Args:
        channels: Number of bands.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self.minimum = np.full(channels, np.inf)
        self.maximum = np.full(channels, -np.inf)

    def update(self, pixels: NDArray[Any]) -> None:
        """Add ``(C, N)`` samples of any real dtype."""
        if not pixels.shape[1]:
            return
        if pixels.dtype == np.uint8:
            # One pass for a histogram instead of five over float64, and exact.
            levels = np.arange(256.0)
            counts = np.stack([np.bincount(band, minlength=256) for band in pixels])
            mean = counts @ levels / pixels.shape[1]
            squares = (counts * np.square(levels - mean[:, None])).sum(axis=1)
            present = counts > 0
            low, high = present.argmax(axis=1), 255 - present[:, ::-1].argmax(axis=1)
            self._merge(pixels.shape[1], mean, squares, low, high)
            return
        mean = pixels.mean(axis=1, dtype=np.float64)
        # Band by band, so that the float64 copy is of one band only.
        squares = np.array([np.square(band - m).sum() for band, m in zip(pixels, mean, strict=True)])
        self._merge(pixels.shape[1], mean, squares, pixels.min(axis=1), pixels.max(axis=1))

    def merge(self, other: RunningMoments) -> None:
        """Add all pixels that ``other`` has seen."""
        self._merge(other.count, other.mean, other._squares, other.minimum, other.maximum)

    def _merge(
        self,
        count: int,
        mean: NDArray[np.float64],
        squares: NDArray[np.float64],
        minimum: NDArray[Any],
        maximum: NDArray[Any],
    ) -> None:
        if not count:
            return
        total = self.count + count
        delta = mean - self.mean
        self._squares = self._squares + squares + delta**2 * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total
        self.minimum, self.maximum = np.minimum(self.minimum, minimum), np.maximum(self.maximum, maximum)

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation of each band; 0 before any pixel."""
        return np.sqrt(self._squares / max(self.count, 1))


def vanished_labels(legend: Legend, counts: Mapping[str, Sequence[int]], ignored: Mapping[str, int]) -> list[str]:
    """Say what of the labels is not there: ignored pixels, as `ignored_share` does, and classes without any.

    Args:
        legend: The classes.
        counts: Valid pixels of each class, by split.
        ignored: Valid pixels that are ignored, by split.

    Returns:
        One line each; none where all is well.
    """
    counted, lines = [split for split in SPLITS if split in counts], ignored_share(counts, ignored)
    absent = [name for k, name in enumerate(legend.names) if counted and not any(counts[split][k] for split in counted)]
    if absent:
        lines.append(f"no pixel of {listed(absent)} in {', '.join(counted)}")
    return lines


def ignored_share(counts: Mapping[str, Sequence[int]], ignored: Mapping[str, int]) -> list[str]:
    """Say what share of the pixels carries no class, where it is most of them; arguments as for `vanished_labels`."""
    counted = [split for split in SPLITS if split in counts]
    labelled = {split: sum(counts[split]) for split in counted}
    total, lost = sum(labelled.values()), sum(ignored.get(split, 0) for split in counted)
    if lost <= MOST_IGNORED * max(total + lost, 1):
        return []
    each = ", ".join(
        f"{split} {ignored.get(split, 0) / max(labelled[split] + ignored.get(split, 0), 1):.1%}" for split in counted
    )
    return [f"{lost / (total + lost):.1%} of the pixels carry no class ({each}): ignored, nodata or unknown"]


MANY = 0.01
"""Share of the pixels from which a label outside the legend may be that of a class without a pixel."""


def misread_labels(legend: Legend, counts: Mapping[str, Sequence[int]], lost: Mapping[str, int], pixels: int) -> str:
    """Ask whether the legend's values are right where a class has no pixel and a label that is no class has many.

    Args:
        legend: The classes.
        counts: Valid pixels of each class, by split.
        lost: Valid pixels of each mask value or colour that is ignored or in no legend entry. What the legend ignores
            is meant so, but for `IGNORE_INDEX`, which it ignores by default.
        pixels: Valid pixels of all masks.

    Returns:
        One line; nothing where all is well.
    """
    meant = {str(value) for value in legend.ignore_values if value != IGNORE_INDEX}
    meant |= {hexadecimal(colour) for colour in legend.ignore_colours}
    many = [label for label in lost if lost[label] >= MANY * max(pixels, 1) and label not in meant]
    many.sort(key=lambda label: -lost[label])
    absent = [k for k in range(len(legend)) if counts and not any(of_split[k] for of_split in counts.values())]
    if legend.nearest or not many or not absent:
        return ""
    kind = "colour" if many[0].startswith("#") else "value"
    labels = [hexadecimal(legend.colours[k]) if kind == "colour" else str(legend.values[k]) for k in absent]
    names = listed([f"{legend.names[k]} ({label})" for k, label in zip(absent, labels, strict=True)])
    shares = listed([f"{lost[label] / max(pixels, 1):.1%} are {label}" for label in many], 4)
    if len(absent) > 1 or len(many) > 1:
        return f"no pixel is {names}, and {shares}: are the legend's {kind}s those of the masks?"
    label = f'"{many[0]}"' if kind == "colour" else many[0]
    return f"no pixel is {names}, and {shares}: is '{legend.names[absent[0]]}: {{{kind}: {label}}}' meant?"


def misread_in(legend: Legend, statistics: Statistics) -> str:
    """Return what `misread_labels` says of a measured set."""
    lost = statistics.ignored_labels | statistics.unknown_labels
    return misread_labels(legend, statistics.class_pixels, lost, statistics.mask_pixels)


NOTHING_TO_LEARN = "there is nothing to tell it from, so that any network is right about all of it"
"""Of the only class that is labelled."""


def lone_classes(legend: Legend, counts: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return, by split, the class that all labelled pixels carry where it is the only one.

    There is nothing to tell it from: cross entropy of one class is 0 at every step, its IoU 100 % at once.
    """
    present = {split: [k for k, count in enumerate(of_split) if count] for split, of_split in counts.items()}
    return {split: legend.names[indices[0]] for split, indices in present.items() if len(indices) == 1}
