"""The setting of a scene: zone, season, resolution and height, from whatever says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geodistill.context.climate import Zone, position_of, region_zone, season, zone_at, zone_named
from geodistill.errors import RecipeError
from geodistill.raster import Raster


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
        region: A place of `geodistill.context.regions.REGIONS`.
        day: ``YYYY-MM-DD``.
        gsd: Metres per pixel.
        elevation: Metres above the sea.

    Raises:
        DataError: Nothing says where the scene lies, a coordinate is no coordinate or in the open ocean, or the day
            is no date.
        UnknownNameError: There is no such zone or region.
    """
    if isinstance(image, Raster):
        gsd, day = gsd or image.grid.gsd, day or image.acquired
    elif image is not None:
        with Raster(image) as raster:
            gsd, day = gsd or raster.grid.gsd, day or raster.acquired
    if zone is not None:
        lat = lonlat[1] if lonlat else None
        return Place(Setting(zone_named(zone).code, season(day, lat), gsd, elevation), zone_named(zone), "named")
    if region is not None:
        found, position = region_zone(region)
    elif lonlat is not None:
        found, position = zone_at(*lonlat), None
    elif image is not None:
        position = position_of(image)
        found = zone_at(position.lon, position.lat)
    else:
        raise RecipeError("no scene", "an image, a coordinate, a zone or a region")
    lon, lat = (position.lon, position.lat) if position else lonlat or (None, None)
    source = position.source if position else "coordinate"
    return Place(Setting(found.code, season(day, lat), gsd, elevation), found, source, lon, lat)
