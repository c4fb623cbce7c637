"""An open raster: masked windowed reads of chosen bands, in sensor units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.raster.bands import DESCRIBED, aliases, alpha_bands, choose
from geodistill.raster.grid import Grid, Window, read_padded
from geodistill.raster.source import NETWORK, Neighbours, every_file, is_remote, name_of, open_source, stamp_of
from geodistill.raster.stored import (
    Turn,
    colour_table,
    common_type,
    has_data,
    png_is_complete,
    read_bands,
    read_mask,
    turn_of,
)

Source = Path | str | Sequence[Path | str]


class Raster:
    """An open image or mask file; use as a context manager.

    A window may reach beyond the raster: the part outside is 0 and not valid. Scale and offset tags are applied, which
    gives float32. A palette is expanded to its colours; bands of several types are read in their common one. A picture
    with an orientation tag (EXIF, TIFF 274) is turned as viewers show it, its rows, columns and windows too.

    Args:
        source: Any file GDAL reads (GeoTIFF, PNG, JPEG, BMP, VRT ...), a GDAL path such as ``/vsizip/...``, an address
            (``https://...``, ``s3://...``), or several of them that hold bands of one scene.
        bands: Bands to read, in this order: for each a number counted from 1, or a name. By default all but alpha.
        overview: Level of the file's overviews to read in place of the whole, from 0.
        nodata: Value that means no data where all bands have it, for files that do not say so themselves.

    Raises:
        DataError: The file is no raster or lacks a band, has complex samples, or is georeferenced and turned.

    Example:
        >>> gd.Raster("tile.tif").read(gd.Window(0, 0, 64, 64))[0].shape
        (3, 64, 64)
    """

    def __init__(
        self,
        source: Source,
        bands: Sequence[str] | None = None,
        overview: int | None = None,
        nodata: float | None = None,
    ) -> None:
        single, self._stacked = isinstance(source, Path | str), not isinstance(source, Path | str | Neighbours)
        self._sources = [str(source)] if isinstance(source, Path | str) else [str(s) for s in source]
        self.source, self.path = ", ".join(self._sources), Path(self._sources[0])
        self.remote = any(map(is_remote, self._sources))
        self._opened, opened = (source, bands, overview, nodata), self._sources[0]
        if not single:
            from geodistill.raster.stack import joined

            opened = joined(self._sources, not self._stacked)
        self._file = open_source(opened, overview)
        try:
            self._look_at_bands(bands)
            self._look_at_masks(nodata)
            self._turn = Turn() if not single else turn_of(self._sources[0], self._file, self._tags)
        except DataError:
            self._file.close()
            raise

    def _look_at_bands(self, bands: Sequence[str] | None) -> None:
        if self._file.driver == "PNG" and not png_is_complete(self._sources[0]):
            raise DataError(f"{self.path} is truncated", "a whole PNG file", "fetch or export it again")
        try:
            self._descriptions, self._tags = self._file.descriptions, self._file.tags()
        except UnicodeDecodeError:  # names of bands in another encoding
            self._descriptions, self._tags = (None,) * self._file.count, {}
        self._alpha = alpha_bands(self._file) if ColorInterp.alpha in self._file.colorinterp else []
        self._indexes = [i for i in self._file.indexes if i not in self._alpha]
        self._palette = colour_table(self._file, self._indexes[0]) if len(self._indexes) == 1 else None
        self._colours = [0, 1, 2]
        if bands is not None and self._palette is not None:
            named = [(position, {name}) for position, name in enumerate(("red", "green", "blue"))]
            self._colours = choose(bands, named, self.source)
        elif bands is not None:
            self._indexes = choose(bands, [(i, self._names(i)) for i in self._indexes], self.source)
        self._type = common_type(self._file, self._indexes, self.source)

    def _look_at_masks(self, nodata: float | None) -> None:
        file, indexes = self._file, self._indexes
        flags = [file.mask_flag_enums[i - 1] for i in indexes]
        # Alpha is read as a band: GDAL masks by it in files of two or four bands without nodata, near infrared too.
        from_band = [f for f in flags if not {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha} & set(f)]
        self._mask_bands = [] if not from_band else indexes[:1]
        if from_band and not all(MaskFlags.per_dataset in f for f in from_band):
            self._mask_bands = indexes
        self._nodata = [
            file.nodatavals[i - 1] if MaskFlags.nodata in f else nodata for i, f in zip(indexes, flags, strict=True)
        ]
        scales, offsets = [file.scales[i - 1] for i in indexes], [file.offsets[i - 1] for i in indexes]
        self._scaled = self._palette is None and (any(s != 1 for s in scales) or any(o != 0 for o in offsets))
        self._scales = np.array(scales, np.float32)[:, None, None]
        self._offsets = np.array(offsets, np.float32)[:, None, None]

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def reopen(self) -> Raster:
        """Open the same bands of the same source once more, for another thread."""
        return Raster(*self._opened)

    def _names(self, index: int) -> set[str]:
        file = self._file
        description, colour = self._descriptions[index - 1], file.colorinterp[index - 1].name
        shown = None if colour in ("undefined", "gray", "palette") else colour
        if not self._stacked or description is None:
            return aliases(self.path.name, description, shown, alone=self._stacked or file.count == 1)
        # A band of a stack is called after its file, and answers to its description in there too.
        return aliases(description, file.tags(index).get(DESCRIBED), shown, alone=True) | {description.strip().lower()}

    @property
    def name(self) -> str:
        """What the source is called: its file's name without folder and suffix, or what a stack's files share."""
        return name_of(self._sources, self._stacked)

    @property
    def driver(self) -> str:
        """GDAL's name of the format."""
        return str(self._file.driver)

    @property
    def channels(self) -> int:
        """Number of bands without alpha; the colours of a palette count as bands."""
        return len(self._indexes) if self._palette is None else len(self._colours)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type of reads: that of all bands together, or float32 where there are scale or offset tags."""
        if self._palette is not None:
            return np.dtype(np.uint8)
        return np.dtype(np.float32) if self._scaled else self._type

    @property
    def label_channels(self) -> int:
        """Number of bands that `read_labels` returns: 1 for a palette."""
        return len(self._indexes)

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """Sample type that `read_labels` returns."""
        return self._type

    @property
    def nodata(self) -> float | None:
        """The nodata value among the samples that `read` returns; ``None`` where these are colours, or scaled."""
        changed = self._palette is not None or self._scaled
        return None if self._file.nodata is None or changed else float(self._file.nodata)

    @property
    def files(self) -> tuple[str, ...]:
        """Every local file and address that it is read from, sources of virtual rasters and files beside included."""
        return every_file([*self._sources, *self._file.files])

    @property
    def stamp(self) -> list[list[str | int | None]]:
        """What tells whether `files` are still those of another day, JSON-ready: see `stamp_of`."""
        return stamp_of(self.files)

    @property
    def tiled(self) -> bool:
        """Whether the file is stored in tiles, so that a window is read without decoding whole rows."""
        return any(width < self._file.width for _, width in self._file.block_shapes)

    @property
    def block(self) -> tuple[int, int]:
        """Height and width in pixels of the blocks in which the file is stored."""
        height, width = self._file.block_shapes[self._indexes[0] - 1]
        return self._turn.shape(int(height), int(width))

    @property
    def block_row_bytes(self) -> int:
        """Bytes of a row of these blocks across the file, decoded, of all its bands: they are decoded together."""
        rows = min(max(self.block[0], 64), 2048)
        return int(rows * self.grid.width * self._file.count * self._type.itemsize)

    @property
    def overviews(self) -> list[int]:
        """By how much each overview level in the file is smaller than the whole, ascending."""
        return [int(factor) for factor in self._file.overviews(self._indexes[0])]

    @property
    def acquired(self) -> str | None:
        """The file's own date tag as ``YYYY-MM-DD``, or ``None`` where it has none."""
        digits = re.sub(r"\D", "", str(self._tags.get("TIFFTAG_DATETIME", "")))[:8]
        try:
            return date.fromisoformat(digits).isoformat()
        except ValueError:  # cameras that do not know the day write zeros
            return None

    @property
    def band_names(self) -> tuple[str, ...]:
        """Description of each band, or ``band1``, ``band2`` ... where the file names none."""
        if self._palette is not None:
            return tuple(f"band{colour + 1}" for colour in self._colours)
        return tuple(self._descriptions[i - 1] or f"band{i}" for i in self._indexes)

    @property
    def colormap(self) -> dict[int, tuple[int, int, int, int]] | None:
        """RGBA colour of each value of a palette file, else ``None``."""
        return None if self._palette is None else dict(self._file.colormap(self._indexes[0]))

    @property
    def turned(self) -> bool:
        """Whether it is turned for viewing, as its orientation tag asks."""
        return not self._turn.none

    @property
    def grid(self) -> Grid:
        """Shape and georeferencing."""
        file = self._file
        gcps, gcps_crs = file.gcps
        height, width = self._turn.shape(file.height, file.width)
        return Grid(height, width, file.crs, file.transform, tuple(gcps), gcps_crs, file.rpcs)

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None, within: Window | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read pixels and their validity.

        Args:
            window: The part to read, by default the whole; may reach beyond the raster.
            bands: Zero-based positions among the raster's bands, by default all.
            within: The part of the raster that nothing is read outside of, by default the whole.

        Returns:
            ``(C, H, W)`` in `dtype` (not finite samples become 0) and ``(H, W)`` bool: False outside the raster
            or ``within``, where nodata (of all bands read), mask band or alpha says so, or a sample is not finite.

        Raises:
            DataError: The file is truncated or corrupt, or a band position does not exist.
        """
        positions = list(range(self.channels) if bands is None else bands)
        if any(not 0 <= b < self.channels for b in positions):
            raise DataError(f"{self.source}: bands {positions}", f"positions 0 to {self.channels - 1}")
        whole = self.grid.whole
        image, valid = read_padded(
            window or whole,
            whole.common(within or whole),
            lambda inside: self._read_inside(inside, positions),
            lambda h, w: (np.zeros((len(positions), h, w), self.dtype), np.zeros((h, w), bool)),
        )
        return image, valid

    def read_labels(self, window: Window | None = None) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Read a mask as it is stored: the values of a palette, not its colours, and no scale.

        Args:
            window: The part to read, by default the whole; may reach beyond the raster.

        Returns:
            ``(C, H, W)`` in `label_dtype`; ``(H, W)`` bool as of `read`; and ``(H, W)`` bool, what only the nodata
            value or alpha takes from those: the value or colour there may be a label all the same.

        Raises:
            DataError: The file is truncated or corrupt.
        """

        def read(inside: Window) -> tuple[NDArray[Any], ...]:
            pixels, shown, opaque = self._read_stored(inside, list(range(len(self._indexes))))
            return pixels, shown & opaque, shown & ~opaque

        def blank(height: int, width: int) -> tuple[NDArray[Any], ...]:
            return np.zeros((self.label_channels, height, width), self._type), *np.zeros((2, height, width), bool)

        labels, valid, hidden = read_padded(window or self.grid.whole, self.grid.whole, read, blank)
        return labels, valid, hidden

    def _read_inside(self, window: Window, positions: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if self._palette is not None:
            pixels, shown, opaque = self._read_stored(window, [0])
            colours = self._palette[pixels[0]]
            chosen = [self._colours[p] for p in positions]
            visible = shown & opaque & (colours[..., 3] > 0)
            return np.ascontiguousarray(np.moveaxis(colours[..., chosen], -1, 0)), visible
        pixels, shown, opaque = self._read_stored(window, positions)
        if self._scaled:
            pixels = pixels.astype(np.float32) * self._scales[positions] + self._offsets[positions]
        return pixels, shown & opaque

    def _read_stored(
        self, window: Window, positions: list[int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Read stored samples, whether a mask band shows them and all are finite, and what nodata and alpha say."""
        file = self._file
        where, indexes = self._turn.stored(window, file.height, file.width), [self._indexes[p] for p in positions]
        try:
            with rasterio.Env(**NETWORK) if self.remote else nullcontext():
                bands = read_bands(file, indexes, where)
                shown = np.ones(bands[0].shape, bool)
                if self._mask_bands:
                    shown = read_mask(file, self._mask_bands, where)
                alphas = [band != 0 for band in read_bands(file, self._alpha, where)] if self._alpha else []
        except RasterioError as error:
            raise DataError(
                f"{self.source} is truncated or corrupt at row {window.row}, column {window.col}",
                "a readable file",
                "fetch or export it again",
            ) from error
        opaque = reduce(np.logical_and, alphas, has_data(bands, [self._nodata[p] for p in positions]))
        pixels = (bands if isinstance(bands, np.ndarray) else np.stack(bands)).astype(self._type, copy=False)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels)
            if not finite.all():
                shown = shown & finite.all(axis=0)
                pixels = np.where(finite, pixels, 0)
        return self._turn.apply(pixels), self._turn.apply(shown), self._turn.apply(opaque)


def have_names(bands: Sequence[str]) -> bool:
    """Whether bands have names: not numbers, which are positions, nor band1, as one without a name is called."""
    return not any(re.fullmatch(r"(band)?\d+", name.strip()) for name in bands)


def open_image(source: Source, bands: Sequence[str], nodata: float | None = None) -> Raster:
    """Open an image for a model: by the names of the model's bands where it has all of these, else as it lies."""
    if have_names(bands):
        with suppress(DataError):
            return Raster(source, bands, nodata=nodata)
    return Raster(source, nodata=nodata)
