"""Where scenes lie: the climate zone, season and resolution of one scene or of many, from whatever says so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.raster import Grid, Raster
from geodistill.raster.grid import place_windows
from geodistill.text.climate import Position, Zone, position_of, season, tile_zones, zone_at, zone_named

REGIONS: dict[str, tuple[float, float]] = {
    # OpenEarthMap: the file name up to its last underscore.
    "aachen": (6.1, 50.8), "abancay": (-72.9, -13.6), "accra": (-0.2, 5.6), "adelaide": (138.6, -34.9),
    "al_qurnah": (47.4, 31.0), "austin": (-97.7, 30.3), "baybay": (124.8, 10.7), "bielefeld": (8.5, 52.0),
    "bogota": (-74.1, 4.7), "buenos_aires": (-58.5, -34.6), "chiangmai": (99.0, 18.8), "chicago": (-87.7, 41.9),
    "chiclayo": (-79.8, -6.8), "chincha": (-76.1, -13.4), "chisinau": (28.9, 47.0), "christchurch": (172.6, -43.5),
    "coxsbazar": (92.0, 21.4), "daressalaam": (39.2, -6.8), "dhaka": (90.4, 23.8), "dolnoslaskie": (16.4, 51.1),
    "dortmund": (7.5, 51.5), "dowa": (33.9, -13.7), "duesseldorf": (6.8, 51.2), "el_rodeo": (-90.8, 14.4),
    "gorakhpur": (83.4, 26.8), "houston": (-95.4, 29.8), "ica": (-75.7, -14.1), "jeremie": (-74.1, 18.6),
    "joplin": (-94.5, 37.1), "kagera": (31.4, -1.6), "kampala": (32.6, 0.3), "khartoum": (32.5, 15.6),
    "kinshasa": (15.3, -4.4), "kitsap": (-122.7, 47.6), "koeln": (7.0, 50.9), "kujawsko-pomorskie": (18.5, 53.1),
    "kyoto": (135.8, 35.0), "labuhan": (105.8, -6.4), "lambayeque": (-79.9, -6.7), "leilane_estates": (-154.9, 19.5),
    "les_cayes": (-73.8, 18.2), "lima": (-77.0, -12.0), "little_rock": (-92.3, 34.7), "lodzkie": (19.4, 51.6),
    "lohur": (70.6, 38.3), "lubelskie": (22.9, 51.2), "lubuskie": (15.3, 52.2), "mahe": (55.5, -4.7),
    "malopolskie": (20.3, 49.8), "maputo": (32.6, -25.9), "mazowieckie": (21.1, 52.3), "melbourne": (145.0, -37.8),
    "mexico_city": (-99.1, 19.4), "monrovia": (-10.8, 6.3), "muenster": (7.6, 52.0), "ngaoundere": (13.6, 7.3),
    "niamey": (2.1, 13.5), "oklahoma": (-97.5, 35.4), "opolskie": (17.9, 50.6), "palu": (119.9, -0.9),
    "panama_city": (-85.7, 30.2), "paris": (2.3, 48.9), "pedrogao_grande": (-8.2, 39.9), "pisco": (-76.2, -13.7),
    "piura": (-80.6, -5.2), "podkarpackie": (22.2, 50.0), "podlaskie": (22.9, 53.3), "pointenoire": (11.9, -4.8),
    "pomorskie": (18.0, 54.2), "port_a_piment": (-74.1, 18.3), "rio": (-43.3, -22.9), "rosario": (-60.7, -33.0),
    "rotterdam": (4.5, 51.9), "saint_louis_du_sud": (-73.6, 18.3), "san_tome": (6.7, 0.3),
    "santa_rosa": (-122.7, 38.5), "santiago": (-70.7, -33.5), "sechura": (-80.8, -5.6), "shanghai": (121.5, 31.2),
    "slaskie": (19.0, 50.3), "soriano": (-57.8, -33.5), "svaneti": (42.7, 43.0), "swietokrzyskie": (20.8, 50.8),
    "thousand_oaks": (-118.8, 34.2), "tokyo": (139.7, 35.7), "tonga": (-175.2, -21.2), "tulsa": (-95.9, 36.1),
    "tuscaloosa": (-87.6, 33.2), "tyrolw": (10.7, 47.1), "ulaanbaatar": (106.9, 47.9), "vegas": (-115.2, 36.2),
    "vienna": (16.4, 48.2), "viru": (-78.8, -8.4), "wallace": (-78.0, 34.7), "warminsko-mazurskie": (20.8, 53.9),
    "western": (-2.1, 5.5), "wielkopolskie": (17.0, 52.3), "zachodniopomorskie": (15.5, 53.6),
    "zanzibar": (39.2, -6.1),
    # ISPRS
    "potsdam": (13.06, 52.4), "vaihingen": (8.96, 48.93),
    # LoveDA
    "nanjing": (118.8, 32.06), "changzhou": (119.97, 31.8), "wuhan": (114.3, 30.6),
    # the aerial images of Dubai
    "dubai": (55.2, 25.1),
}  # fmt: skip
"""Longitude and latitude in degrees, to a tenth: enough for a climate zone, not for a map."""

ISLAND_ZONES: dict[str, str] = {"mahe": "Af", "tonga": "Af"}
"""Zones of islands that are too small for the climate map."""


FILE = "file"
"""In place of a region's name: the region that the file is named by."""


@dataclass(frozen=True)
class Setting:
    """What is known of a scene: its zone's code, its season, metres per pixel and metres above the sea, or ``None``.

    Raises:
        RecipeError: Metres per pixel that are not above 0, or figures that are not finite.
    """

    zone: str | None = None
    season: str | None = None
    gsd: float | None = None
    elevation: float | None = None

    def __post_init__(self) -> None:
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise RecipeError(f"gsd {self.gsd}", "metres per pixel, above 0")
        if self.elevation is not None and not math.isfinite(self.elevation):
            raise RecipeError(f"elevation {self.elevation}", "metres above the sea")


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
    ground sampling distance are the image's own where not given. Under a named zone the season is that of the latitude
    of the coordinate, or of the image's own.

    Args:
        image: A raster, its path, or ``None``.
        lonlat: Longitude and latitude in degrees.
        zone: A zone's code.
        region: A place of `geodistill.text.places.REGIONS`, or `FILE`.
        day: ``YYYY-MM-DD``.
        gsd: Metres per pixel.
        elevation: Metres above the sea.

    Raises:
        DataError: Nothing says where the scene lies, a coordinate is no coordinate or in the open ocean, or the day
            is no date.
        UnknownNameError: There is no such zone or region.
        RecipeError: There is nothing to find the setting of, or metres are no such.
    """
    file = image.path if isinstance(image, Raster) else image
    if isinstance(image, Raster):
        gsd, day = image.grid.gsd if gsd is None else gsd, day or image.acquired
    elif image is not None:
        with Raster(image) as raster:
            gsd, day = raster.grid.gsd if gsd is None else gsd, day or raster.acquired
    if zone is not None:
        return _named(zone, lonlat, image, day, gsd, elevation)
    if region is not None:
        found_zone, position = region_zone(_region(region, file))
    elif lonlat is not None:
        position = Position(*lonlat, "coordinate")
        found_zone = zone_at(*lonlat)
    elif image is not None:
        position = position_of(image)
        found_zone = zone_at(position.lon, position.lat, file)
    else:
        raise RecipeError("no scene", "an image, a coordinate, a zone or a region")
    return _at(found_zone, position, day, gsd, elevation)


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

    What is given, and what is refused, is as in `find_place`; the row's day counts where none is given.
    """
    day = day or row.date
    position_in_manifest = None if row.lon is None or row.lat is None else (row.lon, row.lat)
    if zone is not None:
        return _named(zone, lonlat or position_in_manifest, row.image, day, gsd)
    if region is not None:
        return find_place(region=_region(region, row.image), day=day, gsd=gsd)
    if lonlat is not None:
        return find_place(lonlat=lonlat, day=day, gsd=gsd)
    position = position_of(row.image) if position_in_manifest is None else Position(*position_in_manifest, "manifest")
    return _at(zone_at(position.lon, position.lat, row.image), position, day, gsd, None)


def region_zone(name: str) -> tuple[Zone, Position]:
    """Return zone and position of a place that a benchmark set names; a file name such as ``aachen_11.tif`` will do.

    Raises:
        UnknownNameError: The place is not in the table.
    """
    key = Path(name).name.lower().removesuffix(".tif")
    for candidate in (key, key.rpartition("_")[0]):
        if candidate in REGIONS:
            position = Position(*REGIONS[candidate], f"region {candidate}")
            island = ISLAND_ZONES.get(candidate)
            return (zone_named(island) if island else zone_at(position.lon, position.lat)), position
    raise UnknownNameError("region", name, REGIONS)


def rounded(value: float) -> float:
    """Round to one significant digit, so that images of nearly one resolution share a prompt."""
    return round(value, -math.floor(math.log10(abs(value)))) if value else 0.0


def _region(region: str, file: Path | str | None) -> str:
    if region != FILE:
        return region
    if file is None:
        raise RecipeError("the region of a file's name without a file", "an image, or a region's name")
    return Path(file).name


def _named(
    zone: str,
    lonlat: tuple[float, float] | None,
    image: Path | str | Raster | None,
    day: str | None,
    gsd: float | None,
    elevation: float | None = None,
) -> Place:
    """Return the place of a zone that was named: of the coordinate, or else the image's own, the season alone is."""
    lat = lonlat[1] if lonlat else None
    if lat is None and day is not None and image is not None:
        with suppress(DataError):  # it does not say where it lies, or is not there: nor is the season known
            lat = position_of(image).lat
    setting = Setting(zone_named(zone).code, season(day, lat), gsd, elevation)
    return Place(setting, zone_named(zone), "named")


def _at(zone: Zone, position: Position, day: str | None, gsd: float | None, elevation: float | None) -> Place:
    setting = Setting(zone.code, season(day, position.lat), gsd, elevation)
    return Place(setting, zone, position.source, position.lon, position.lat)


MOST_TILES = 64
"""Tiles along the longer side of a raster whose zones are counted."""


@dataclass(frozen=True)
class Group:
    """Images that share a prompt, one place per image, and the setting that the prompt is written for."""

    setting: Setting
    places: tuple[Place, ...]

    @property
    def sources(self) -> dict[str, int]:
        """Images by what gave their zone, most first."""
        return dict(Counter(place.source for place in self.places).most_common())

    @property
    def seasons(self) -> dict[str, int]:
        """Images by season, most first; those without a date or in the tropics are left out."""
        return dict(Counter(s for place in self.places if (s := place.setting.season)).most_common())


def group_places(places: Iterable[Place], *, seasons: bool = True) -> list[Group]:
    """Bring places of one prompt together, one per image, most images first; seasons are told apart or not."""
    by_setting: dict[Setting, list[Place]] = {}
    for place in places:
        setting = place.setting
        key = replace(
            setting,
            season=setting.season if seasons else None,
            # As prompts tell them: images of nearly one resolution share theirs.
            gsd=None if setting.gsd is None else rounded(setting.gsd),
            elevation=None if setting.elevation is None else rounded(setting.elevation),
        )
        by_setting.setdefault(key, []).append(place)
    groups = [Group(setting, tuple(members)) for setting, members in by_setting.items()]
    return sorted(groups, key=lambda group: (-len(group.places), group.setting.zone or ""))


def manifest_places(manifest: Manifest, *, zone: str | None = None, region: str | None = None) -> list[Place]:
    """Find the setting of each image of a manifest, as training does: the resolution is the whole set's.

    Zone and region hold for all images, and what is refused is as in `find_place`.
    """
    return [row_place(row, zone=zone, region=region, gsd=manifest.gsd) for row in manifest.entries]


def zone_shares(grid: Grid, side: int = 512) -> dict[str, int]:
    """Count the tiles of a raster by climate zone, most first; larger ones beyond `MOST_TILES` along a side.

    Raises:
        DataError: The raster has no CRS and transform, or all of it lies in the open ocean.
    """
    side = max(side, -(-max(grid.height, grid.width) // MOST_TILES))
    windows = [w.intersection(grid.height, grid.width) for w in place_windows(grid.height, grid.width, side)]
    return dict(Counter(zone.code for zone in tile_zones(grid, windows)).most_common())
