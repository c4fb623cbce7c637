"""``--local-only``: nothing comes over the network, or from outside the folder of what names a scene."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.inference.inputs import InputScene
from geodistill.raster import Raster
from geodistill.raster.source import is_remote, local_files

OFFLINE = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{none}",
    # What asks for addresses by other ways, such as WMS, finds a proxy that nobody runs.
    "GDAL_HTTP_PROXY": "127.0.0.1:1",
    "GDAL_HTTPS_PROXY": "127.0.0.1:1",
    "NO_PROXY": "",
    "no_proxy": "",
}
"""GDAL settings, as environment variables that other processes inherit, under which it reaches no address."""

_INDEXES = (b"<GDALTileIndexDataset", b"<GDAL_WMS", b"<GDAL_WCS", b"<WCS_GDAL", b"<GDAL_WMTS")
_PLAIN = frozenset(
    ("GTiff", "COG", "PNG", "JPEG", "BMP", "GIF", "BIGGIF", "WEBP", "JP2OpenJPEG", "ENVI", "EHdr", "HFA", "NITF", "VRT")
)
"""GDAL's drivers of files that name no others, or whose names of others GDAL tells. MRF, netCDF, HDF5, PDS and many
more can name any file, and do not tell."""
_MEND = "leave --local-only out, if you trust it"


@contextmanager
def offline() -> Iterator[None]:
    """Let GDAL reach no address meanwhile."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def refuse_remote(names: Sequence[str]) -> None:
    """Refuse what would be read over the network.

    Raises:
        DataError: One of the names is an address.
    """
    for name in names:
        if is_remote(name):
            raise DataError(f"{name} is on the network", "files on this machine, for --local-only", _MEND)


def refuse_outside(scene: InputScene, raster: Raster) -> None:
    """Refuse an open scene that is read from anything but files in the folder of what names it, or below that.

    Raises:
        DataError: It refers to an address, to a file outside, or to what cannot be followed.
    """
    named = [file for name in ([scene.listed] if scene.listed else scene.sources) for file in local_files(name, Path())]
    folders = [Path(file).resolve().parent for file in named] + [Path(file).parent for file in named]
    if raster.driver not in _PLAIN or (raster.driver == "VRT" and any(s.startswith("/vsi") for s in scene.sources)):
        raise DataError(f"{raster.source} of GDAL's {raster.driver} may refer to anything", "plain rasters", _MEND)
    for file in raster.files:
        refuse_remote([file])
        path = Path(file)
        if file not in named and not any(path.resolve().is_relative_to(folder) for folder in folders):
            raise DataError(
                f"{raster.source} is read from {file}, which lies outside {folders[0] if folders else 'its folder'}",
                "files in that folder, for --local-only",
                _MEND,
            )
        if _is_index(path) or _driver_of(file) not in _PLAIN:
            raise DataError(f"{file} may refer to anything, as an index does", "plain rasters", _MEND)


def _is_index(path: Path) -> bool:
    """Whether GDAL takes a file for a list of other rasters, other than a VRT."""
    if ".gti" in path.suffixes or path.suffix == ".json":
        return True
    try:
        with path.open("rb") as file:
            begin = file.read(1024)
    except OSError:
        return False
    return any(word in begin for word in _INDEXES)


def _driver_of(file: str) -> str:
    """Return GDAL's driver of a file that another one names; that of plain rasters for what is no raster."""
    try:
        with warnings.catch_warnings(action="ignore"), rasterio.open(file) as part:
            return str(part.driver)
    except (RasterioError, UnicodeError):  # tags, world files: text beside a raster
        return "GTiff"
