"""Static quantisation of an exported graph to 8-bit integers, and what it costs in mIoU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geodistill.backends.graph import INPUT, require
from geodistill.backends.metadata import finish_graph, model_metadata
from geodistill.backends.onnx_backend import OnnxBackend
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError
from geodistill.evaluation.evaluate import check_legend
from geodistill.evaluation.scoring import ScoringSettings, score_image
from geodistill.files import atomic_path
from geodistill.inference.network import as_network
from geodistill.inference.windows import Area
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter

WINDOWS = 64
"""Windows of the training images that the ranges of numbers are read from."""


@dataclass(frozen=True)
class Int8:
    """What was written and what it costs: mIoU (0..1) of the graph in float32 and in 8-bit integers over a split."""

    path: Path
    before: float
    after: float
    split: str

    def __str__(self) -> str:
        cost = f"mIoU {100 * self.before:.2f} in float32, {100 * self.after:.2f} in 8-bit integers"
        return f"{self.path}: {self.split} {cost}"


def quantise(segmenter: Segmenter, graph: Path, path: Path, manifest: Manifest, split: str, size: int) -> Int8:
    """Make a graph of 8-bit integers: weights by channel, activations by ranges seen on training images.

    Its cost is measured on a split of the manifest, whose classes are the model's, in images of ``size`` x ``size``.

    Raises:
        RecipeError: A package is missing.
        DataError: The data cannot be read, or the split holds no labels.
        OutputError: The file cannot be written.
    """
    check_data(segmenter, manifest, split)
    with atomic_path(path) as part:
        quantise_graph(graph, part, calibration_windows(manifest, size))
        finish_graph(part, model_metadata(segmenter))
        before, after = (score(segmenter, file, manifest, split, size) for file in (graph, part))
    return Int8(path, before, after, split)


def check_data(segmenter: Segmenter, manifest: Manifest, split: str) -> None:
    """Refuse data that a model's graph cannot be quantised and scored with, before any work is done.

    Raises:
        DataError: Files are broken, the classes are others, or there are no images to train on or to score.
    """
    manifest.refuse_problems()
    check_legend(manifest, segmenter)
    for name in ("train", split):
        manifest.some_rows(name)


def quantise_graph(graph: Path, path: Path, windows: Iterator[NDArray[np.float32]]) -> None:
    """Make a graph of 8-bit integers, as pairs of nodes that quantise and restore, which every runtime understands.

    Ranges of activations are read from ``windows``, ``(C, S, S)`` images in sensor units.

    Raises:
        RecipeError: A package is missing.
    """
    require("onnx", "onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Windows(CalibrationDataReader):  # type: ignore[misc]
        """Windows in the form that the calibration asks for."""

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """Return one window, or ``None`` after the last."""
            return next(({INPUT: window[None]} for window in windows), None)

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                Windows(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "Relu", "Clip"],
            )
    finally:
        logging.disable(level)


def calibration_windows(manifest: Manifest, size: int) -> Iterator[NDArray[np.float32]]:
    """Yield `WINDOWS` windows ``(C, S, S)`` of training images, in sensor units, 0 where there is no data."""
    rows = manifest.some_rows("train")
    rng = np.random.default_rng(0)
    for index in rng.permutation(np.arange(WINDOWS) % len(rows)):
        row = rows[index]
        top = int(rng.integers(0, max(row.window.height - size, 0) + 1))
        left = int(rng.integers(0, max(row.window.width - size, 0) + 1))
        with Raster(row.image) as raster:
            yield Area(raster, row.window).read(Window(top, left, size, size))[0].astype(np.float32)


def score(segmenter: Segmenter, graph: Path, manifest: Manifest, split: str, size: int) -> float:
    """Measure the mIoU of a graph over the labelled images of a split, as ``evaluate`` does.

    Raises:
        DataError: The split holds no labels, or an image or mask cannot be read.
    """
    legend = check_legend(manifest, segmenter)
    settings = ScoringSettings(ignore_unknown=manifest.ignore_unknown)
    network = replace(as_network(segmenter, forward=OnnxBackend(graph, "cpu", "fp32", 1)), size=size)
    matrix = ConfusionMatrix(len(legend))
    for row in manifest.some_rows(split):
        matrix += score_image(network, row, legend, settings).matrix
    if not matrix.counts.sum():
        raise DataError(f"split '{split}' of {manifest.path or 'the manifest'} has no labelled pixel", "labels")
    return matrix.scores(legend).miou
