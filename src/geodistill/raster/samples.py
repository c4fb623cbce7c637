"""Samples of an open file as they are stored: their common type, what is nodata, and what alpha really holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.raster.grid import Window


def common_type(file: DatasetReader, indexes: Sequence[int], source: str) -> np.dtype[Any]:
    """Return the type that holds the samples of all of these bands.

    Raises:
        DataError: They are complex numbers.
    """
    kinds = [str(file.dtypes[i - 1]) for i in indexes]
    if any(kind.startswith("complex") for kind in kinds):
        raise DataError(
            f"{source} has complex samples ({', '.join(dict.fromkeys(kinds))})",
            "real numbers",
            "write their amplitude to a file of its own first",
        )
    return np.result_type(*map(np.dtype, kinds))


def read_bands(file: DatasetReader, indexes: Sequence[int], window: Window) -> list[NDArray[Any]] | NDArray[Any]:
    """Read ``(H, W)`` of each band, in its own type; one array where they are of one."""
    where = window.to_rasterio()
    if len({file.dtypes[i - 1] for i in indexes}) == 1:
        pixels: NDArray[Any] = file.read(list(indexes), window=where)
        return pixels
    return [file.read(i, window=where) for i in indexes]


def has_data(bands: list[NDArray[Any]] | NDArray[Any], nodata: Sequence[float | None]) -> NDArray[np.bool_]:
    """``(H, W)`` bool: whether any band ``(H, W)`` differs from its nodata value."""
    has = np.ones(bands[0].shape, bool)
    if None in nodata:
        return has
    for position, (band, value) in enumerate(zip(bands, nodata, strict=True)):
        assert value is not None
        differs = ~np.isnan(band) if np.isnan(value) else band != np.asarray(value).astype(np.float64)
        if band.dtype == np.float32 and not np.isnan(value):
            differs = band != np.float32(value)
        has = differs if position == 0 else has | differs
    return has


def colour_table(file: DatasetReader, index: int) -> NDArray[np.uint8] | None:
    """Return the RGBA colours of a band's values, ``(values, 4)``; ``None`` where it has no palette."""
    if file.colorinterp[index - 1] != ColorInterp.palette or file.dtypes[index - 1] not in ("uint8", "uint16"):
        return None
    try:
        colours = file.colormap(index)
    except (ValueError, RasterioError):  # called a palette, and has none
        return None
    table = np.zeros((np.iinfo(file.dtypes[index - 1]).max + 1, 4), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    return table


def holds_alpha(file: DatasetReader, index: int) -> bool:
    """Whether a band tagged as alpha holds opacity: mostly 0 or the largest value, in five sampled places.

    GDAL tags the fourth band of any 8-bit TIFF as alpha unless its tags say otherwise, near infrared too.
    """
    extremes, total = 0, 0
    kind = np.dtype(file.dtypes[index - 1])
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


def png_is_complete(path: Path) -> bool:
    """Walk the chunks to the closing one: GDAL reads a whole truncated PNG without an error, as garbage."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] == b"IEND":
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
