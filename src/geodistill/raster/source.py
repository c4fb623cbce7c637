"""Where a raster is kept (a file, a GDAL path such as /vsizip/..., an address), and all files that it is read from."""

from __future__ import annotations

import http.client
import os
import re
import urllib.request
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.raster.web_map import description, is_web_map, web_map_name
from geodistill.reading import within

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


MOST_FILES = 100_000
"""Files of one raster that are listed at most."""

MOST_VRT_BYTES = 256 << 20
"""Size up to which the text of a virtual raster is searched for its sources."""

SIDE_ENDINGS = (
    *(".msk", ".ovr", ".aux.xml", ".msk.ovr", ".aux", ".rrd", ".wld", ".hdr", ".rpb", "_rpc.txt"),
    *(".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".bpw", ".gfw", ".j2w"),
)
"""What is added to a file's name, or put in place of its suffix, for masks, overviews, tags and places beside it."""

_SOURCE = re.compile(
    r"<\s*(?=(?:SourceFilename|SourceDataset|IndexDataset|DEMPath|Argument|Option|DataFile|IndexFile|Source)"
    r"""(?:\s(?:[^<>"']|"[^"]*"|'[^']*')*)?>(?:\s|<!--.*?(?:-->|\Z))*(?:<!\[CDATA\[(.*?)(?:\]\]>|\Z)|([^<]*)))""",
    re.IGNORECASE | re.DOTALL,
)
"""An element that names a source, found wherever one could begin, also in what looks like a comment or literal text."""

_NAMING = (b"<VRTDataset", b"<GDALTileIndexDataset", b"<MRF_META")
"""What files of GDAL's begin with whose elements name sources: virtual rasters, tile indexes, MRF's descriptions."""

_HEAD_SECONDS = 20


class Neighbours(tuple[str, ...]):
    """Rasters that show neighbouring places and are read as one: where they overlap, the first lies on top."""


def is_remote(source: str) -> bool:
    """Whether a source is read over the network."""
    if _SCHEME.match(source):
        return True
    return (source.startswith("/vsi") or is_gdal_name(source)) and bool(_NETWORK_NAME.search(source))


def is_gdal_name(source: str) -> bool:
    """Whether a source is named as GDAL names parts of files and services."""
    return bool(_OWN_NAME.match(source)) and not os.path.exists(source)  # noqa: PTH110 - a name too long is none


def is_local(source: str) -> bool:
    """Whether a source is a plain file on this machine."""
    return not is_remote(source) and not source.startswith(("/vsi", "<")) and not is_gdal_name(source)


def _web_map(source: str) -> str | None:
    """Return what GDAL opens a web map at a zoom level by; ``None`` for any other source."""
    return description(source) if "#zoom=" in source else None


def vsi_name(source: str) -> str:
    """Return the name by which GDAL opens a source."""
    if (web_map := _web_map(source)) is not None:
        return web_map
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
    """Return the local files that a name of GDAL's stands for, relative to ``base`` or the current folder.

    That is the file itself, an archive, or the file in GDAL's name.
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
    if _web_map(source) is not None:
        return web_map_name(source)
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


def name_of(sources: Sequence[str], stacked: bool) -> str:
    """Return what sources are called: what the names of bands ``stacked`` share, or the name of the first."""
    names = [stem_of(source) for source in sources]
    return shared_name(names) if stacked else names[0]


def open_source(source: str, overview: int | None = None) -> DatasetReader:
    """Open a source with GDAL, or a level of its overviews (from 0) in its place.

    Raises:
        DataError: It is missing or cannot be read as a raster.
    """
    if is_local(source) and not os.path.isfile(source):  # noqa: PTH113 - a name too long is no file
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


def source_files(source: Path | str | Sequence[Path | str]) -> tuple[str, ...]:
    """Return every local file and every address that a raster is read from, sorted, without reading pixels.

    Sources of a virtual raster count, and theirs, and so do files beside each: masks, overviews, tags, world files.

    Returns:
        Absolute paths of local files, and addresses (``https://...``, ``s3://...``) as they are.

    Raises:
        DataError: It cannot be opened, consists of more than `MOST_FILES` files, or names sources within sources.
    """
    sources = [str(source)] if isinstance(source, Path | str) else [str(s) for s in source]
    parts: list[str] = []
    for name in sources:
        with open_source(name) as file:
            parts += file.files
    return every_file([*sources, *parts])


def every_file(names: Iterable[str]) -> tuple[str, ...]:
    """Return the files and addresses behind names as GDAL knows them; as `source_files`, for an open raster.

    Raises:
        DataError: There are more than `MOST_FILES`, or they are named within each other.
    """
    names = list(names)
    files: dict[str, None] = {}
    waiting, folders = [(name, Path.cwd()) for name in reversed(names)], dict[Path, dict[str, str]]()
    texts = set[tuple[str, Path]]()
    while waiting:
        name, base = waiting.pop()
        if name.lstrip().startswith("<"):
            waiting += [] if (name, base) in texts else _sources_in(name, base)
            texts.add((name, base))
            continue
        if is_remote(name):
            new = [] if address_of(name) in files else [address_of(name)]
            waiting += _remote_sources(name) if new else []
        else:
            new = [file for file in local_files(name, base) if file not in files]
        for file in new:
            files[file] = None
            if not is_remote(file):
                waiting += _sources_of(Path(file))
                files |= dict.fromkeys(_beside(Path(file), folders))
        if len(files) > MOST_FILES:
            raise DataError(f"{names[0]} is made of more than {MOST_FILES} files", f"at most {MOST_FILES}")
    return tuple(sorted(files))


def _sources_of(path: Path) -> list[tuple[str, Path]]:
    """Return the sources that a local file names, with the folder they are relative to; none of most files."""
    try:
        with path.open("rb") as file:
            text = file.read(1024)
            if not any(root in text for root in _NAMING):
                return []
            text += file.read(MOST_VRT_BYTES)
    except OSError:
        return []  # reading its pixels will tell
    return _sources_in(text.decode("utf-8", "surrogateescape"), path.parent)


def _sources_in(text: str, base: Path) -> list[tuple[str, Path]]:
    # Names without the attribute are relative to the current folder; asking both places costs nothing.
    names, looked = dict[str, None](), 0
    for match in _SOURCE.finditer(text):
        looked += max(match.end(1), match.end(2)) - match.start()
        if looked > 4 * len(text):  # each of a thousand that none ends reaches to the end
            raise DataError(f"a description in {base} of sources within sources", "sources one behind the other")
        names[(match[1] or "").strip() or unescape((match[2] or "").strip())] = None
    return [(name, base) for name in names if name]


def _remote_sources(name: str) -> list[tuple[str, Path]]:
    """Return what a virtual raster on the network is made of."""
    if not address_of(name).split("?", 1)[0].lower().endswith(".vrt"):
        return []
    try:
        with rasterio.Env(**NETWORK), open_source(address_of(name)) as file:
            return [(str(name_inside), Path.cwd()) for name_inside in file.files]
    except (DataError, RasterioError):
        return []  # reading its pixels will tell


def _beside(path: Path, folders: dict[Path, dict[str, str]]) -> list[str]:
    """Return the files beside one that GDAL may read with it, whatever their names' case."""
    if path.parent not in folders:
        try:
            names = os.listdir(path.parent)  # noqa: PTH208 - names alone, of folders of any size
        except OSError:
            names = []
        folders[path.parent] = {name.lower(): name for name in names}
    siblings = folders[path.parent]
    names_beside = {f"{begin.lower()}{ending}" for begin in (path.name, path.stem) for ending in SIDE_ENDINGS}
    return [
        str(path.parent / siblings[name])
        for name in sorted(names_beside & siblings.keys())
        if siblings[name] != path.name
    ]


def stamp_of(files: Sequence[str]) -> list[list[str | int | None]]:
    """Return what tells whether files are still those of another day, JSON-ready: another stamp is another raster.

    Returns:
        For each local file its name, size in bytes and time of change in nanoseconds; for each address its name,
        ``ETag``, ``Last-Modified`` and length, as the server answers one HEAD request; ``None`` where it does not.
    """
    addresses = [file for file in files if is_remote(file)]
    with ThreadPoolExecutor(16) as pool:
        answers = dict(zip(addresses, pool.map(_asked, addresses), strict=True)) if addresses else {}
    return [answers[file] if file in answers else _measured(file) for file in files]


def _measured(file: str) -> list[str | int | None]:
    try:
        stat = Path(file).stat()
    except OSError:
        return [Path(file).name, None, None]
    return [Path(file).name, stat.st_size, stat.st_mtime_ns]


def _asked(address: str) -> list[str | int | None]:
    # Without the query: it may hold a signature, which is secret and another one each time.
    name = address.split("?", 1)[0]
    unknown: list[str | int | None] = [name, None, None, None]
    if not re.match(r"^https?://", address, re.IGNORECASE) or is_web_map(address):
        return unknown

    def ask() -> list[str | int | None]:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=_HEAD_SECONDS) as answer:
            headers = answer.headers
            return [name, headers.get("ETag"), headers.get("Last-Modified"), headers.get("Content-Length")]

    try:
        return within(_HEAD_SECONDS, ask)
    except (OSError, ValueError, http.client.HTTPException):  # not every server answers HEAD
        return unknown
