"""An open raster: masked windowed reads."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geodistill.errors import DataError
from geodistill.raster.grid import Grid, Window

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vrt", ".jp2")
"""Suffixes, in lower case, that are looked for when a folder is scanned for rasters."""


class Raster:
    """An open image or mask file; use as a context manager.

    Reads are windowed. A window may reach beyond the raster: the part outside is 0 and not valid.

    Args:
        path: Any file GDAL reads: GeoTIFF, PNG, JPEG, BMP, VRT ...

    Raises:
        DataError: The file is missing or cannot be read as a raster.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"no file {self.path}", "an image file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._file = rasterio.open(self.path)
        except RasterioError as error:
            raise DataError(
                f"{self.path} cannot be opened as a raster ({error})", "GeoTIFF, PNG, JPEG or BMP"
            ) from error
        if self._file.driver == "PNG" and not _png_is_complete(self.path):
            self._file.close()
            raise DataError(f"{self.path} is truncated", "a whole PNG file", "fetch or export it again")
        alpha = [i for i, kind in enumerate(self._file.colorinterp, 1) if kind == ColorInterp.alpha]
        tagged = bool(alpha)
        if tagged and self._file.driver == "GTiff" and not self._holds_alpha(alpha[0]):
            alpha = []
        self._indexes = [i for i in self._file.indexes if i not in alpha] or list(self._file.indexes)
        from_alpha = tagged and not alpha and MaskFlags.alpha in self._file.mask_flag_enums[0]
        self._masked = not from_alpha and any(MaskFlags.all_valid not in f for f in self._file.mask_flag_enums)

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _holds_alpha(self, index: int) -> bool:
        """Whether a band tagged as alpha holds opacity: mostly 0 or the largest value, in five sampled places.

        GDAL tags the fourth band of any 8-bit TIFF as alpha unless told otherwise, near infrared too.
        """
        file, extremes, total = self._file, 0, 0
        largest = np.iinfo(self.dtype).max if self.dtype.kind in "ui" else 1
        for row, col in ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
            window = Window(int(row * file.height) - 16, int(col * file.width) - 16, 32, 32)
            try:
                sample = file.read(index, window=window.intersection(file.height, file.width).to_rasterio())
            except RasterioError:
                continue
            extremes += int(np.isin(sample, (0, largest)).sum())
            total += sample.size
        return extremes >= total / 2

    @property
    def channels(self) -> int:
        """Number of bands without alpha."""
        return len(self._indexes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type of the file."""
        dtype: np.dtype[Any] = np.dtype(self._file.dtypes[0])
        return dtype

    @property
    def nodata(self) -> float | None:
        """The file's nodata value."""
        return None if self._file.nodata is None else float(self._file.nodata)

    @property
    def tiled(self) -> bool:
        """Whether the file is stored in tiles, so that a window is read without decoding whole rows."""
        return any(width < self._file.width for _, width in self._file.block_shapes)

    @property
    def acquired(self) -> str | None:
        """The file's own date tag as ``YYYY-MM-DD``, or ``None`` where it has none."""
        digits = re.sub(r"\D", "", str(self._file.tags().get("TIFFTAG_DATETIME", "")))[:8]
        return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 else None

    @property
    def band_names(self) -> tuple[str, ...]:
        """Description of each band, or ``band1``, ``band2`` ... where the file names none."""
        named = self._file.descriptions
        return tuple(named[i - 1] or f"band{i}" for i in self._indexes)

    @property
    def colormap(self) -> dict[int, tuple[int, int, int, int]] | None:
        """RGBA colour of each value of a palette file, else ``None``."""
        if self._file.colorinterp[0] != ColorInterp.palette:
            return None
        table: dict[int, tuple[int, int, int, int]] = self._file.colormap(1)
        return table

    @property
    def grid(self) -> Grid:
        """Shape and georeferencing."""
        file = self._file
        gcps, gcps_crs = file.gcps
        return Grid(file.height, file.width, file.crs, file.transform, tuple(gcps), gcps_crs, file.rpcs)

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read pixels and their validity.

        Args:
            window: The part to read, by default the whole; may reach beyond the raster.
            bands: Zero-based positions among the bands without alpha, by default all.

        Returns:
            ``(C, H, W)`` in the file's dtype (not finite samples become 0) and ``(H, W)`` bool: False outside
            the raster, where the file's nodata, mask band or alpha says so, and where a sample is not finite.

        Raises:
            DataError: The file is truncated or corrupt, or a band position does not exist.
        """
        window = window or Window(0, 0, self._file.height, self._file.width)
        positions = range(self.channels) if bands is None else bands
        if any(not 0 <= b < self.channels for b in positions):
            raise DataError(f"{self.path}: bands {list(positions)}", f"positions 0 to {self.channels - 1}")
        indexes = [self._indexes[b] for b in positions]
        image: NDArray[Any] = np.zeros((len(indexes), window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        inside = window.intersection(self._file.height, self._file.width)
        if inside.height and inside.width:
            part = Window(inside.row - window.row, inside.col - window.col, inside.height, inside.width)
            image[(..., *part.slices)], valid[part.slices] = self._read_inside(inside, indexes)
        return image, valid

    def _read_inside(self, window: Window, indexes: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        where = window.to_rasterio()
        try:
            pixels = self._file.read(indexes, window=where)
            valid = np.ones(pixels.shape[1:], bool)
            if self._masked:
                valid = self._file.dataset_mask(window=where) != 0
        except RasterioError as error:
            raise DataError(
                f"{self.path} is truncated or corrupt at row {window.row}, column {window.col}",
                "a readable file",
                "fetch or export it again",
            ) from error
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            if not finite.all():
                valid &= finite.all(axis=0)
                pixels = np.where(finite, pixels, 0)
        return pixels, valid


def _png_is_complete(path: Path) -> bool:
    """Walk the chunks to the closing one: GDAL reads a whole truncated PNG without an error, as garbage."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] == b"IEND":
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
