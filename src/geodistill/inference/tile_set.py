"""A map of classes for the web: PNG tiles in Web Mercator in one file, MBTiles or PMTiles, and a preview picture."""

from __future__ import annotations

import io
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, reproject, transform_bounds

from geodistill.errors import DataError
from geodistill.files import atomic_path
from geodistill.inference.geotiff import preview_beside, tiles_beside
from geodistill.inference.majority import majority
from geodistill.inference.map_file import read_map_grid
from geodistill.inference.pmtiles import write_pmtiles
from geodistill.raster import Grid
from geodistill.raster.ground import Ground, outline_in_degrees
from geodistill.raster.web_map import EDGE, SIDE
from geodistill.spec import IGNORE_INDEX, Legend, hexadecimal

DEEPEST = 22
_MERCATOR = "EPSG:3857"

_TURNED = "+proj=merc +a=6378137 +b=6378137 +lon_0={} +units=m +nadgrids=@null +wktext +no_defs"
"""Web Mercator seen from the other side, for maps across the antimeridian: the same tiles by half a turn; and from
whole turns away, for longitudes beyond 180."""

_NORTH = math.degrees(math.atan(math.sinh(math.pi)))
"""Latitude at which Web Mercator ends: there its square is as high as it is wide."""

PREVIEW = 1024
"""Longest side of a preview in pixels."""


def write_tile_set(classes: Path, kind: str, legend: Legend) -> Path:
    """Write the tiles of a finished map beside it (see `tiles_beside`), in memory that stays flat.

    The deepest level is that whose pixels are nearest in size to the map's; above it each pixel is the `majority` of
    four. Tiles without data are left out.

    Raises:
        DataError: The map does not say where on Earth it lies, lies beyond Web Mercator, or has no data.
        OutputError: It cannot be written.
    """
    path = tiles_beside(classes, kind)
    with ExitStack() as opened:
        file = opened.enter_context(rasterio.open(classes))
        check_place(read_map_grid(classes), str(classes))
        try:
            pyramid = opened.enter_context(closing(_Pyramid(file)))
        except (RasterioError, CPLE_BaseError, ValueError) as error:
            raise DataError(f"{classes} is nowhere on Earth ({error})", "a map on Earth, for tiles") from error
        about: dict[str, Any] = {"name": classes.stem, "format": "png", "type": "overlay", "attribution": ""}
        about["legend"] = dict(zip(legend.names, map(hexadecimal, legend.colours), strict=True))
        tiles = ((z, x, y, _png(values, legend)) for z, x, y, values in pyramid.tiles())
        with atomic_path(path) as part:
            (write_pmtiles if kind == "pmtiles" else _write_mbtiles)(part, _some(tiles, classes), pyramid.bounds, about)
    return path


def check_place(grid: Grid, source: str) -> None:
    """Refuse what has no place among the tiles of Web Mercator.

    Raises:
        DataError: It has no CRS, or lies around a pole.
    """
    if grid.crs is None and grid.gcps_crs is None:
        raise DataError(f"{source} has no CRS", "a scene that says where it lies, for --web-tiles")
    outline = outline_in_degrees(grid)
    _, south, _, north = (0, 0, 0, 0) if outline is None else outline.bounds
    if max(south, -north) >= _NORTH:
        raise DataError(
            f"{source} lies beyond Web Mercator, which ends at {_NORTH:.2f} degrees",
            "a scene of lower latitudes, for --web-tiles",
        )


def web_levels(classes: Path) -> tuple[int, int]:
    """Return the level at which one tile is as large as a map, and the deepest of its tiles.

    Raises:
        DataError: The map does not say where on Earth it lies.
    """
    with rasterio.open(classes) as file:
        try:
            _, place, width, height = _in_mercator(file)
        except (RasterioError, CPLE_BaseError, ValueError) as error:
            raise DataError(f"{classes} is nowhere on Earth ({error})", "a map on Earth, for tiles") from error
        deepest = _deepest(place, file.width, file.height)
    return min(max(math.floor(math.log2(2 * EDGE / abs(place.a) / max(width, height))), 0), deepest), deepest


def _in_mercator(file: Any) -> tuple[str, Affine, int, int]:
    """Return an open map's place in Web Mercator, pixels as large as its own: CRS, transform, width and height."""
    crs, grid = file.crs or file.gcps[1], read_map_grid(file.name)
    ground, mercator = Ground(grid), _MERCATOR
    middle = (ground.turn if ground.on_earth else 0) + 180 * (antimeridian_gap(grid) is not None)
    if middle:  # degrees that go on beyond 180 or -180 must not come round
        mercator = _TURNED.format(middle) + " +over" * bool(crs.is_geographic)
    corners = dict(zip(("left", "bottom", "right", "top"), file.bounds, strict=True))
    about = corners if file.crs else {"gcps": grid.control_points}
    return mercator, *calculate_default_transform(crs, mercator, file.width, file.height, **about)


def antimeridian_gap(grid: Grid) -> float | None:
    """Return a longitude far from a map that lies across the antimeridian; ``None`` for one that does not."""
    outline = outline_in_degrees(grid)
    west, _, east, _ = (0, 0, 0, 0) if outline is None else outline.bounds
    if east <= 180:
        return None
    crs = grid.crs or grid.gcps_crs
    around_a_pole = east - west > 180 and crs is not None and not crs.is_geographic
    return None if around_a_pole else (west + east - 360) / 2


def _deepest(place: Affine, width: int, height: int) -> int:
    """Return the level whose pixels are nearest in size to those of a transform in Web Mercator.

    Of a map one pixel wide or high it is a finer one, since each of its pixels must hold the centre of a tile's.
    """
    level = math.log2(2 * EDGE / SIDE / abs(place.a))
    return min(max(math.ceil(level) + 1 if min(width, height) == 1 else round(level), 0), DEEPEST)


def _some(tiles: Iterator[tuple[int, int, int, bytes]], classes: Path) -> Iterator[tuple[int, int, int, bytes]]:
    first = next(tiles, None)
    if first is None:
        raise DataError(f"{classes} has no data, or less than a pixel of tiles", "a map with classes, for tiles")
    yield first
    yield from tiles


class _Pyramid:
    """A map's tiles, each level of which is made of the one below it, never more than a few in memory."""

    def __init__(self, file: Any) -> None:
        self._file, crs = file, file.crs or file.gcps[1]
        grid = read_map_grid(file.name)
        self._points = grid.control_points
        mercator, place, width, height = _in_mercator(file)
        self._turned = antimeridian_gap(grid) is not None
        # Half a turn is no whole number of tiles at level 0.
        self.zoom = max(_deepest(place, file.width, file.height), int(self._turned))
        self._pixel = 2 * EDGE / (SIDE << self.zoom)
        right, bottom = place.c + width * place.a, place.f + height * place.e
        count = 1 << self.zoom
        west, south, east, north = transform_bounds(_MERCATOR, "EPSG:4326", place.c, bottom, right, place.f)
        # Viewers ask for no tile outside of the bounds, and know none from a larger longitude to a smaller one.
        self.bounds = (-180.0, south, 180.0, north) if self._turned else (west, south, east, north)
        self._left, self._top = (self._index(value, count) for value in (place.c + EDGE, EDGE - place.f))
        self._right, self._bottom = (self._index(value, count) for value in (right + EDGE, EDGE - bottom))
        corner = from_origin(
            self._left * SIDE * self._pixel - EDGE, EDGE - self._top * SIDE * self._pixel, self._pixel, self._pixel
        )
        self._warped = WarpedVRT(
            file,
            src_crs=crs,
            crs=mercator,
            resampling=Resampling.nearest,
            transform=corner,
            width=(self._right - self._left + 1) * SIDE,
            height=(self._bottom - self._top + 1) * SIDE,
            nodata=IGNORE_INDEX,
        )

    def _index(self, metres: float, count: int) -> int:
        return min(max(int(metres / (SIDE * self._pixel)), 0), count - 1)

    def close(self) -> None:
        self._warped.close()

    def tiles(self) -> Iterator[tuple[int, int, int, NDArray[np.uint8]]]:
        """Yield zoom, column, row and ``(256, 256)`` classes of every tile with data, down from level 0."""
        yield from self._below(0, 0, 0)

    def _below(self, zoom: int, col: int, row: int) -> Iterator[tuple[int, int, int, NDArray[np.uint8]]]:
        """Yield a tile's parts and at last itself; nothing where there is no data."""
        shift, count = self.zoom - zoom, 1 << zoom
        at = (col + count // 2) % count if self._turned else col
        beside = at > self._right >> shift or at < self._left >> shift
        if beside or row > self._bottom >> shift or row < self._top >> shift:
            return
        if not shift:
            window = rasterio.windows.Window((at - self._left) * SIDE, (row - self._top) * SIDE, SIDE, SIDE)
            values = self._by_control_points(window) if self._points else self._warped.read(1, window=window)
        else:
            four = np.full((2 * SIDE, 2 * SIDE), IGNORE_INDEX, np.uint8)
            for down in (0, 1):
                for right in (0, 1):
                    place = (2 * col + right, 2 * row + down)
                    for tile in self._below(zoom + 1, *place):
                        if tile[:3] == (zoom + 1, *place):
                            four[down * SIDE : (down + 1) * SIDE, right * SIDE : (right + 1) * SIDE] = tile[3]
                        yield tile
            values = majority(four)
        if (values != IGNORE_INDEX).any():
            yield zoom, col, row, values

    def _by_control_points(self, window: rasterio.windows.Window) -> NDArray[np.uint8]:
        """Read a window of the tiles of a map with control points, of which a warped virtual raster holds zeros."""
        values = np.full((SIDE, SIDE), IGNORE_INDEX, np.uint8)
        about = {"src_nodata": IGNORE_INDEX, "dst_nodata": IGNORE_INDEX, "resampling": Resampling.nearest}
        place = {"dst_crs": self._warped.crs, "dst_transform": self._warped.window_transform(window)}
        reproject(rasterio.band(self._file, 1), values, gcps=self._points, src_crs=self._file.gcps[1], **place, **about)
        return values


def _png(classes: NDArray[np.uint8], legend: Legend) -> bytes:
    """Return classes as a PNG with the legend's palette, transparent where there is no data."""
    picture, file = Image.fromarray(classes), io.BytesIO()
    picture.putpalette(legend.paint(np.arange(256)[None]).tobytes())
    picture.save(file, "PNG", transparency=IGNORE_INDEX, optimize=False)
    return file.getvalue()


def write_preview(classes: Path, legend: Legend) -> Path:
    """Write a picture of a finished map beside it, ``NAME_preview.png``, of at most `PREVIEW` pixels a side.

    Raises:
        OutputError: It cannot be written.
    """
    path = preview_beside(classes)
    with rasterio.open(classes) as file:
        step = max(math.ceil(max(file.height, file.width) / PREVIEW), 1)
        shape = (-(-file.height // step), -(-file.width // step))
        values = file.read(1, out_shape=shape, resampling=Resampling.nearest)
    with atomic_path(path) as part:
        part.write_bytes(_png(values, legend))
    return path


def _write_mbtiles(
    target: Path, tiles: Iterable[tuple[int, int, int, bytes]], bounds: Any, metadata: Mapping[str, Any]
) -> int:
    """Write tiles as MBTiles 1.3: a SQLite file whose rows count from the south; return how many."""
    count, zooms = 0, set()
    with closing(sqlite3.connect(target)) as file, file:
        file.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        file.execute("CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)")
        for zoom, col, row, data in tiles:
            file.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (zoom, col, (1 << zoom) - 1 - row, data))
            count += 1
            zooms.add(zoom)
        file.execute("CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)")
        rows = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
        rows |= {"version": "1.3", "bounds": ",".join(f"{value:.7f}" for value in bounds)}
        rows |= {"minzoom": str(min(zooms)), "maxzoom": str(max(zooms))}
        file.executemany("INSERT INTO metadata VALUES (?, ?)", rows.items())
    return count
