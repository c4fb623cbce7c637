"""Scores of a model on a map-style dataset of tensors, such as TorchGeo's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geodistill.data.manifest import Row
from geodistill.data.map_datasets import MapDataset, as_patch
from geodistill.data.reader import Patch
from geodistill.errors import DataError
from geodistill.evaluation.scoring import ScoringSettings, score_image, scoring_network
from geodistill.inference.network import Network
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend


def evaluate_dataset(
    segmenter: Segmenter, dataset: MapDataset, legend: Legend | None = None, settings: ScoringSettings | None = None
) -> Scores:
    """Segment every item of a dataset as `evaluate` does the images of a manifest, and score it.

    Args:
        segmenter: The model.
        dataset: Yields dicts with ``image``, ``(C, H, W)`` float in sensor units, and ``mask``, ``(H, W)`` integers.
        legend: What the mask values mean; by default that of the model.
        settings: How images are segmented.

    Raises:
        DataError: The dataset is empty, the legend has other classes than the model, an item has another form, or a
            mask holds a value outside the legend.
    """
    known, settings = segmenter.spec.legend, settings or ScoringSettings()
    if legend is not None and legend.names != known.names:
        raise DataError(f"a legend of {', '.join(legend.names)}", f"the model's classes {', '.join(known.names)}")
    network, matrix = replace(scoring_network(segmenter, settings), class_sets={}), ConfusionMatrix(len(known))
    if not len(dataset):
        raise DataError("an empty dataset", "at least one item")
    for index in range(len(dataset)):
        patch = as_patch(dataset[index], Path(str(index)), legend or known)
        matrix += _score(network, patch, known, settings)
    return matrix.scores(known)


def _score(network: Network, patch: Patch, legend: Legend, settings: ScoringSettings) -> ConfusionMatrix:
    """Score one item through files in memory, so that it is cut into windows and blended as any image is."""
    height, width = patch.valid.shape
    with MemoryFile(ext=".tif") as image, MemoryFile(ext=".tif") as mask:
        # What is not valid is written as not a number, which is read as not valid.
        _write(image, np.where(patch.valid, patch.image, np.float32(np.nan)))
        _write(mask, patch.mask[None])
        row = Row(Path(image.name), Path(mask.name), "test", Window(0, 0, height, width))
        return score_image(network, row, Legend(legend.names), settings).matrix


def _write(file: MemoryFile, pixels: NDArray[Any]) -> None:
    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(file.name, "w", driver="GTiff", dtype=pixels.dtype, photometric="minisblack", **size) as raster:
        raster.write(pixels)
