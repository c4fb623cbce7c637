"""Parts of a finished map around one region after the other, from the strips just read or else from the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.inference.map_file import read_strip
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
        self._paths = (classes, confidence, distance)
        self._recent: deque[tuple[int, MapStrip]] = deque(maxlen=_STRIPS)

    def __enter__(self) -> MapWindows:
        with ExitStack() as opened:
            self._files = [None if path is None else opened.enter_context(rasterio.open(path)) for path in self._paths]
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def watch(self, strips: Iterator[MapStrip]) -> Iterator[MapStrip]:
        """Yield the strips of the map as they come, keeping the last ones."""
        top = 0
        for strip in strips:
            self._recent.append((top, strip))
            top += len(strip.classes)
            yield strip

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Return ``(H, W)`` classes of a part, their probabilities, and what the distance head says of it (0..1).

        Raises:
            DataError: A map is truncated or corrupt.
        """
        parts = self._kept(window) or [self._from_file(window)]
        classes: NDArray[np.uint8] = np.concatenate([part.classes for part in parts])
        sure = _shares([part.confidence for part in parts])
        distance = _shares([part.distance for part in parts])
        return classes, sure, None if distance is None else np.where(distance > 1, np.float32(0), distance)

    def _kept(self, window: Window) -> list[MapStrip]:
        if not self._recent or window.row < self._recent[0][0]:
            return []
        parts = []
        cols = slice(window.col, window.col + window.width)
        for top, strip in self._recent:
            rows = slice(max(window.row - top, 0), max(window.row + window.height - top, 0))
            sure, distance = (None if band is None else band[rows, cols] for band in (strip.confidence, strip.distance))
            parts.append(MapStrip(strip.classes[rows, cols], sure, distance))
        return parts

    def _from_file(self, window: Window) -> MapStrip:
        try:
            return read_strip(self._files, window)
        except RasterioError as error:
            raise DataError(f"{self._paths[0]} cannot be read ({error})", "maps as they were written") from error


def _shares(bands: list[NDArray[np.uint8] | None]) -> NDArray[np.float32] | None:
    """Return bands in steps of 1/`STEPS` one below the other, as shares; ``None`` where there are none."""
    there = [band for band in bands if band is not None]
    return np.concatenate(there).astype(np.float32) / np.float32(STEPS) if there else None
