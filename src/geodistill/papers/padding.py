"""A published fault on request: padding at the edge of images that is scored as a class.

GeoSeg's splitters, which several published ISPRS figures come from, pad each tile of the ground to a multiple of the
window with black and then read the padded labels as class 0, impervious surfaces. A network that has learnt from such
labels finds them again without fail, which raises that class and every mean. Scores made this way are comparable to
those figures and to nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.errors import RecipeError
from geodistill.evaluation.scoring import ScoringSettings
from geodistill.inference.network import as_network
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX


@dataclass(frozen=True)
class Padding:
    """How padding is scored.

    Attributes:
        index: The class, by its position in the legend of the scores.
        window: Each image is padded to a multiple of so many pixels.

    Raises:
        RecipeError: The window is less than one pixel.
    """

    index: int
    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise RecipeError(f"padding window {self.window}", "at least 1 pixel")


def score_padding(
    segmenter: Segmenter, row: Row, padding: Padding, matrix: ConfusionMatrix, settings: ScoringSettings
) -> None:
    """Count what the model sees in an image's padding, window by window; the image's own pixels are not counted.

    Args:
        segmenter: The model.
        row: The image. It lies at the bottom right of its windows, with black above and to the left (GeoSeg's way).
        padding: What padding counts as.
        matrix: Counts are added to it.
        settings: How images are segmented.

    Raises:
        DataError: The image cannot be read.
    """
    network = as_network(segmenter, tta="flips" if settings.flips else "none")
    with Raster(row.image) as raster:
        for image, padded in _padded_windows(raster, row.window, padding.window):
            found = network.probabilities([image])[0].argmax(0).to("cpu").numpy().astype(np.uint8)
            truth = np.where(padded, padding.index, IGNORE_INDEX).astype(np.uint8)
            matrix.update(settings.prediction(found), truth)


def _padded_windows(raster: Raster, area: Window, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield each window that holds padding: ``(C, size, size)``, and ``(size, size)`` True where it is padding."""
    above, left = -area.height % size, -area.width % size
    for top in range(-above, area.height, size):
        for start in range(-left, area.width, size):
            if top >= 0 and start >= 0:
                continue
            rows, cols = slice(max(-top, 0), size), slice(max(-start, 0), size)
            inside = Window(area.row + max(top, 0), area.col + max(start, 0), size - rows.start, size - cols.start)
            image = np.zeros((raster.channels, size, size), np.float32)
            pixels, valid = raster.read(inside)
            image[:, rows, cols] = np.where(valid, pixels, 0)
            padded = np.ones((size, size), bool)
            padded[rows, cols] = False
            yield image, padded
