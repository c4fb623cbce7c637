"""Static quantisation of an exported graph to 8-bit integers, and what it costs in mIoU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geodistill.backends.metadata import finish_graph, model_metadata
from geodistill.backends.onnx_backend import OnnxBackend
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, DataError
from geodistill.evaluation.evaluate import check_legend
from geodistill.evaluation.scoring import ScoringSettings, score_image
from geodistill.exports.int8_graph import by_sensitivity, prepare_graph, quantise_graph
from geodistill.files import atomic_path
from geodistill.inference.network import as_network
from geodistill.inference.windows import Area
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Window
from geodistill.raster.raster import open_image
from geodistill.segmenter import Segmenter

WINDOWS = 64
"""Windows of the training images that the ranges of numbers are read from."""


_FLOAT_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the layers that are left in float, tried one after the other."""

_SENSED = 4
"""Windows on which each layer's sensitivity is measured."""


@dataclass(frozen=True)
class Int8:
    """What was written and what it costs: mIoU (0..1) of the graph in float32 and in 8-bit integers over a split.

    ``exact`` of its ``layers`` stay in float.
    """

    path: Path
    before: float
    after: float
    split: str
    exact: int = 0
    layers: int = 0

    def __str__(self) -> str:
        cost = f"mIoU {100 * self.before:.2f} in float32, {100 * self.after:.2f} in 8-bit integers"
        mixed = f", {self.exact} of {self.layers} layers in float" if self.exact else ""
        return f"{self.path}: {self.split} {cost}{mixed}"


def quantise(
    segmenter: Segmenter, graph: Path, path: Path, manifest: Manifest, split: str, size: int, most_lost: float = 0.01
) -> Int8:
    """Make a graph of 8-bit integers: weights by channel, activations by ranges seen on training images.

    Its cost is measured on a split of the manifest, whose classes are the model's, in images of ``size`` x ``size``.
    Where it is more than ``most_lost`` (of mIoU, 0..1), the layers whose quantisation changes the logits most stay in
    float: first a sixteenth of them, at last half.

    Raises:
        RecipeError: A package is missing.
        DataError: The data cannot be read, or the split holds no labels.
        ArtifactError: Even with half of the layers in float more is lost.
        OutputError: The file cannot be written.
    """
    check_data(segmenter, manifest, split)
    windows = list(calibration_windows(manifest, size, segmenter.spec.bands))
    before = score(segmenter, graph, manifest, split, size)
    after, order = before, list[str]()
    with TemporaryDirectory(prefix="geodistill-") as folder, atomic_path(path) as part:
        prepared = Path(folder) / "prepared.onnx"
        prepare_graph(graph, prepared)
        for share in _FLOAT_SHARES:
            if share and not order:
                order = by_sensitivity(prepared, windows[:_SENSED])
            exact = order[: math.ceil(share * len(order))]
            quantise_graph(prepared, part, windows, exact=exact)
            finish_graph(part, model_metadata(segmenter))
            after = score(segmenter, part, manifest, split, size)
            if before - after <= most_lost:
                return Int8(path, before, after, split, len(exact), len(order))
        raise ArtifactError(
            f"8-bit integers lose {100 * (before - after):.2f} points of mIoU on {split} ({100 * before:.2f} before) "
            "with half of the layers in float",
            f"at most {100 * most_lost:g}",
            "allow more with --int8-drop, or take the graph in float32",
        )


def check_data(segmenter: Segmenter, manifest: Manifest, split: str) -> None:
    """Refuse data that a model's graph cannot be quantised and scored with, before any work is done.

    Raises:
        DataError: Files are broken, the classes are others, or there are no images to train on or to score.
    """
    manifest.refuse_problems()
    check_legend(manifest, segmenter)
    for name in ("train", split):
        manifest.some_rows(name)


def calibration_windows(manifest: Manifest, size: int, bands: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """Yield `WINDOWS` windows ``(C, S, S)`` of training images, in sensor units, 0 where there is no data."""
    rows = manifest.some_rows("train")
    rng = np.random.default_rng(0)
    for index in rng.permutation(np.arange(WINDOWS) % len(rows)):
        row = rows[index]
        top = int(rng.integers(0, max(row.window.height - size, 0) + 1))
        left = int(rng.integers(0, max(row.window.width - size, 0) + 1))
        with open_image(row.image, bands) as raster:
            yield Area(raster, row.window).read(Window(top, left, size, size))[0].astype(np.float32)


def score(segmenter: Segmenter, graph: Path, manifest: Manifest, split: str, size: int) -> float:
    """Measure the mIoU of a graph over the labelled images of a split, as ``evaluate`` does.

    Raises:
        DataError: The split holds no labels, or an image or mask cannot be read.
    """
    legend = check_legend(manifest, segmenter)
    settings = ScoringSettings(ignore_unknown=manifest.ignore_unknown)
    network = replace(as_network(segmenter, forward=OnnxBackend(graph, "cpu", "fp32", 1)), size=size, class_sets={})
    matrix = ConfusionMatrix(len(legend))
    for row in manifest.some_rows(split):
        matrix += score_image(network, row, legend, settings).matrix
    if not matrix.counts.sum():
        raise DataError(f"split '{split}' of {manifest.path or 'the manifest'} has no labelled pixel", "labels")
    return matrix.scores(legend).miou
