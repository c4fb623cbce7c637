"""An array in memory, read as an open raster is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geodistill.errors import DataError
from geodistill.raster.grid import Grid, Window
from geodistill.raster.raster import Raster
from geodistill.raster.stored import has_data

KINDS = "buif"
"""Kinds of sample types that are read: bool, unsigned, signed, float."""


class ArrayRaster(Raster):
    """Pixels in memory that are read as those of a file are: by windows, with their validity.

    Samples that are not finite (NaN) mean no data, as does ``nodata`` where all bands have it.

    Args:
        image: ``(C, H, W)``, or ``(H, W)`` for one band, sensor units, any real sample type. It is not copied.
        valid: ``(H, W)`` bool: where there is data; by default everywhere.
        grid: Where the pixels lie; by default nowhere on the ground.
        nodata: Value that means no data.
        name: What the image is called in messages.

    Raises:
        DataError: The arrays are of other shapes or types, or the grid is of another size.
    """

    def __init__(
        self,
        image: ArrayLike,
        valid: ArrayLike | None = None,
        grid: Grid | None = None,
        nodata: float | None = None,
        name: str = "image",
    ) -> None:
        pixels = np.asarray(image)
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in KINDS:
            raise DataError(
                f"an image of shape {pixels.shape} and type {pixels.dtype}", "(bands, rows, columns) of real numbers"
            )
        shape = pixels.shape[1:]
        shown = np.ones(shape, bool) if valid is None else np.asarray(valid)
        if shown.shape != shape or shown.dtype != bool:
            raise DataError(f"a mask of shape {shown.shape} and type {shown.dtype}", f"{shape} of type bool")
        grid = grid or Grid(*shape)
        if (grid.height, grid.width) != shape:
            raise DataError(f"a grid of {grid.height} x {grid.width} pixels", f"the image's {shape[0]} x {shape[1]}")
        self.source, self.path, self.remote = name, Path(name), False
        self._pixels = pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels
        self._valid, self._grid, self._missing = shown, grid, nodata

    def close(self) -> None:
        """Do nothing: the array is the caller's."""

    def reopen(self) -> Raster:
        """Return the same pixels for another thread."""
        return self

    @property
    def name(self) -> str:
        """What the image is called."""
        return self.source

    @property
    def channels(self) -> int:
        """Number of bands."""
        return len(self._pixels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type of reads."""
        return self._pixels.dtype

    @property
    def nodata(self) -> float | None:
        """The value that means no data."""
        return self._missing

    @property
    def files(self) -> tuple[str, ...]:
        """No file."""
        return ()

    @property
    def tiled(self) -> bool:
        """Whether a window is read without its neighbours: always."""
        return True

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of what is decoded at once: a pixel."""
        return 1, 1

    @property
    def block_row_bytes(self) -> int:
        """Bytes that are decoded for a row of blocks: none."""
        return 0

    @property
    def overviews(self) -> list[int]:
        """No smaller versions."""
        return []

    @property
    def acquired(self) -> str | None:
        """No date."""
        return None

    @property
    def band_names(self) -> tuple[str, ...]:
        """``band1``, ``band2`` ..."""
        return tuple(f"band{i + 1}" for i in range(self.channels))

    @property
    def turned(self) -> bool:
        """Whether it is turned for viewing: never."""
        return False

    @property
    def grid(self) -> Grid:
        """Shape and georeferencing."""
        return self._grid

    def _read_inside(self, window: Window, positions: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.slices
        pixels, valid = self._pixels[positions, rows, cols], self._valid[rows, cols]
        valid = valid & has_data(pixels, [self._missing] * len(positions))
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            valid, pixels = valid & finite.all(0), np.where(finite, pixels, 0)
        return pixels, valid
