"""Where a raster is kept: a file, a GDAL path such as /vsizip/..., an address, or several of them stacked."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.raster.orientation import turn_of

_SCHEME = re.compile(r"^(https?|s3|gs|az|oss|swift)://", re.IGNORECASE)

IMAGE_SUFFIXES = (
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vrt", ".jp2"),
    *(".webp", ".gif", ".img", ".ntf", ".nitf", ".nc"),
)
"""Suffixes, in lower case, that are looked for when a folder is scanned for rasters."""

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


_OWN_NAME = re.compile(r"^([A-Za-z]\w{2,}:(?!//)|vrt://)")
"""Names that GDAL gives parts of files and services: ``NETCDF:file.nc:red``, ``GTIFF_DIR:2:a.tif``, ``vrt://a.tif``."""

_NETWORK_NAME = re.compile(r"/vsi(curl|s3|gs|az|oss|swift|adls|hdfs|webhdfs)(_streaming)?[/?]|https?://", re.IGNORECASE)


def is_remote(source: str) -> bool:
    """Whether a source is read over the network."""
    if _SCHEME.match(source):
        return True
    return (source.startswith("/vsi") or is_gdal_name(source)) and bool(_NETWORK_NAME.search(source))


def is_gdal_name(source: str) -> bool:
    """Whether a source is named as GDAL names parts of files and services."""
    return bool(_OWN_NAME.match(source)) and not Path(source).exists()


def is_local(source: str) -> bool:
    """Whether a source is a plain file on this machine."""
    return not is_remote(source) and not source.startswith(("/vsi", "<")) and not is_gdal_name(source)


def vsi_name(source: str) -> str:
    """Return the name by which GDAL opens a source."""
    if re.match(r"^https?://", source, re.IGNORECASE):
        return f"/vsicurl/{source}"
    schemes = {"s3": "vsis3", "gs": "vsigs", "az": "vsiaz", "oss": "vsioss", "swift": "vsiswift"}
    if match := _SCHEME.match(source):
        return f"/{schemes[match[1].lower()]}/{source[match.end() :]}"
    return str(Path(source).absolute()) if is_local(source) else source


def address_of(source: str) -> str:
    """Return a remote source as an address, whichever of GDAL's names for it is given."""
    match = re.search(r"https?://.*", source, re.IGNORECASE)
    if match is None:
        return source
    address = match[0].split('"', 1)[0]
    return unquote(address) if source.startswith("/vsicurl?") else address


def local_files(source: str, base: Path) -> list[str]:
    """Return the local files that a name stands for: itself, an archive, or the file in GDAL's name.

    Args:
        source: A name as GDAL knows it.
        base: Folder that relative names are relative to; the current one is tried too.
    """
    parts, gdal_name = [source], is_gdal_name(source)
    if gdal_name:
        plain = source.removeprefix("vrt://").split("?", 1)[0]
        words = plain.replace('"', "").split(":")
        parts = [plain, *(":".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))]
    files = []
    for part in parts:
        while match := re.match(r"^/vsi(zip|tar|gzip|7z|rar|cached|sparse|subfile|crypt)/", part):
            part = part[match.end() :].strip("{}") if match[1] != "subfile" else part.partition(",")[2]
        for place in dict.fromkeys((base / part, Path(part))) if part else ():
            files += _file_on(place, folders=not gdal_name or bool(place.suffix))
    return list(dict.fromkeys(files))


def _file_on(place: Path, folders: bool) -> list[str]:
    """Return a file, the files of a folder (a Zarr store), or the file that a path leads through (an archive)."""
    try:
        place = Path(os.path.abspath(place))  # noqa: PTH100 - a link counts under its own name
        if place.is_dir():
            return [str(file) for file in sorted(place.rglob("*")) if file.is_file()] if folders else []
        return [str(path) for path in (place, *place.parents) if path.is_file()][:1]
    except (OSError, ValueError):  # too long, or with a null character: no file of that name
        return []


def stem_of(source: str) -> str:
    """Return the name of a source without folder, query and suffix: what its map is called after."""
    if not is_gdal_name(source):
        plain = source.split("?", 1)[0] if is_remote(source) else source
        return Path(plain).stem
    words = [word for word in re.split(r'[:"?]+', source)[1:] if word.strip("/")]
    return re.sub(r"\W+", "_", "_".join(Path(word).stem for word in words)) or "raster"


def shared_name(names: Sequence[str]) -> str:
    """Return what names begin with, without the separator before they part: what a scene's band files are called."""
    common = "".join(
        letters[0] for letters in takewhile(lambda letters_at: len(set(letters_at)) == 1, zip(*names, strict=False))
    )
    return re.sub(r"[_.-]+(?:(?:SR_)?(?:B|band)_?\d*)?$", "", common, flags=re.IGNORECASE) or names[0]


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
            file = rasterio.open(source if source.startswith("<") else vsi_name(source), **options)
    except UnicodeError as error:
        raise DataError(f"{source} is not UTF-8, in its name or its text", "a name in UTF-8", "rename it") from error
    except RasterioError as error:
        expected = "an address that answers range requests" if is_remote(source) else "GeoTIFF, PNG, JPEG or BMP"
        raise DataError(f"{source} cannot be opened as a raster ({error})", expected) from error
    if not file.count:
        parts = file.subdatasets
        file.close()
        names = ", ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
        raise DataError(
            f"{source} has no bands of its own" + (f", but {len(parts)} rasters inside: {names}" if parts else ""),
            "one raster",
            "name one of them, or several together as one scene" if parts else "",
        )
    return file


_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
    "int64": "Int64",
    "uint64": "UInt64",
}


def stack(sources: Sequence[str]) -> str:
    """Describe files that show one place as one raster with all their bands, in the order of the files.

    The grid is that of the finest; coarser ones are read bilinearly onto it. Each band keeps its own nodata, scale and
    offset, and answers to its file's name.

    Returns:
        The text of a GDAL virtual raster.

    Raises:
        DataError: A file cannot be read, they are in different coordinate systems, or do not show the same place.
    """
    files = [open_source(source) for source in sources]
    try:
        for source, file in zip(sources, files, strict=True):
            if not turn_of(source, file, file.tags()).none:
                raise DataError(f"{source} has an orientation tag", "band files as they are seen", "turn its pixels")
            if file.crs != files[0].crs:
                raise DataError(f"{source} in {file.crs}", f"{files[0].crs} as {sources[0]}", "reproject one of them")
        finest = min(files, key=lambda file: abs(file.transform.determinant))
        bands: list[str] = []
        for source, file in zip(sources, files, strict=True):
            place = _place(source, file, finest)
            bands += [_band(len(bands) + i, source, file, i, place) for i in file.indexes]
        t = finest.transform
        where = ", ".join(repr(float(v)) for v in (t.c, t.a, t.b, t.f, t.d, t.e))
        crs = escape(finest.crs.to_wkt()) if finest.crs else ""
        return (
            f'<VRTDataset rasterXSize="{finest.width}" rasterYSize="{finest.height}"><SRS>{crs}</SRS>'
            f"<GeoTransform>{where}</GeoTransform>{''.join(bands)}</VRTDataset>"
        )
    except RasterioError as error:
        raise DataError(f"{', '.join(sources)} cannot be read together ({error})", "band files of one scene") from error
    finally:
        for file in files:
            file.close()


def _place(source: str, file: DatasetReader, finest: DatasetReader) -> tuple[float, float, float, float]:
    """Where a file lies on the finest grid: column, row, width and height in its pixels."""
    to_pixels: Affine = ~finest.transform @ file.transform
    (left, top), (right, bottom) = to_pixels @ (0, 0), to_pixels @ (file.width, file.height)
    slack = 1.5 * max(abs(to_pixels.a), abs(to_pixels.e))
    turned = abs(to_pixels.b) + abs(to_pixels.d) > 1e-6
    far = max(abs(left), abs(top), abs(right - finest.width), abs(bottom - finest.height)) > slack
    if turned or far or right <= left or bottom <= top:
        raise DataError(
            f"{source} covers another place than {finest.name}", "band files of one scene, which share their corners"
        )
    return left, top, right - left, bottom - top


def _band(number: int, source: str, file: DatasetReader, index: int, place: tuple[float, float, float, float]) -> str:
    kind = _TYPES.get(file.dtypes[index - 1])
    if kind is None:
        raise DataError(f"{source} of type {file.dtypes[index - 1]}", f"one of {', '.join(_TYPES)}")
    name = Path(source).name if file.count == 1 else file.descriptions[index - 1] or f"{Path(source).name} {index}"
    nodata = file.nodatavals[index - 1]
    tags = f"<Description>{escape(name)}</Description>"
    tags += f"<ColorInterp>{file.colorinterp[index - 1].name.capitalize()}</ColorInterp>"
    if nodata is not None:
        tags += f"<NoDataValue>{nodata!r}</NoDataValue>"
    scale, offset = file.scales[index - 1], file.offsets[index - 1]
    tags += f"<Offset>{offset!r}</Offset><Scale>{scale!r}</Scale>"
    x, y, width, height = place
    part = f'<SrcRect xOff="0" yOff="0" xSize="{file.width}" ySize="{file.height}"/>'
    part += f'<DstRect xOff="{x!r}" yOff="{y!r}" xSize="{width!r}" ySize="{height!r}"/>'
    name = escape(vsi_name(source))
    content = f'<SourceFilename relativeToVRT="0">{name}</SourceFilename><SourceBand>{index}</SourceBand>{part}'
    content += f"<NODATA>{nodata!r}</NODATA>" if nodata is not None else ""
    return (
        f'<VRTRasterBand dataType="{kind}" band="{number}">{tags}'
        f'<ComplexSource resampling="bilinear">{content}</ComplexSource></VRTRasterBand>'
    )
