"""A raster at another ground sampling distance, whose pixels do not depend on how it is read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.raster.grid import Grid, Window
from geodistill.raster.raster import Raster


class ResampledRaster(Raster):
    """An open raster read at another ground sampling distance.

    Larger pixels are means, weighted by a triangle of the width of the new pixel, of the valid pixels under it; finer
    ones are interpolated bilinearly. A pixel is valid where at least half of that weight is. Each pixel is the same
    sum whatever window it is read with, which GDAL's warped rasters do not promise; overviews in the file are used
    where they are still finer than what is asked for.

    Args:
        raster: The raster.
        gsd: Metres per pixel that it is read at.
        native: Its own, where it does not say it.

    Raises:
        DataError: The raster's own ground sampling distance is unknown.
    """

    def __init__(self, raster: Raster, gsd: float, native: float | None = None) -> None:
        native = raster.grid.gsd or native
        if native is None:
            raise DataError(
                f"{raster.source} has no ground sampling distance",
                "a CRS and transform to resample by",
                "keep its own pixels: predict --gsd native, evaluate without --gsd",
            )
        source, bands, _, nodata = raster._opened
        levels = [factor for factor in raster.overviews if factor <= gsd / native]
        super().__init__(source, bands, len(levels) - 1 if levels else None, nodata)
        self._gsd, self._native, self._whole = gsd, native, raster.grid
        height, width = (max(round(n * native / gsd), 1) for n in (self._whole.height, self._whole.width))
        stored = super().grid
        self._row_taps = _taps(height, stored.height)
        self._col_taps = _taps(width, stored.width)

    def reopen(self) -> Raster:
        """Open the same once more, for another thread."""
        source, bands, _, nodata = self._opened
        with Raster(source, bands, nodata=nodata) as raster:
            return ResampledRaster(raster, self._gsd, self._native)

    @property
    def native(self) -> Grid:
        """Shape and georeferencing of the file itself."""
        return self._whole

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float32."""
        return np.dtype(np.float32)

    @property
    def block(self) -> tuple[int, int]:
        """Height and width in the new pixels of the file's blocks, about."""
        height, width = super().block
        stored = super().grid
        return max(height * self.grid.height // stored.height, 1), max(width * self.grid.width // stored.width, 1)

    @property
    def block_row_bytes(self) -> int:
        """Bytes of a row of the file's blocks across the file, decoded, of all its bands."""
        # Blocks are counted in new pixels here, and the file's rows in its own.
        return super().block_row_bytes * super().grid.height // self.grid.height

    @property
    def grid(self) -> Grid:
        """Shape and georeferencing at the new distance."""
        height, width, whole = len(self._row_taps[0]), len(self._col_taps[0]), self._whole
        moved = whole.transform @ Affine.scale(whole.width / width, whole.height / height)
        return replace(whole, height=height, width=width, transform=moved, gcps=(), gcps_crs=None, rpcs=None)

    def _read_inside(self, window: Window, positions: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, row_weights = (taps[window.row : window.row + window.height] for taps in self._row_taps)
        cols, col_weights = (taps[window.col : window.col + window.width] for taps in self._col_taps)
        top, left = int(rows.min()), int(cols.min())
        under = Window(top, left, int(rows.max()) + 1 - top, int(cols.max()) + 1 - left)
        pixels, valid = super()._read_inside(under, positions)
        known = valid.astype(np.float32)
        stacked = np.concatenate([pixels.astype(np.float32) * known, known[None]])
        down = np.zeros((len(stacked), window.height, under.width), np.float32)
        for tap in range(rows.shape[1]):
            down += row_weights[:, tap, None] * stacked[:, rows[:, tap] - top]
        summed = np.zeros((len(stacked), window.height, window.width), np.float32)
        for tap in range(cols.shape[1]):
            summed += col_weights[:, tap] * down[:, :, cols[:, tap] - left]
        # The weights sum to 1 but for rounding.
        covered: NDArray[np.bool_] = summed[-1] >= 0.5 - 1e-4
        return np.where(covered, summed[:-1] / np.maximum(summed[-1], 1e-6), 0), covered


def _taps(new: int, old: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which old pixels make each new one along an axis, and their weights: two arrays ``(new, taps)``."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    offsets = np.arange(2 * math.ceil(reach) + 1)
    indices = np.floor(centres - reach).astype(np.int64)[:, None] + offsets
    weights = np.clip(1 - np.abs(indices - centres[:, None]) / reach, 0, None)
    inside = (indices >= 0) & (indices < old)
    weights = np.where(inside, weights, 0)
    return np.clip(indices, 0, old - 1), (weights / weights.sum(1, keepdims=True)).astype(np.float32)
