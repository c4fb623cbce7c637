"""Bands of a file: which is meant by a number or name, and what the samples of an open one hold."""

from __future__ import annotations

import os
import re
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
from geodistill.raster.source import is_local
from geodistill.raster.web_map import DRIVERS, read_politely

SENSORS: dict[str, dict[str, str]] = {
    "sentinel-2": {
        "coastal": "b1",
        "blue": "b2",
        "green": "b3",
        "red": "b4",
        "rededge1": "b5",
        "rededge2": "b6",
        "rededge3": "b7",
        "nir": "b8",
        "nir08": "b8a",
        "nir09": "b9",
        "cirrus": "b10",
        "swir16": "b11",
        "swir22": "b12",
    },
    "landsat-8": {
        "coastal": "b1",
        "blue": "b2",
        "green": "b3",
        "red": "b4",
        "nir": "b5",
        "swir16": "b6",
        "swir22": "b7",
        "pan": "b8",
        "cirrus": "b9",
    },
    "landsat-5": {"blue": "b1", "green": "b2", "red": "b3", "nir": "b4", "swir16": "b5", "swir22": "b7", "pan": "b8"},
}
"""Band of each sensor by the common name that STAC gives it; Landsat 9 has those of 8, Landsat 4 and 7 those of 5."""

COMMON = frozenset[str]().union(*SENSORS.values()) | {"rededge", "swir", "thermal"}
"""Names of light: a description that is one of them says what a band holds."""

_NAMES = {
    "sentinel-2": re.compile(r"(?i)^(S2[ABCD]_|T\d{2}[A-Z]{3}_|HLS\.S30\.)"),
    "landsat-8": re.compile(r"(?i)^(L[COT]0[89]_|HLS\.L30\.)"),
    "landsat-5": re.compile(r"(?i)^L[TEM]0[457]_"),
}
_TOKEN = re.compile(r"(?i)(?<![A-Z0-9])B(?:and)?[ _]?0?(\d{1,2}A?)(?![A-Z0-9])")


def band_token(text: str) -> str | None:
    """Find a band's number in a file's name or a band's description: ``LC08_..._B4.TIF`` -> ``b4``, or ``None``."""
    # File names part their words by underscores, which a regular expression takes for letters.
    tokens = _TOKEN.findall(text.replace("_", " ").replace(".", " "))
    return f"b{tokens[-1].lower()}" if tokens else None


def aliases(file_name: str, description: str | None, colour: str | None, alone: bool) -> set[str]:
    """Return every name, in lower case, that a band answers to.

    Args:
        file_name: Name of its file, which tells the sensor.
        description: The band's name in the file.
        colour: Its colour interpretation: ``red``, ``nir`` ... Writers give one unasked (red, green, blue, alpha to the
            first four bands of an 8-bit TIFF), so a description of `COMMON` counts in its place.
        alone: Whether it is its file's only band, so that the file's name tells the band too.
    """
    described = (description or "").strip().lower()
    names = {name for name in (described, "" if described in COMMON else (colour or "").lower()) if name}
    token = band_token(description) if description else None
    token = token or (band_token(file_name) if alone else None)
    if token:
        # Sentinel-2 writes B04 and B8A, Landsat B4.
        names |= {token, f"b0{token[1:]}" if token[1:].isdigit() and len(token) == 2 else token}
        for sensor, pattern in _NAMES.items():
            if pattern.match(file_name):
                names |= {common for common, band in SENSORS[sensor].items() if band == token}
    return names


def choose(asked: Sequence[str], known: Sequence[tuple[int, set[str]]], source: str) -> list[int]:
    """Return the indexes of bands, in the order asked for: each by a number, counted from 1, or a name.

    ``known`` holds index and every name of each band there is.

    Raises:
        DataError: A band does not exist, or a name fits several.
    """
    chosen = []
    for name in asked:
        if name.strip().isdigit():
            position = int(name)
            if not 1 <= position <= len(known):
                raise DataError(f"{source}: band {position}", f"1 to {len(known)}")
            chosen.append(known[position - 1][0])
            continue
        fitting = [index for index, names in known if name.strip().lower() in names]
        if len(fitting) != 1:
            has = ", ".join("/".join(sorted(names)) or str(index) for index, names in known)
            matches = f"{len(fitting)} bands named {name!r}" if fitting else f"no band {name!r}"
            raise DataError(f"{source}: {matches}", f"one of {has}", "name bands by their number, counted from 1")
        chosen.append(fitting[0])
    return chosen


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
    if file.driver in DRIVERS:
        return read_politely(file, window, lambda piece: file.read(list(indexes), window=piece.to_rasterio()))
    where = window.to_rasterio()
    if len({file.dtypes[i - 1] for i in indexes}) == 1:
        pixels: NDArray[Any] = file.read(list(indexes), window=where)
        return pixels
    return [file.read(i, window=where) for i in indexes]


def read_mask(file: DatasetReader, indexes: Sequence[int], window: Window) -> NDArray[np.bool_]:
    """Read ``(H, W)`` bool: whether the mask of any of the bands shows a pixel."""

    def read(piece: Window) -> NDArray[np.uint8]:
        masks: NDArray[np.uint8] = file.read_masks(list(indexes), window=piece.to_rasterio())
        return masks

    masks = read_politely(file, window, read) if file.driver in DRIVERS else read(window)
    shown: NDArray[np.bool_] = (masks != 0).any(axis=0)
    return shown


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


def png_is_complete(source: str) -> bool:
    """Walk the chunks of a PNG to the closing one: GDAL reads a whole truncated PNG without an error, as garbage.

    One that is no plain file (an archive's, one on the network) is taken for complete.
    """
    if not is_local(source):
        return True
    with Path(source).open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] == b"IEND":
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
