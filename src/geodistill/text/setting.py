"""The setting of a scene: zone, season, resolution and height, from whatever says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geodistill.data.manifest import Row
from geodistill.errors import RecipeError
from geodistill.raster import Raster
from geodistill.text.climate import Position, Zone, position_of, region_zone, season, zone_at, zone_named

FILE = "file"
"""In place of a region's name: the region that the file is named by."""


@dataclass(frozen=True)
class Setting:
    """What is known of a scene.

    Attributes:
        zone: Climate zone's code, or ``None``.
        season: ``spring``, ``summer``, ``autumn``, ``winter`` or ``None``.
        gsd: Ground sampling distance in metres per pixel, or ``None``.
        elevation: Metres above the sea, or ``None``.
    """

    zone: str | None = None
    season: str | None = None
    gsd: float | None = None
    elevation: float | None = None


@dataclass(frozen=True)
class Place:
    """A setting with how it was found.

    Attributes:
        setting: What prompts are written for.
        zone: The zone with its name, and its distance where the coordinate lies off the coast.
        source: What gave the zone.
        lon: Longitude in degrees, or ``None`` for a zone that was named.
        lat: Latitude in degrees, or ``None``.
    """

    setting: Setting
    zone: Zone
    source: str
    lon: float | None = None
    lat: float | None = None


def find_place(
    image: Path | str | Raster | None = None,
    *,
    lonlat: tuple[float, float] | None = None,
    zone: str | None = None,
    region: str | None = None,
    day: str | None = None,
    gsd: float | None = None,
    elevation: float | None = None,
) -> Place:
    """Find the setting of a scene.

    A named zone wins over a region, a region over a coordinate, a coordinate over the image's own position. Day and
    ground sampling distance are the image's own where not given.

    Args:
        image: A raster, its path, or ``None``.
        lonlat: Longitude and latitude in degrees.
        zone: A zone's code.
        region: A place of `geodistill.text.regions.REGIONS`, or `FILE`.
        day: ``YYYY-MM-DD``.
        gsd: Metres per pixel.
        elevation: Metres above the sea.

    Raises:
        DataError: Nothing says where the scene lies, a coordinate is no coordinate or in the open ocean, or the day
            is no date.
        UnknownNameError: There is no such zone or region.
        RecipeError: There is nothing to find the setting of.
    """
    file = image.path if isinstance(image, Raster) else image
    if isinstance(image, Raster):
        gsd, day = gsd or image.grid.gsd, day or image.acquired
    elif image is not None:
        with Raster(image) as raster:
            gsd, day = gsd or raster.grid.gsd, day or raster.acquired
    if zone is not None:
        lat = lonlat[1] if lonlat else None
        return Place(Setting(zone_named(zone).code, season(day, lat), gsd, elevation), zone_named(zone), "named")
    if region is not None:
        found, position = region_zone(_region(region, file))
    elif lonlat is not None:
        position = Position(*lonlat, "coordinate")
        found = zone_at(*lonlat)
    elif image is not None:
        position = position_of(image)
        found = zone_at(position.lon, position.lat, file)
    else:
        raise RecipeError("no scene", "an image, a coordinate, a zone or a region")
    return _at(found, position, day, gsd, elevation)


def row_place(
    row: Row,
    *,
    lonlat: tuple[float, float] | None = None,
    zone: str | None = None,
    region: str | None = None,
    day: str | None = None,
    gsd: float | None = None,
) -> Place:
    """Find the setting of a manifest's row; where nothing is given, from the manifest's position or the file's own.

    Args:
        row: The row; its day counts where none is given.
        lonlat: Longitude and latitude in degrees.
        zone: A zone's code.
        region: A place of `geodistill.text.regions.REGIONS`, or `FILE`.
        day: ``YYYY-MM-DD``.
        gsd: Metres per pixel.

    Raises:
        DataError: Nothing says where the image was taken, its coordinate is no coordinate or in the open ocean, or
            the day is no date.
        UnknownNameError: There is no such zone or region.
    """
    day = day or row.date
    own = None if row.lon is None or row.lat is None else (row.lon, row.lat)
    if zone is not None:
        return find_place(lonlat=lonlat or own, zone=zone, day=day, gsd=gsd)
    if region is not None:
        return find_place(region=_region(region, row.image), day=day, gsd=gsd)
    if lonlat is not None:
        return find_place(lonlat=lonlat, day=day, gsd=gsd)
    position = position_of(row.image) if own is None else Position(*own, "manifest")
    return _at(zone_at(position.lon, position.lat, row.image), position, day, gsd, None)


def _region(region: str, file: Path | str | None) -> str:
    if region != FILE:
        return region
    if file is None:
        raise RecipeError("the region of a file's name without a file", "an image, or a region's name")
    return Path(file).name


def _at(zone: Zone, position: Position, day: str | None, gsd: float | None, elevation: float | None) -> Place:
    setting = Setting(zone.code, season(day, position.lat), gsd, elevation)
    return Place(setting, zone, position.source, position.lon, position.lat)
