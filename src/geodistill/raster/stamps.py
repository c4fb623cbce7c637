"""Which files and addresses a raster is read from, and what tells whether they are still the same."""

from __future__ import annotations

import http.client
import os
import re
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from geodistill.errors import DataError
from geodistill.raster.source import NETWORK, address_of, is_remote, local_files, open_source

MOST_FILES = 100_000
"""Files of one raster that are listed at most."""

MOST_VRT_BYTES = 256 << 20
"""Size up to which the text of a virtual raster is searched for its sources."""

SIDE_ENDINGS = (
    *(".msk", ".ovr", ".aux.xml", ".msk.ovr", ".aux", ".rrd", ".wld", ".hdr", ".rpb", "_rpc.txt"),
    *(".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".bpw", ".gfw", ".j2w"),
)
"""What is added to a file's name, or put in place of its suffix, for masks, overviews, tags and places beside it."""

_SOURCE = re.compile(r"<(?:SourceFilename|SourceDataset|IndexDataset)(?:\s[^<>]*)?>([^<]*)</")
_HEAD_SECONDS = 20


def source_files(source: Path | str | Sequence[Path | str]) -> tuple[str, ...]:
    """Return every local file and every address that a raster is read from, sorted, without reading pixels.

    Sources of a virtual raster count, and theirs, and so do files beside each: masks, overviews, tags, world files.

    Args:
        source: What `Raster` takes.

    Returns:
        Absolute paths of local files, and addresses (``https://...``, ``s3://...``) as they are.

    Raises:
        DataError: It cannot be opened, or consists of more than `MOST_FILES` files.
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
        DataError: There are more than `MOST_FILES`.
    """
    names = list(names)
    files: dict[str, None] = {}
    waiting, folders = [(name, Path.cwd()) for name in reversed(names)], dict[Path, dict[str, str]]()
    while waiting:
        name, base = waiting.pop()
        if name.lstrip().startswith("<"):
            waiting += _sources_in(name, base)
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
            if b"<VRTDataset" not in text and b"<GDALTileIndexDataset" not in text:
                return []
            text += file.read(MOST_VRT_BYTES)
    except OSError:
        return []  # reading its pixels will tell
    return _sources_in(text.decode("utf-8", "surrogateescape"), path.parent)


def _sources_in(text: str, base: Path) -> list[tuple[str, Path]]:
    # Names without the attribute are relative to the current folder; asking both places costs nothing.
    return [(unescape(name.strip()), base) for name in dict.fromkeys(_SOURCE.findall(text)) if name.strip()]


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

    Args:
        files: What `source_files` returns.

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
    if not re.match(r"^https?://", address, re.IGNORECASE):
        return unknown
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=_HEAD_SECONDS) as answer:
            headers = answer.headers
            return [name, headers.get("ETag"), headers.get("Last-Modified"), headers.get("Content-Length")]
    except (OSError, ValueError, http.client.HTTPException):  # not every server answers HEAD
        return unknown
