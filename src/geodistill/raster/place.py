"""Where a raster is kept: a file, a GDAL path such as /vsizip/..., or an address on the network."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError

_SCHEME = re.compile(r"^(https?|s3|gs|az|oss|swift)://", re.IGNORECASE)

NETWORK: dict[str, Any] = {
    # Else GDAL asks the server for every file beside the raster.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 100,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": True,
}
"""GDAL settings for sources on the network: range reads, a few tries, and an end when nothing comes."""


def is_remote(source: str) -> bool:
    """Whether a source is read over the network."""
    return bool(_SCHEME.match(source)) or source.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz"))


def is_local(source: str) -> bool:
    """Whether a source is a plain file on this machine."""
    return not is_remote(source) and not source.startswith(("/vsi", "<VRTDataset"))


def vsi_name(source: str) -> str:
    """Give the name by which GDAL opens a source."""
    if re.match(r"^https?://", source, re.IGNORECASE):
        return f"/vsicurl/{source}"
    schemes = {"s3": "vsis3", "gs": "vsigs", "az": "vsiaz", "oss": "vsioss", "swift": "vsiswift"}
    if found := _SCHEME.match(source):
        return f"/{schemes[found[1].lower()]}/{source[found.end() :]}"
    return str(Path(source).absolute()) if is_local(source) else source


def stem_of(source: str) -> str:
    """Give the name of a source without folder, query and suffix: what its map is called after."""
    plain = source.split("?", 1)[0] if is_remote(source) else source
    return Path(plain).stem


def open_source(source: str, overview: int | None = None) -> DatasetReader:
    """Open a source with GDAL.

    Args:
        source: Where it is.
        overview: Level of the file's overviews to open in place of the whole, from 0.

    Raises:
        DataError: It is missing or cannot be read as a raster.
    """
    if is_local(source) and not Path(source).is_file():
        raise DataError(f"no file {source}", "an image file")
    options = {} if overview is None else {"overview_level": overview}
    try:
        with warnings.catch_warnings(), rasterio.Env(**(NETWORK if is_remote(source) else {})):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(source if source.startswith("<") else vsi_name(source), **options)
    except RasterioError as error:
        expected = "an address that answers range requests" if is_remote(source) else "GeoTIFF, PNG, JPEG or BMP"
        raise DataError(f"{source} cannot be opened as a raster ({error})", expected) from error
