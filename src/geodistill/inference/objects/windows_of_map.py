"""Parts of a finished map around one region after the other, from the strips just read or else from the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.inference.regions import MapStrip
from geodistill.inference.sliding import STEPS
from geodistill.raster import Window

_STRIPS = 3
"""Strips that are kept: regions close one strip after their last row, and one more is read ahead."""


class MapWindows:
    """A map and its confidence, open for reading parts of them; use as a context manager.

    Args:
        classes: The map.
        confidence: Its map of confidence, where there is one.
        distance: Its map of a distance head, where there is one.
    """

    def __init__(self, classes: Path, confidence: Path | None, distance: Path | None = None) -> None:
        self._paths, self._distance_path = (classes, confidence), distance
        self._recent: deque[tuple[int, MapStrip]] = deque(maxlen=_STRIPS)

    def __enter__(self) -> MapWindows:
        classes, confidence = self._paths
        self._classes = rasterio.open(classes)
        self._sure = None if confidence is None else rasterio.open(confidence)
        self._distance = None if self._distance_path is None else rasterio.open(self._distance_path)
        return self

    def __exit__(self, *_: object) -> None:
        self._classes.close()
        for file in (self._sure, self._distance):
            if file is not None:
                file.close()

    def watch(self, strips: Iterator[MapStrip]) -> Iterator[MapStrip]:
        """Yield the strips of the map as they come, keeping the last ones."""
        top = 0
        for strip in strips:
            self._recent.append((top, strip))
            top += len(strip.classes)
            yield strip

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Return ``(H, W)`` classes and their probabilities (0..1) of a part.

        Raises:
            DataError: A map is truncated or corrupt.
        """
        parts = self._kept(window) or self._from_file(window)
        classes: NDArray[np.uint8] = np.concatenate([part.classes for part in parts])
        bands = [part.confidence for part in parts if part.confidence is not None]
        if not bands:
            return classes, None
        sure: NDArray[np.float32] = np.concatenate(bands).astype(np.float32) / np.float32(STEPS)
        return classes, sure

    def read_distance(self, window: Window) -> NDArray[np.float32] | None:
        """Return ``(H, W)`` what the distance head says of a part, 0..1; ``None`` without one.

        Raises:
            DataError: The map is truncated or corrupt.
        """
        if self._distance is None:
            return None
        try:
            steps: NDArray[np.float32] = self._distance.read(1, window=window.to_rasterio()).astype(np.float32)
        except RasterioError as error:
            raise DataError(f"{self._distance_path} cannot be read ({error})", "maps as they were written") from error
        return np.where(steps > STEPS, np.float32(0), steps / np.float32(STEPS))

    def _kept(self, window: Window) -> list[MapStrip]:
        if not self._recent or window.row < self._recent[0][0]:
            return []
        parts = []
        cols = slice(window.col, window.col + window.width)
        for top, strip in self._recent:
            rows = slice(max(window.row - top, 0), max(window.row + window.height - top, 0))
            sure = strip.confidence
            parts.append(MapStrip(strip.classes[rows, cols], None if sure is None else sure[rows, cols]))
        return parts

    def _from_file(self, window: Window) -> list[MapStrip]:
        where = window.to_rasterio()
        try:
            sure = None if self._sure is None else self._sure.read(1, window=where)
            return [MapStrip(self._classes.read(1, window=where), sure)]
        except RasterioError as error:
            raise DataError(f"{self._paths[0]} cannot be read ({error})", "maps as they were written") from error
