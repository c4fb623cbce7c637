"""Parts of a finished map read around one region after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.inference.sliding import STEPS
from geodistill.raster import Window


class MapWindows:
    """A map and its confidence, open for reading parts of them; use as a context manager.

    Regions come by their last rows, so that GDAL has the blocks of a region's neighbours decoded already.

    Args:
        classes: The map.
        confidence: Its map of confidence, where there is one.
    """

    def __init__(self, classes: Path, confidence: Path | None) -> None:
        self._paths = (classes, confidence)

    def __enter__(self) -> MapWindows:
        classes, confidence = self._paths
        self._classes = rasterio.open(classes)
        self._sure = None if confidence is None else rasterio.open(confidence)
        return self

    def __exit__(self, *_: object) -> None:
        self._classes.close()
        if self._sure is not None:
            self._sure.close()

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Return ``(H, W)`` classes and their probabilities (0..1) of a part.

        Raises:
            DataError: A map is truncated or corrupt.
        """
        try:
            classes: NDArray[np.uint8] = self._classes.read(1, window=window.to_rasterio())
            sure = None if self._sure is None else self._sure.read(1, window=window.to_rasterio())
        except RasterioError as error:
            raise DataError(f"{self._paths[0]} cannot be read ({error})", "maps as they were written") from error
        return classes, None if sure is None else sure.astype(np.float32) / STEPS
