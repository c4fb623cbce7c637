"""A published fault, reproduced on request: padding at the edge of images that is scored as a class.

GeoSeg's splitters, which several published ISPRS figures come from, pad each tile of the ground to a multiple of the
window with black and then read the padded labels as class 0, impervious surfaces. A network that has learnt from such
labels finds them again without fail, which raises that class and every mean. Scores made this way are comparable to
those figures and to nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.errors import GeodistillWarning, RecipeError, check_name
from geodistill.evaluation.scoring import ScoringSettings
from geodistill.inference.network import Network
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Raster, Window
from geodistill.raster.raster import open_image
from geodistill.spec import IGNORE_INDEX, Legend


@dataclass(frozen=True)
class Padding:
    """Padding that is scored: the `geodistill.evaluation.scoring.ExtraPixels` of ``evaluate --padding-as``.

    An image lies at the bottom right of its windows, with black above and to the left (GeoSeg's way).

    Attributes:
        name: The class that padding counts as.
        window: Each image is padded to a multiple of so many pixels; of the model's windows where not given.

    Raises:
        RecipeError: The window is less than one pixel.
    """

    name: str
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise RecipeError(f"padding window {self.window}", "at least 1 pixel")

    def check(self, legend: Legend) -> None:
        """Refuse a class that is not among the scored ones.

        Raises:
            UnknownNameError: It is not.
        """
        check_name("class", self.name, legend.names)

    def count(self, network: Network, row: Row, legend: Legend, settings: ScoringSettings) -> ConfusionMatrix:
        """Count what the model sees in an image's padding, window by window, and nothing of the image itself.

        Raises:
            DataError: The image cannot be read.
        """
        matrix = ConfusionMatrix(len(legend))
        label = legend.names.index(self.name)
        with open_image(row.image, network.bands) as raster:
            for image, padded in _padded_windows(raster, row.window, self.window or network.size):
                classes = network.probabilities([image])[0].argmax(0).to("cpu").numpy().astype(np.uint8)
                truth = np.where(padded, label, IGNORE_INDEX).astype(np.uint8)
                matrix.update(settings.prediction(classes), truth)
        return matrix

    def report(self, extra: ConfusionMatrix, total: ConfusionMatrix, window: int) -> dict[str, Any]:
        """Warn that the scores are comparable to those of a published fault alone, and return what was padded."""
        pixels = int(extra.counts.sum())
        warnings.warn(
            f"{pixels:,} of the {total.counts.sum():,} scored pixels are padding counted as {self.name}: "
            "these scores reproduce a fault of published ones and say nothing else",
            GeodistillWarning,
            stacklevel=3,
        )
        return {"as": self.name, "window": self.window or window, "pixels": pixels}


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
