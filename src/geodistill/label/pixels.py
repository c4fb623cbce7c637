"""Rasters in and out: tiles of a source image as the segmenter sees them and as they are kept, and mask files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geodistill.errors import DataError
from geodistill.files import atomic_path
from geodistill.legend_entries import Colour
from geodistill.raster import Grid, Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend

STRETCH = (2.0, 98.0)
"""Percentiles of an image that become 0 and 255 where its samples are no bytes."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of an image.

    Attributes:
        window: Where it lies in the image.
        pixels: ``(C, H, W)`` all bands in the file's own type.
        valid: ``(H, W)`` bool, False where the file has no data.
        rgb: ``(H, W, 3)`` uint8, what the segmenter sees.
        grid: Where the pixels lie on the ground, or ``None``.
    """

    window: Window
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]
    rgb: NDArray[np.uint8]
    grid: Grid | None


def read_tiles(raster: Raster, windows: Sequence[Window], bands: Sequence[int] | None) -> Iterator[Tile]:
    """Read tiles of one image; windows are sorted by row, bands one or three positions from 1 for the segmenter to see.

    A file stored in rows is read once for all windows of a row of tiles, since a row cannot be decoded in part.

    Raises:
        DataError: The file is corrupt, or has no such band.
    """
    shown = _shown(raster, bands)
    grid = raster.grid if raster.grid.georeferenced else None
    strip: tuple[int, int] | None = None
    pixels, valid = np.zeros((0, 0, 0)), np.zeros((0, 0), bool)
    for window in windows:
        if raster.tiled or len(windows) == 1:
            part, part_valid = raster.read(window)
        else:
            if strip != (window.row, window.height):
                strip = (window.row, window.height)
                pixels, valid = raster.read(Window(window.row, 0, window.height, raster.grid.width))
            part = pixels[..., window.col : window.col + window.width]
            part_valid = valid[:, window.col : window.col + window.width]
        whole = grid is not None and window == Window(0, 0, grid.height, grid.width)
        place = grid if grid is None or whole else grid.window(window)
        yield Tile(window, part, part_valid, _rgb(raster, part, part_valid, shown), place)


def _shown(raster: Raster, bands: Sequence[int] | None) -> list[int]:
    """Return three zero-based positions of the bands shown as red, green and blue."""
    chosen = list(bands or ((1, 2, 3) if raster.channels >= 3 else (1,)))
    if max(chosen) > raster.channels:
        raise DataError(f"bands {chosen} of {raster.path}", f"positions 1 to {raster.channels}")
    return [position - 1 for position in (chosen * 3 if len(chosen) == 1 else chosen)]


def _rgb(raster: Raster, pixels: NDArray[Any], valid: NDArray[np.bool_], shown: list[int]) -> NDArray[np.uint8]:
    planes = pixels[shown]
    if planes.dtype != np.uint8:
        low, high = _limits(raster.path, tuple(shown))
        scaled = (planes.astype(np.float32) - low[:, None, None]) * (255 / (high - low))[:, None, None]
        planes = np.where(valid, np.clip(scaled, 0, 255), 0).astype(np.uint8)
    picture: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return picture


@lru_cache(maxsize=4)
def _limits(path: Path, shown: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Percentiles of sixteen places of the whole image, so that all its tiles are stretched alike."""
    samples: list[NDArray[Any]] = []
    with Raster(path) as raster:
        height, width = raster.grid.height, raster.grid.width
        for row in np.linspace(0, max(height - 256, 0), 4).astype(int):
            for col in np.linspace(0, max(width - 256, 0), 4).astype(int):
                window = Window(int(row), int(col), 256, 256).intersection(height, width)
                pixels, valid = raster.read(window, shown)
                samples.append(pixels[:, valid])
    everything = np.concatenate(samples, axis=1).astype(np.float32)
    if not everything.size:
        return np.zeros(len(shown), np.float32), np.ones(len(shown), np.float32)
    low, high = np.percentile(everything, STRETCH, axis=1).astype(np.float32)
    return low, np.where(high > low, high, low + 1)


def is_grey(raster: Raster) -> bool:
    """Whether an image has one 8-bit band; it is kept as RGB, as it was shown, so that a set has one kind of image."""
    return raster.channels == 1 and raster.dtype == np.uint8


def tile_suffix(tile: Tile, raster: Raster) -> str:
    """Return the suffix of a tile's file: PNG for plain pictures, GeoTIFF for anything a PNG would lose."""
    plain = raster.dtype == np.uint8 and raster.channels in (1, 3) and raster.nodata is None
    return ".png" if plain and tile.valid.all() and not raster.grid.georeferenced else ".tif"


def write_tile(path: Path, tile: Tile, raster: Raster) -> None:
    """Write a tile's pixels, whole or not at all; all bands, nodata, transparency and georeferencing are kept.

    Raises:
        OutputError: The file cannot be written.
    """
    pixels = np.moveaxis(tile.rgb, -1, 0) if is_grey(raster) else tile.pixels
    if path.suffix == ".png":
        write_picture(path, np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
        return
    _, height, width = pixels.shape
    profile = (tile.grid or Grid(height, width)).profile()
    profile |= {"driver": "GTiff", "dtype": pixels.dtype, "count": len(pixels), "compress": "deflate"}
    # Else GDAL takes the fourth band for alpha.
    profile["photometric"] = "RGB" if len(pixels) == 3 and pixels.dtype == np.uint8 else "minisblack"
    if raster.nodata is not None:
        profile["nodata"] = raster.nodata
        pixels = np.where(
            tile.valid, pixels, pixels.dtype.type(raster.nodata)
        )  # also what a mask hid, or was no number
    with atomic_path(path) as part:
        try:
            with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(part, "w", **profile) as file:
                    file.write(pixels)
                    for index, name in enumerate(band_names(raster), 1):
                        file.set_band_description(index, name)
                    if raster.nodata is None and not tile.valid.all():
                        file.write_mask(tile.valid)
        except RasterioError as error:
            raise OSError(str(error)) from error


def band_names(raster: Raster) -> tuple[str, ...]:
    """Return the names of the bands as they are kept."""
    return ("band1", "band2", "band3") if is_grey(raster) else raster.band_names


def unlabelled_colour(legend: Legend) -> Colour:
    """Return the colour of unlabelled pixels in colour masks: white as in the paper, or another no class has."""
    choices: tuple[Colour, ...] = ((255, 255, 255), (0, 0, 0), (128, 128, 128))
    others = ((level, level, level) for level in range(1, 255))
    return next(colour for colour in (*choices, *others) if colour not in legend.colours)


def colour_table(legend: Legend) -> NDArray[np.uint8]:
    """Return ``(256, 3)`` uint8 colours of the values of an index mask."""
    table = np.full((256, 3), unlabelled_colour(legend), np.uint8)
    table[: len(legend)] = legend.colours
    return table


def write_mask(path: Path, indices: NDArray[np.uint8], grid: Grid | None, legend: Legend, *, colour: bool) -> None:
    """Write class indices ``(H, W)`` uint8 with the legend's colours, or as RGB colours, whole or not at all.

    The file is a GeoTIFF where a grid is given, and a PNG otherwise.

    Raises:
        OutputError: The file cannot be written.
    """
    pixels = colour_table(legend)[indices] if colour else indices
    if grid is None:
        write_picture(path, pixels, None if colour else colour_table(legend))
        return
    planes = np.moveaxis(pixels, -1, 0) if colour else pixels[None]
    profile = grid.profile() | {"driver": "GTiff", "dtype": "uint8", "count": len(planes), "compress": "deflate"}
    profile |= {"photometric": "RGB"} if colour else {"nodata": IGNORE_INDEX}
    with atomic_path(path) as part:
        try:
            with rasterio.open(part, "w", **profile) as file:
                file.write(planes)
                if not colour:
                    file.colorinterp = [ColorInterp.palette]
                    file.write_colormap(1, {i: (*colour_, 255) for i, colour_ in enumerate(legend.colours)})
        except RasterioError as error:
            raise OSError(str(error)) from error


def write_picture(path: Path, pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> None:
    """Write ``(H, W)`` or ``(H, W, 3)`` uint8 as PNG, whole or not at all.

    With a palette ``(256, 3)`` uint8 the pixels are places in it, and `IGNORE_INDEX` is transparent.

    Raises:
        OutputError: The file cannot be written.
    """
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
        picture.info["transparency"] = IGNORE_INDEX  # GDAL takes one transparent entry for nodata
    with atomic_path(path) as part:
        picture.save(part, format="PNG")
