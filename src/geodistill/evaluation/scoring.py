"""One image scored: its confusion matrix, and where in it most pixels are wrong."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.data.mask_files import decode_mask, size_mismatch_error, unknown_labels_error
from geodistill.errors import DataError
from geodistill.evaluation.classmap import ClassMap
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.set_coverage import count_sets
from geodistill.inference.network import Network, as_network
from geodistill.inference.options import SlidingOptions
from geodistill.inference.sliding import STEPS, SceneRows, stream
from geodistill.inference.windows import Area
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Raster, Window
from geodistill.raster.raster import open_image
from geodistill.raster.resampled import ResampledRaster
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend

PART = 1024
"""Largest side in pixels of the part of an image that is shown."""

_CELL = 64


@dataclass(frozen=True)
class ScoringSettings:
    """How images are segmented for scoring.

    Attributes:
        options: What the user asked; of it overlap, flips, batch size, gsd and resize concern each image.
        ignore_unknown: Ignore labels that the legend does not list instead of refusing them.
        mapping: Scores on the classes that model and set have in common; on the model's own where not given.
    """

    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    ignore_unknown: bool = False
    mapping: ClassMap | None = None

    def prediction(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return predicted classes as they are scored."""
        return classes if self.mapping is None else self.mapping.prediction[classes]

    def truth(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return true classes as they are scored."""
        return classes if self.mapping is None else self.mapping.truth[classes]


@dataclass(frozen=True)
class ImageScore:
    """The score of one image.

    Attributes:
        row: The manifest's row.
        matrix: Its pixel counts by true and predicted class.
        part: The part with most wrong pixels, at most `PART` x `PART`, in pixels of the file.
        confidence: Labelled pixels that were wrong and right, by the probability of the chosen class in steps of
            1/`STEPS`: ``(2, STEPS + 1)`` int64, or ``None``.
        sets: What the class sets hold, see `count_sets`; ``None`` where the model states none.
    """

    row: Row
    matrix: ConfusionMatrix
    part: Window
    confidence: NDArray[np.int64] | None = None
    sets: NDArray[np.int64] | None = None

    def miou(self, legend: Legend, subset: Sequence[str]) -> float:
        """Mean IoU over the classes of the subset that its labels hold, 0..1; NaN where they hold none.

        Over its labels' classes alone, since one false pixel of another class would else halve the score of an
        image of one class.
        """
        scores = self.matrix.scores(legend, subset)
        present = [k for k, name in enumerate(legend.names) if name in subset and scores.support[k]]
        return float(scores.iou[present].mean()) if present else math.nan

    @property
    def oa(self) -> float:
        """Overall accuracy, 0..1; NaN without a labelled pixel."""
        counts = self.matrix.counts
        return float(np.trace(counts) / counts.sum()) if counts.sum() else math.nan


class ErrorCells:
    """Counts wrong pixels in square cells, so that the worst part of an image of any size can be named.

    Args:
        height: Rows of the image.
        width: Columns of the image.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._counts = np.zeros((-(-height // _CELL), -(-width // _CELL)), np.int64)

    def add(self, first: int, wrong: NDArray[np.bool_]) -> None:
        """Count ``(rows, W)`` pixels that begin at row ``first``."""
        by_column = np.add.reduceat(wrong, np.arange(0, self._width, _CELL), axis=1, dtype=np.int64)
        np.add.at(self._counts, (first + np.arange(len(wrong))) // _CELL, by_column)

    def worst(self, side: int) -> Window:
        """Return the part of at most ``side`` x ``side`` pixels with most errors, on the grid of cells."""
        height, width = min(side, self._height), min(side, self._width)
        rows, columns = -(-height // _CELL), -(-width // _CELL)
        sums = np.pad(self._counts, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        boxes = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
        row, column = np.unravel_index(boxes.argmax(), boxes.shape)
        top, left = min(int(row) * _CELL, self._height - height), min(int(column) * _CELL, self._width - width)
        return Window(top, left, height, width)


class ExtraPixels(Protocol):
    """Pixels that no image has and that are scored all the same, as some published figures were.

    `evaluate` knows none; `geodistill.papers.padding` has the one kind that there is.
    """

    def check(self, legend: Legend) -> None:
        """Refuse what does not fit the scored classes, before any image is scored."""

    def count(self, network: Network, row: Row, legend: Legend, settings: ScoringSettings) -> ConfusionMatrix:
        """Return the counts of an image's extra pixels over the scored classes."""

    def report(self, extra: ConfusionMatrix, total: ConfusionMatrix, window: int) -> dict[str, Any]:
        """Warn of the pixels, and return what ``metrics.json`` says of them.

        Args:
            extra: Their counts.
            total: All counts, theirs included.
            window: Side of the model's windows in pixels.
        """


def scoring_network(segmenter: Segmenter, settings: ScoringSettings) -> Network:
    """Return a model as `score_image` runs it."""
    return as_network(segmenter, tta="flips" if settings.options.flips else "none")


class ImageWatcher(Protocol):
    """Sees the classes and labels of every image that `evaluate` scores; `ObjectScoring` is one."""

    def check(self, legend: Legend) -> None:
        """Refuse what does not fit the scored classes, before any image is scored."""

    def begin(self, row: Row) -> None:
        """Begin an image."""

    def add(self, first: int, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Take in ``(rows, W)`` classes and labels of the image, from row ``first`` on."""

    def end(self, row: Row) -> None:
        """End an image, all of whose rows were seen."""


def score_image(
    network: Network, row: Row, legend: Legend, settings: ScoringSettings, watch: ImageWatcher | None = None
) -> ImageScore:
    """Score one image in flat memory: its mask is read row by row as predictions come.

    Args:
        network: The model (`scoring_network`), or its graph in another runtime.
        row: An image with a mask.
        legend: How the mask encodes the classes.
        settings: How the image is segmented.
        watch: Sees its classes and labels too.

    Raises:
        DataError: A file cannot be read, the mask has another size than the image, or holds labels outside the
            legend.
    """
    area = row.window
    classes = network.classes if settings.mapping is None else len(settings.mapping.legend)
    matrix = ConfusionMatrix(classes)
    with (
        open_image(row.image, network.bands) as raster,
        open_mask(row, raster) as mask,
        _predictions(network, raster, row, area, settings) as parts,
    ):
        cells = ErrorCells(area.height, area.width)  # of an area that the image was found to have
        confidence = np.zeros((2, STEPS + 1), np.int64)
        sets = np.zeros((len(network.class_sets), 3), np.int64)
        for first, classes_of, valid, steps, shares in parts:
            height, width = valid.shape
            truth = read_truth(mask, legend, Window(area.row + first, area.col, height, width), settings)
            truth = np.where(valid, truth, np.uint8(IGNORE_INDEX))
            prediction = settings.prediction(classes_of)
            matrix.update(prediction, truth)
            if watch is not None:
                watch.add(first, prediction, truth)
            labelled = truth != IGNORE_INDEX
            cells.add(first, (prediction != truth) & labelled)
            if shares is not None:
                sets += count_sets(shares, prediction, truth, labelled, network.class_sets)
            for right in (0, 1):
                of_these = steps[labelled & ((prediction == truth) == right)]
                confidence[right] += np.bincount(of_these, minlength=STEPS + 1)
        worst = cells.worst(PART)
    part = Window(area.row + worst.row, area.col + worst.col, worst.height, worst.width)
    return ImageScore(row, matrix, part, confidence, sets if len(sets) and settings.mapping is None else None)


@dataclass(frozen=True)
class Preview:
    """A part of an image with its true and predicted classes, for a picture.

    Attributes:
        image: ``(C, H, W)`` float32, sensor units, 0 where not valid.
        truth: ``(H, W)`` uint8 class indices.
        prediction: ``(H, W)`` uint8 class indices.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def read_preview(network: Network, score: ImageScore, legend: Legend, settings: ScoringSettings) -> Preview:
    """Return image, truth and prediction of the worst part of a scored image.

    Raises:
        DataError: A file cannot be read.
    """
    network = replace(network, class_sets={})
    with (
        open_image(score.row.image, network.bands) as raster,
        open_mask(score.row, raster) as mask,
        _predictions(network, raster, score.row, score.part, settings) as parts,
    ):
        pixels, valid = raster.read(score.part)
        prediction = np.concatenate([settings.prediction(classes) for _, classes, *_ in parts])
        truth = read_truth(mask, legend, score.part, settings)
    return Preview(np.where(valid, pixels, 0).astype(np.float32), truth, prediction)


def read_truth(mask: Raster, legend: Legend, window: Window, settings: ScoringSettings) -> NDArray[np.uint8]:
    """Read a part of an open mask as ``(H, W)`` uint8 class indices.

    Raises:
        DataError: It cannot be read, or holds labels outside the legend.
    """
    truth, odd = decode_mask(mask, legend, window)
    if odd and not settings.ignore_unknown:
        raise unknown_labels_error(mask.path, odd, legend)
    return settings.truth(truth)


Rows = tuple[int, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8], NDArray[np.uint8] | None]
"""The first of some rows of an area, and of their pixels, each ``(rows, W)``: the predicted classes, which are valid,
and the probability of the class in steps of 1/`STEPS`, 255 where not valid; and that of all classes, ``(K, rows, W)``,
for a model that states class sets."""


@contextmanager
def _predictions(
    network: Network, raster: Raster, row: Row, area: Window, settings: ScoringSettings
) -> Generator[Generator[Rows, None, None], None, None]:
    """Segment an area of an open raster, from its first row to its last, in the area's own pixels."""
    target, native, resize = settings.options.gsd, row.gsd, settings.options.resize
    if resize is not None:
        native = raster.grid.gsd or row.gsd or 1.0  # metres do not matter
        target = native * max(row.window.height, row.window.width) / resize
    if target is None:
        with _stream(network, Area(raster, area), settings) as parts:
            yield ((part.first, part.classes, part.valid, _steps(part), _shares(part)) for part in parts)
        return
    with ResampledRaster(raster, target, native) as shown:
        rows = _under(area.row, area.height, raster.grid.height, shown.grid.height)
        cols = _under(area.col, area.width, raster.grid.width, shown.grid.width)
        window = Window(int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        with _stream(network, Area(shown, window), settings) as parts:
            yield _spread(parts, rows - rows[0], cols - cols[0])


def _spread(
    parts: Generator[SceneRows, None, None], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> Generator[Rows, None, None]:
    """Yield what was found at each pixel of the file, under ``rows`` and ``cols`` of the resampled one."""
    for part in parts:
        start, end = np.searchsorted(rows, [part.first, part.first + len(part.valid)])
        if start < end:
            lines = rows[start:end] - part.first
            place = (lines[:, None], cols)
            shares = _shares(part)
            shares = None if shares is None else shares[(slice(None), *place)]
            yield int(start), part.classes[place], part.valid[place], _steps(part)[place], shares


def _steps(part: SceneRows) -> NDArray[np.uint8]:
    steps: NDArray[np.uint8] = part.layers["confidence"][0].astype(np.uint8, copy=False)
    return steps


def _shares(part: SceneRows) -> NDArray[np.uint8] | None:
    shares = part.layers.get("probabilities")
    return None if shares is None else shares.astype(np.uint8, copy=False)


def _under(first: int, count: int, old: int, new: int) -> NDArray[np.int64]:
    """Return the new pixel that the centre of each of ``count`` old ones along an axis lies in."""
    return ((np.arange(first, first + count) + 0.5) * new / old).astype(np.int64)


def _stream(network: Network, area: Area, settings: ScoringSettings) -> closing[Generator[SceneRows, None, None]]:
    """Stream an area; used in ``with``, so that the reading thread has ended before the raster is closed."""
    overlap, batch = settings.options.overlap, settings.options.batch_size
    windows = area.windows(network.size, overlap)
    samples = "uint8" if network.class_sets and settings.mapping is None else None
    options = SlidingOptions(overlap=overlap, confidence=True, probabilities=samples)
    return closing(stream(network, area, windows, options, batch=batch))


def open_mask(row: Row, image: Raster) -> Raster:
    """Open the mask of an image that is open.

    Raises:
        DataError: There is none, or one of them has another size than when the image was scanned.
    """
    if row.mask is None:
        raise DataError(f"{row.image} has no mask", "labelled images to score")
    size = (image.grid.height, image.grid.width)
    area = row.window
    if min(area.height, area.width) < 1 or min(area.row, area.col) < 0 or area.intersection(*size) != area:
        raise DataError(f"{row.image} is {size[1]} x {size[0]}", "the size it had when scanned", "scan again")
    mask = Raster(row.mask)
    if (mask.grid.height, mask.grid.width) != size:
        mask.close()
        raise size_mismatch_error(row.image, size, row.mask, (mask.grid.height, mask.grid.width))
    return mask
