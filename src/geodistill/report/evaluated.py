"""What `evaluate` left in a folder, read back; all of it may have been altered since."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.evaluation.shown_images import CHOICES, FOLDER, LAYERS, LISTING
from geodistill.legend_entries import Colour, parse_colour
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.reading import read_bytes, read_object, well_formed
from geodistill.spec import Legend, default_colours

MOST_PICTURE = 8 << 20
"""Bytes of a picture at most."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy.

    Attributes:
        ece: Expected calibration error, 0..1.
        mce: Largest distance of a bin, 0..1.
        bins: Lower end, pixels, mean confidence and share that is right of each tenth that has pixels.
        sets: Of the class sets, where the model states some: coverage as stated, as found, and mean number of classes.
    """

    ece: float
    mce: float
    bins: tuple[tuple[float, int, float, float], ...]
    sets: tuple[tuple[float, float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        sets = {"class_sets": [list(one) for one in self.sets]} if self.sets else {}
        return {"ece": self.ece, "mce": self.mce, "bins": [list(one) for one in self.bins], **sets}


@dataclass(frozen=True)
class ShownImage:
    """An image as layers of one size.

    Attributes:
        choice: Why it is shown, one of `CHOICES`.
        key: Its file.
        place: What is shown of it; empty where all is.
        miou: 0..1.
        oa: 0..1.
        layers: Image, truth, prediction and errors, encoded.
    """

    choice: str
    key: str
    place: str
    miou: float
    oa: float
    layers: tuple[bytes, ...]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        folder: Where it lies.
        model: What was scored, as it was named.
        manifest: The data set.
        split: Its split.
        images: How many images.
        legend: The classes that are scored, in their colours.
        scores: The scores.
        groups: Places that the intervals are drawn from; 0 without intervals.
        intervals: 95 % intervals by ``miou``, ``oa`` and ``class NAME``, of those that are known.
        calibration: How far the confidence is from accuracy, where it was measured.
        shown: The images to look at.
        fingerprint: Of the model that was scored; empty where it was not kept.
    """

    folder: Path
    model: str
    manifest: str
    split: str
    images: int
    legend: Legend
    scores: Scores
    groups: int
    intervals: Mapping[str, Interval]
    calibration: Calibration | None
    shown: tuple[ShownImage, ...]
    fingerprint: str = ""


def read_evaluation(folder: Path) -> Evaluation:
    """Read the folder that `evaluate` wrote.

    Raises:
        DataError: It is something else, or was altered.
    """
    file = folder / "metrics.json"
    data = read_object(file)
    with guarded(file):
        return _evaluation(folder, data)


def guarded(file: Path) -> AbstractContextManager[None]:
    """Refuse, as `well_formed`, what is made of a file's values where they are not what was written there."""
    return well_formed(f"{file} is not as it was written", "the file as geodistill wrote it")


def _evaluation(folder: Path, data: Mapping[str, Any]) -> Evaluation:
    about = data["about"]
    names = tuple(map(str, data["classes"]))
    colours = data.get("colours")
    legend = Legend(names, _colours(colours) if colours else default_colours(len(names)))
    matrix = ConfusionMatrix(len(names))
    matrix.counts += np.array(data["confusion"], np.int64).reshape(len(names), len(names))
    intervals, groups = _intervals(data.get("intervals"), names)
    calibration = data.get("calibration")
    return Evaluation(
        folder=folder,
        model=str(about["model"]),
        manifest=str(about["manifest"]),
        split=str(about["split"]),
        images=int(about["images"]),
        legend=legend,
        scores=matrix.scores(legend, [str(name) for name in data["means_over"]]),
        groups=groups,
        intervals=intervals,
        calibration=None if calibration is None else _calibration(calibration, data.get("class_sets", [])),
        shown=_shown(folder / FOLDER),
        fingerprint=str(about.get("fingerprint", "")),
    )


def _colours(values: Sequence[Any]) -> tuple[Colour, ...]:
    return tuple(parse_colour(value) for value in values)


def _intervals(data: Mapping[str, Any] | None, names: Sequence[str]) -> tuple[dict[str, Interval], int]:
    if data is None:
        return {}, 0
    each = {"miou": data["miou"], "oa": data["oa"]} | {f"class {name}": data["classes"][name] for name in names}
    return {name: (share(ends[0]), share(ends[1])) for name, ends in each.items() if ends}, int(data["groups"])


def _calibration(data: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> Calibration:
    bins = tuple(
        (share(one["from"]), int(one["pixels"]), share(one["confidence"]), share(one["accuracy"]))
        for one in data["bins"][:100]
    )
    of_sets = tuple((share(one["stated"]), share(one["coverage"]), float(one["classes"])) for one in sets[:100])
    return Calibration(share(data["ece"]), share(data["mce"]), bins, of_sets)


def _shown(folder: Path) -> tuple[ShownImage, ...]:
    """Read the pictures of a folder; none where it has none."""
    file = folder / LISTING
    if not file.is_file():
        return ()
    listing = read_object(file)["images"]
    with guarded(file):
        return tuple(_image(folder, one) for one in listing)


def _image(folder: Path, one: Mapping[str, Any]) -> ShownImage:
    stem, choice = str(one["stem"]), str(one["choice"])
    if choice not in CHOICES or not stem.removeprefix(f"{choice}-").isdigit():
        raise ValueError(f"the picture {stem[:80]!r}")
    row, col, height, width = map(int, one["part"])
    place = "" if one["whole"] else f"rows {row} to {row + height}, columns {col} to {col + width}"
    layers = tuple(read_bytes(folder / f"{stem}-{layer}", MOST_PICTURE) for layer in LAYERS)
    if layers[0][:4] != b"RIFF" or any(layer[:4] != b"\x89PNG" for layer in layers[1:]):
        raise ValueError(f"the pictures {stem}, which are no WebP and PNG")
    return ShownImage(choice, str(one["key"]), place, share(one["miou"]), share(one["oa"]), layers)


def share(value: Any) -> float:
    """Return a share of 0..1.

    Raises:
        ValueError: It is something else.
    """
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise ValueError(f"the share {value}")
    return number
