"""An open raster: masked windowed reads of chosen bands, in sensor units."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.raster.bands import aliases, choose
from geodistill.raster.grid import Grid, Window
from geodistill.raster.place import NETWORK, is_local, is_remote, open_source, stem_of
from geodistill.raster.sources import every_file, stamp_of
from geodistill.raster.stack import stack

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vrt", ".jp2")
"""Suffixes, in lower case, that are looked for when a folder is scanned for rasters."""

Source = Path | str | Sequence[Path | str]


class Raster:
    """An open image or mask file; use as a context manager.

    Reads are windowed. A window may reach beyond the raster: the part outside is 0 and not valid. Where the file
    has scale and offset tags, samples are float32 with both applied.

    Args:
        source: Any file GDAL reads (GeoTIFF, PNG, JPEG, BMP, VRT ...), a GDAL path such as ``/vsizip/...``, an address
            (``https://...``, ``s3://...``), or several of them that hold bands of one scene.
        bands: Bands to read, in this order: a number counted from 1, or a name each. By default all but alpha.
        overview: Level of the file's overviews to read in place of the whole, from 0.
        nodata: Value that means no data where all bands have it, for files that do not say so themselves.

    Raises:
        DataError: The file is missing or cannot be read as a raster, or has no such band.
    """

    def __init__(
        self,
        source: Source,
        bands: Sequence[str] | None = None,
        overview: int | None = None,
        nodata: float | None = None,
    ) -> None:
        several = not isinstance(source, Path | str)
        sources = [str(source)] if isinstance(source, Path | str) else [str(s) for s in source]
        self.source = ", ".join(sources)
        self.path = Path(sources[0])
        self._opened = (tuple(sources) if several else sources[0], bands, overview, nodata)
        self._remote = any(map(is_remote, sources))
        self._file = open_source(stack(sources) if several else sources[0], overview)
        if self._file.driver == "PNG" and is_local(sources[0]) and not _png_is_complete(self.path):
            self._file.close()
            raise DataError(f"{self.path} is truncated", "a whole PNG file", "fetch or export it again")
        alpha = [i for i, kind in enumerate(self._file.colorinterp, 1) if kind == ColorInterp.alpha]
        tagged = bool(alpha)
        if tagged and self._file.driver == "GTiff" and not self._holds_alpha(alpha[0]):
            alpha = []
        self._indexes = [i for i in self._file.indexes if i not in alpha] or list(self._file.indexes)
        # The fourth band of some files is tagged as alpha and holds none: nothing is masked by it.
        self._false_alpha = tagged and not alpha
        if bands is not None:
            try:
                self._indexes = choose(bands, [(i, self._names(i)) for i in self._indexes], self.source)
            except DataError:
                self._file.close()
                raise
        self._look_at_masks(nodata)

    def _look_at_masks(self, nodata: float | None) -> None:
        file, indexes = self._file, self._indexes
        flags = [file.mask_flag_enums[i - 1] for i in indexes]
        from_band = [f for f in flags if MaskFlags.all_valid not in f and MaskFlags.nodata not in f]
        if self._false_alpha:
            from_band = [f for f in from_band if MaskFlags.alpha not in f]
        self._mask_bands = [] if not from_band else indexes[:1]
        if from_band and not all(MaskFlags.per_dataset in f for f in from_band):
            self._mask_bands = indexes
        self._nodata = [
            file.nodatavals[i - 1] if MaskFlags.nodata in f else None for i, f in zip(indexes, flags, strict=True)
        ]
        if nodata is not None:
            self._nodata = [nodata] * len(indexes)
        scales, offsets = [file.scales[i - 1] for i in indexes], [file.offsets[i - 1] for i in indexes]
        self._scaled = any(s != 1 for s in scales) or any(o != 0 for o in offsets)
        self._scales = np.array(scales, np.float32)[:, None, None]
        self._offsets = np.array(offsets, np.float32)[:, None, None]

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def reopen(self) -> Raster:
        """Open the same bands of the same source once more, for another thread."""
        return Raster(*self._opened)

    def _names(self, index: int) -> set[str]:
        file = self._file
        description, colour = file.descriptions[index - 1], file.colorinterp[index - 1].name
        # A band of a stack is called after its file.
        stacked = not isinstance(self._opened[0], str)
        named = description if stacked and description else self.path.name
        told = None if colour in ("undefined", "gray", "palette") else colour
        return aliases(named, description, told, alone=stacked or file.count == 1)

    def _holds_alpha(self, index: int) -> bool:
        """Whether a band tagged as alpha holds opacity: mostly 0 or the largest value, in five sampled places.

        GDAL tags the fourth band of any 8-bit TIFF as alpha unless told otherwise, near infrared too.
        """
        file, extremes, total = self._file, 0, 0
        kind = np.dtype(file.dtypes[0])
        largest = np.iinfo(kind).max if kind.kind in "ui" else 1
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
    def name(self) -> str:
        """What the source is called: its file's name without folder and suffix, or what a stack's files share."""
        opened = self._opened[0]
        return stem_of(opened) if isinstance(opened, str) else shared_name([stem_of(s) for s in opened])

    @property
    def channels(self) -> int:
        """Number of bands without alpha."""
        return len(self._indexes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type that reads give: the file's, or float32 where it has scale or offset tags."""
        dtype: np.dtype[Any] = np.dtype(np.float32 if self._scaled else self._file.dtypes[self._indexes[0] - 1])
        return dtype

    @property
    def nodata(self) -> float | None:
        """The file's nodata value."""
        return None if self._file.nodata is None else float(self._file.nodata)

    @property
    def files(self) -> tuple[str, ...]:
        """Every local file and address that it is read from, sources of virtual rasters and files beside included."""
        opened = self._opened[0]
        sources = [opened] if isinstance(opened, str) else list(opened)
        return every_file([*sources, *self._file.files])

    @property
    def stamp(self) -> list[list[str | int | None]]:
        """What tells whether `files` are still those of another day, JSON-ready: see `stamp_of`."""
        return stamp_of(self.files)

    @property
    def tiled(self) -> bool:
        """Whether the file is stored in tiles, so that a window is read without decoding whole rows."""
        return any(width < self._file.width for _, width in self._file.block_shapes)

    @property
    def remote(self) -> bool:
        """Whether it is read over the network."""
        return self._remote

    @property
    def block(self) -> tuple[int, int]:
        """Height and width in pixels of the blocks in which the file is stored."""
        height, width = self._file.block_shapes[self._indexes[0] - 1]
        return int(height), int(width)

    @property
    def block_row_bytes(self) -> int:
        """Bytes of a row of these blocks across the file, decoded, of all its bands: they are decoded together."""
        file = self._file
        rows = min(max(self.block[0], 64), 2048)
        return int(rows * file.width * file.count * np.dtype(file.dtypes[0]).itemsize)

    @property
    def overviews(self) -> list[int]:
        """By how much each overview level in the file is smaller than the whole, ascending."""
        return [int(factor) for factor in self._file.overviews(self._indexes[0])]

    @property
    def acquired(self) -> str | None:
        """The file's own date tag as ``YYYY-MM-DD``, or ``None`` where it has none."""
        digits = re.sub(r"\D", "", str(self._file.tags().get("TIFFTAG_DATETIME", "")))[:8]
        try:
            # Cameras that do not know the day write zeros.
            return date.fromisoformat(digits).isoformat()
        except ValueError:
            return None

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
            bands: Zero-based positions among the raster's bands, by default all.

        Returns:
            ``(C, H, W)`` in `dtype` (not finite samples become 0) and ``(H, W)`` bool: False outside the raster,
            where nodata (of all bands), mask band or alpha says so, and where a sample is not finite.

        Raises:
            DataError: The file is truncated or corrupt, or a band position does not exist.
        """
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        positions = range(self.channels) if bands is None else bands
        if any(not 0 <= b < self.channels for b in positions):
            raise DataError(f"{self.source}: bands {list(positions)}", f"positions 0 to {self.channels - 1}")
        inside = window.intersection(self.grid.height, self.grid.width)
        if inside == window and inside.height and inside.width:
            return self._read_inside(inside, list(positions))
        image: NDArray[Any] = np.zeros((len(positions), window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        if inside.height and inside.width:
            part = Window(inside.row - window.row, inside.col - window.col, inside.height, inside.width)
            image[(..., *part.slices)], valid[part.slices] = self._read_inside(inside, list(positions))
        return image, valid

    def _read_inside(self, window: Window, positions: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        where, indexes = window.to_rasterio(), [self._indexes[p] for p in positions]
        try:
            with rasterio.Env(**NETWORK) if self._remote else nullcontext():
                pixels: NDArray[Any] = self._file.read(indexes, window=where)
                valid = np.ones(pixels.shape[1:], bool)
                if self._mask_bands:
                    valid = (self._file.read_masks(self._mask_bands, window=where) != 0).any(axis=0)
        except RasterioError as error:
            raise DataError(
                f"{self.source} is truncated or corrupt at row {window.row}, column {window.col}",
                "a readable file",
                "fetch or export it again",
            ) from error
        valid &= _has_data(pixels, [self._nodata[p] for p in positions])
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            if not finite.all():
                valid &= finite.all(axis=0)
                pixels = np.where(finite, pixels, 0)
        if self._scaled:
            pixels = pixels.astype(np.float32) * self._scales[positions] + self._offsets[positions]
        return pixels, valid


def _has_data(pixels: NDArray[Any], nodata: list[float | None]) -> NDArray[np.bool_]:
    """``(H, W)`` bool: whether any band of ``(C, H, W)`` differs from its nodata value."""
    has = np.ones(pixels.shape[1:], bool)
    if None in nodata or not nodata:
        return has
    for position, (band, value) in enumerate(zip(pixels, nodata, strict=True)):
        assert value is not None
        differs = ~np.isnan(band) if np.isnan(value) else band != np.asarray(value).astype(np.float64)
        if band.dtype == np.float32 and not np.isnan(value):
            differs = band != np.float32(value)
        has = differs if position == 0 else has | differs
    return has


def shared_name(names: Sequence[str]) -> str:
    """Give what names begin with, without the separator before they part: what a scene's band files are called."""
    common = "".join(letters[0] for letters in takewhile(lambda found: len(set(found)) == 1, zip(*names, strict=False)))
    return re.sub(r"[_.-]+(?:(?:SR_)?(?:B|band)_?\d*)?$", "", common, flags=re.IGNORECASE) or names[0]


def _png_is_complete(path: Path) -> bool:
    """Walk the chunks to the closing one: GDAL reads a whole truncated PNG without an error, as garbage."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] == b"IEND":
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
