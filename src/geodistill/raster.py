"""Georeferenced rasters: where a pixel lies (Grid), a part of one (Window), masked reads and atomic writes."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from geodistill.errors import DataError, OutputError

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vrt", ".jp2")
"""Suffixes, in lower case, that are looked for when a folder is scanned for rasters."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: top row, left column, height and width."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, for arrays of shape ``(..., H, W)``."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersection(self, height: int, width: int) -> Window:
        """Give the part of this window that lies inside a raster of ``height`` x ``width`` (may be empty)."""
        top, left = max(self.row, 0), max(self.col, 0)
        bottom, right = min(self.row + self.height, height), min(self.col + self.width, width)
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))

    def to_rasterio(self) -> RasterioWindow:
        """Give the same rectangle as rasterio writes it."""
        return RasterioWindow(self.col, self.row, self.width, self.height)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system, or ``None``.
        transform: Affine map from (column, row) to CRS coordinates; identity where unknown.
        gcps: Ground control points with their CRS, where the file has them instead of a transform.
        rpcs: Rational polynomial coefficients, where the file has them.
    """

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    gcps: tuple[GroundControlPoint, ...] = ()
    gcps_crs: CRS | None = None
    rpcs: RPC | None = None

    @property
    def georeferenced(self) -> bool:
        """Whether a CRS with a transform, control points or RPCs say where the pixels lie."""
        return (self.crs is not None and not self.transform.is_identity) or bool(self.gcps) or self.rpcs is not None

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance in metres per pixel at the centre, or ``None`` without CRS and transform.

        Web-Mercator and geographic grids are corrected for latitude.
        """
        if self.crs is None or self.transform.is_identity:
            return None
        col, row = self.width / 2, self.height / 2
        to_lonlat = pyproj.Transformer.from_crs(self.crs.to_wkt(), "EPSG:4326", always_xy=True)
        points = [self.transform @ at for at in ((col, row), (col + 1, row), (col, row + 1))]
        lon, lat = to_lonlat.transform([p[0] for p in points], [p[1] for p in points])
        if not all(map(math.isfinite, (*lon, *lat))):
            return None
        geod = pyproj.Geod(ellps="WGS84")
        right = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
        down = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
        return math.sqrt(right * down)

    @property
    def lonlat(self) -> tuple[float, float] | None:
        """Longitude and latitude of the centre in degrees, or ``None`` where unknown."""
        if self.crs is None or self.transform.is_identity:
            if not self.gcps or self.gcps_crs is None:
                return None
            x, y, crs = (
                sum(p.x for p in self.gcps) / len(self.gcps),
                sum(p.y for p in self.gcps) / len(self.gcps),
                self.gcps_crs,
            )
        else:
            (x, y), crs = self.transform @ (self.width / 2, self.height / 2), self.crs
        lon, lat = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True).transform(x, y)
        return (float(lon), float(lat)) if math.isfinite(lon) and math.isfinite(lat) else None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in CRS coordinates, covering all four corners."""
        corners = [self.transform @ at for at in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, window: Window) -> Grid:
        """Give the grid of a part of this raster. Control points and RPCs hold for the whole only and are dropped."""
        moved = self.transform @ Affine.translation(window.col, window.row)
        return Grid(window.height, window.width, self.crs, self.transform if self.transform.is_identity else moved)

    def profile(self) -> dict[str, Any]:
        """Give the georeferencing as keyword arguments of ``rasterio.open(..., "w")``."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width}
        if self.gcps:
            profile |= {"gcps": list(self.gcps), "crs": self.gcps_crs}
        elif self.crs is not None or not self.transform.is_identity:
            profile |= {"crs": self.crs, "transform": self.transform}
        if self.rpcs is not None:
            profile["rpcs"] = self.rpcs
        return profile


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


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` at the end, remove it on any failure.

    Works for files and directories; the parent directory is made. An existing file is replaced; an existing
    directory is replaced whole.

    Raises:
        OutputError: The place cannot be written or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path.parent))
        yield part
        if part.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.old-{os.getpid()}")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            # Where the parent is no folder, there is nothing to remove and unlink would hide the reason.
            with suppress(OSError):
                part.unlink(missing_ok=True)


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one line why ``path`` could not be written."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return OutputError(f"the disk is full while writing {path}", "", "free some space or choose another --out")
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason})", "a writable place", "choose another --out")
