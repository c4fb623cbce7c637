"""Maps on the web at one zoom level (XYZ, TMS, WMS, WMTS) as rasters: their description for GDAL, and polite reading.

A source is an address and the zoom level behind ``#zoom=``, which never reaches the server.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.raster.grid import Window

ZOOMS = range(23)
"""Zoom levels: a map of the last is 1,073,741,824 pixels wide, and GDAL's rasters end at twice that."""

TRIES, PAUSE = 4, 0.5
"""How often a tile is asked for, and the seconds before the second time; they double each time."""

RATE = 16.0
"""Tiles a second at most from all servers together, over `CONNECTIONS` connections."""

CONNECTIONS, SECONDS = 2, 30
"""At once, and how long an answer may take."""

DRIVERS = ("WMS", "WMTS")
"""GDAL's names of what reads them."""

_TOGETHER = 8
"""Tiles asked for in one go."""

_CACHED = 0.001
"""Seconds a tile within which nothing can have come over a network."""

SIDE = 256
"""Pixels of a tile's side."""

EDGE = 20037508.342789244
"""Metres in Web Mercator from the middle of the map to its edges."""

_POLITE, _next = threading.Lock(), [0.0]


def is_web_map(source: str) -> bool:
    """Whether an address is that of a map at any place and zoom level, and not of one file."""
    if not re.match(r"^https?://", source, re.IGNORECASE):
        return False
    query = {key.lower(): value.lower() for key, value in parse_qsl(urlsplit(source).query)}
    tiles = "{x}" in source and ("{y}" in source or "{-y}" in source)
    services = query.get("service") in ("wms", "wmts") or "wmtscapabilities" in source.lower()
    return tiles or services or query.get("request") == "getmap"


def at_zoom(source: str, zoom: int) -> str:
    """Return the source that is a web map at a zoom level.

    Raises:
        DataError: There is no such level.
    """
    if zoom not in ZOOMS:
        raise DataError(f"zoom level {zoom}", f"{ZOOMS.start} to {ZOOMS.stop - 1}")
    return f"{source.split('#', 1)[0]}#zoom={zoom}"


def web_map_name(source: str) -> str:
    """Return what a web map is called: its host, its layers and the zoom level."""
    address, _, zoom = source.partition("#zoom=")
    parts = urlsplit(address)
    query = {key.lower(): value for key, value in parse_qsl(parts.query)}
    layers = query.get("layers", query.get("layer", ""))
    return "_".join(part for part in (parts.hostname or "", layers, f"z{zoom}") if part)


def description(source: str) -> str | None:
    """Return what GDAL opens a web map by; ``None`` for any other source.

    Raises:
        DataError: A WMS address names no layers.
    """
    address, mark, zoom = source.partition("#zoom=")
    if not mark or not zoom.isdecimal():
        return None
    query = {key.lower(): value for key, value in parse_qsl(urlsplit(address).query, keep_blank_values=True)}
    if query.get("service", "").lower() == "wmts" or "wmtscapabilities" in address.lower():
        chosen = {key: query.pop(key) for key in ("layer", "tilematrixset", "style") if key in query}
        base = f"{address.split('?', 1)[0]}?{urlencode(query)}" if query else address.split("?", 1)[0]
        return ",".join([f"WMTS:{base}", *(f"{key}={value}" for key, value in chosen.items()), f"zoom_level={zoom}"])
    if "{x}" in address:
        service = _tiles(address)
        window = f"<TileLevel>{zoom}</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>"
        window += f"<YOrigin>{'bottom' if '{-y}' in address else 'top'}</YOrigin>"
    else:
        service = _wms(address, query)
        side = SIDE << int(zoom)
        window = f"<SizeX>{side}</SizeX><SizeY>{side}</SizeY>"
    corners = zip(("UpperLeftX", "UpperLeftY", "LowerRightX", "LowerRightY"), (-1, 1, 1, -1), strict=True)
    window = "".join(f"<{name}>{sign * EDGE}</{name}>" for name, sign in corners) + window
    bounds = f"<MaxConnections>{CONNECTIONS}</MaxConnections><Timeout>{SECONDS}</Timeout>"
    bounds += "<ZeroBlockHttpCodes>204,404</ZeroBlockHttpCodes><UserAgent>geodistill</UserAgent>"
    # Four bands: what the server does not have is transparent, which is no data.
    return (
        f"<GDAL_WMS>{service}<DataWindow>{window}</DataWindow><Projection>EPSG:3857</Projection><BandsCount>4"
        f"</BandsCount><BlockSizeX>{SIDE}</BlockSizeX><BlockSizeY>{SIDE}</BlockSizeY>{bounds}</GDAL_WMS>"
    )


def _tiles(address: str) -> str:
    template = re.sub(r"\{(?:s|switch:([^,}]*)[^}]*)\}", lambda match: match[1] or "a", address)
    for ours, theirs in (("{z}", "${z}"), ("{x}", "${x}"), ("{y}", "${y}"), ("{-y}", "${y}")):
        template = template.replace(ours, theirs)
    return f'<Service name="TMS"><ServerUrl>{escape(template)}</ServerUrl></Service>'


def _wms(address: str, query: dict[str, str]) -> str:
    if not query.get("layers"):
        raise DataError(f"{address} names no layers", "an address with layers=NAME in it")
    known = ("service", "request", "version", "layers", "styles", "format", "transparent")
    ours = {"srs", "crs", "bbox", "width", "height"}
    rest = urlencode({key: value for key, value in query.items() if key not in (*known, *ours)})
    base = escape(f"{address.split('?', 1)[0]}?{rest}")
    fields = {
        "Version": "1.1.1",
        "ServerUrl": base,
        "SRS": "EPSG:3857",
        "ImageFormat": escape(query.get("format") or "image/png"),
        "Layers": escape(query["layers"]),
        "Styles": escape(query.get("styles", "")),
        "Transparent": "TRUE",
    }
    return '<Service name="WMS">' + "".join(f"<{key}>{value}</{key}>" for key, value in fields.items()) + "</Service>"


def read_politely(
    file: DatasetReader, window: Window, read: Callable[[Window], NDArray[Any]], source: str = ""
) -> NDArray[Any]:
    """Read ``(..., H, W)`` of a web map a few tiles at a time, each up to `TRIES` times, at most `RATE` a second.

    Raises:
        DataError: A tile does not come.
    """
    whole: NDArray[Any] | None = None
    for piece in _pieces(window, *file.block_shapes[0]):
        pixels = _fetch(piece, read, source or file.name)
        if whole is None:
            whole = np.zeros((*pixels.shape[:-2], window.height, window.width), pixels.dtype)
        whole[(..., *piece.moved(-window.row, -window.col).slices)] = pixels
    return whole if whole is not None else read(window)


def _pieces(window: Window, height: int, width: int) -> Iterator[Window]:
    """Cut a window where the tiles end, a few tiles of a row at a time."""
    rows = range(window.row // height * height, window.row + window.height, height)
    cols = range(window.col // width * width, window.col + window.width, width * _TOGETHER)
    for row in rows:
        for col in cols:
            yield Window(row, col, height, width * _TOGETHER).common(window)


def _fetch(piece: Window, read: Callable[[Window], NDArray[Any]], source: str) -> NDArray[Any]:
    tiles = -(-piece.width // SIDE)
    for tried in range(TRIES):
        with _POLITE:
            time.sleep(max(_next[0] - time.monotonic(), 0))
            begun = time.monotonic()
            try:
                pixels = read(piece)
                return pixels
            except RasterioError as error:
                if tried == TRIES - 1:
                    where = f"tiles {piece.col // SIDE} to {(piece.col + piece.width - 1) // SIDE}, row"
                    raise DataError(
                        f"{where} {piece.row // SIDE} of {source[:200]} do not come in {TRIES} tries ({error})",
                        "a server that answers with pictures",
                        "go on later with --resume, or make holes of them with --keep-going",
                    ) from error
            finally:
                if time.monotonic() - begun > _CACHED * tiles:
                    _next[0] = begun + tiles / RATE
        time.sleep(PAUSE * 2**tried)
    raise AssertionError("the last try returns or raises")
