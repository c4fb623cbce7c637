from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geodistill.errors import DataError, UnknownNameError
from geodistill.raster import Grid, Window
from geodistill.text.climate import (
    REACH_KM,
    ZONES,
    position_of,
    season,
    tile_zones,
    zone_at,
    zone_named,
)
from geodistill.text.places import REGIONS, region_zone

# Published classes of well-known places (Peel et al. 2007 and later maps agree on these).
PUBLISHED = {
    "Cairo": (31.24, 30.04, "BWh"),
    "Singapore": (103.82, 1.35, "Af"),
    "London": (-0.13, 51.51, "Cfb"),
    "Moscow": (37.62, 55.75, "Dfb"),
    "Athens": (23.73, 37.98, "Csa"),
    "Hanoi": (105.85, 21.03, "Cwa"),
    "Oymyakon": (142.8, 63.46, "Dfd"),
    "Vostok": (106.8, -78.5, "EF"),
    "Darwin": (130.9, -12.5, "Aw"),
    "Dubai": (55.2, 25.1, "BWh"),
}


@pytest.mark.parametrize("place", PUBLISHED)
def test_zone_agrees_with_what_is_published(place: str) -> None:
    lon, lat, code = PUBLISHED[place]
    zone = zone_at(lon, lat)
    assert (zone.code, zone.name, zone.distance) == (code, ZONES[code], 0)


@settings(deadline=None, max_examples=60)
@given(st.floats(-180, 180), st.floats(-90, 90))
def test_every_coordinate_has_one_of_the_30_zones_or_is_refused(lon: float, lat: float) -> None:
    try:
        zone = zone_at(lon, lat)
    except DataError as error:
        told = str(error)
    else:
        told = "open ocean" if zone.code in ZONES and 0 <= zone.distance <= REACH_KM else str(zone)
    assert "open ocean" in told


def test_a_coastal_coordinate_takes_the_nearest_land() -> None:
    zone = zone_at(-0.2, 5.3)  # the sea 20 to 30 km off Accra
    assert zone.code == zone_at(-0.2, 5.6).code
    assert 5 < zone.distance < REACH_KM


def test_the_date_line_has_no_gap() -> None:
    assert zone_at(180.0, 67.5).code == zone_at(-180.0, 67.5).code


@pytest.mark.parametrize(
    ("lon", "lat", "words"),
    [
        (0.3, 132.0, "swapped"),
        (200.0, 10.0, "-180 to 180"),
        (float("nan"), 10.0, "-180 to 180"),
        (10.0, float("inf"), "-180 to 180"),
        (-30.0, 0.0, "open ocean"),
    ],
)
def test_what_is_no_place_on_land_is_refused(lon: float, lat: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        zone_at(lon, lat)


@pytest.mark.parametrize(("lon", "lat"), [(-158.0, 21.4), (57.5, -20.2), (14.4, 35.9), (144.8, 13.5)])
def test_islands_that_the_map_leaves_out_are_not_called_sea(lon: float, lat: float) -> None:
    """Oahu, Mauritius, Malta and Guam."""
    with pytest.raises(DataError, match=r"no land of the climate map .* an island too small .*--zone") as caught:
        zone_at(lon, lat)
    for claim in ("lies in", "order", "swapped"):
        assert claim not in str(caught.value)


def test_zone_names_take_any_case_and_unknown_ones_list_the_near() -> None:
    assert zone_named("cfB").code == "Cfb"
    with pytest.raises(UnknownNameError, match="Cfb"):
        zone_named("Cfx")


def test_every_region_of_the_table_has_a_zone() -> None:
    assert {region_zone(name)[0].code for name in REGIONS} <= set(ZONES)
    assert region_zone("aachen_11.tif")[0].code == "Cfb"
    assert region_zone("kujawsko-pomorskie_9.tif")[1].source == "region kujawsko-pomorskie"
    with pytest.raises(UnknownNameError, match="aachen"):
        region_zone("aachn")


def test_tiles_of_a_large_raster_take_their_own_zone() -> None:
    # Five degrees from the Nile's mouth south: Mediterranean steppe coast to hot desert.
    grid = Grid(5000, 100, CRS.from_epsg(4326), from_origin(29.9, 31.2, 0.001, 0.001))
    codes = [zone.code for zone in tile_zones(grid, [Window(0, 0, 100, 100), Window(4900, 0, 100, 100)])]
    assert codes[1] == "BWh"
    assert codes[0] == zone_at(29.95, 31.15).code
    with pytest.raises(DataError, match="without CRS"):
        tile_zones(Grid(10, 10), [Window(0, 0, 1, 1)])


def test_tiles_beyond_180_degrees_are_those_of_their_place() -> None:
    windows = [Window(0, 0, 100, 100), Window(0, 9900, 100, 100)]
    # A fifth of the globe by 0 to 360: from Chukotka across the antimeridian to Alaska.
    grid = Grid(100, 10000, CRS.from_epsg(4326), from_origin(175.0, 67.0, 0.0025, 0.001))
    ends = [zone_at(175.125, 66.95), zone_at(199.875 - 360, 66.95)]
    assert tile_zones(grid, windows) == ends
    assert tile_zones(Grid(100, 10000, grid.crs, from_origin(175.0 - 360, 67.0, 0.0025, 0.001)), windows) == ends
    with pytest.raises(DataError, match="longitude 600"):
        tile_zones(Grid(9, 9, grid.crs, from_origin(600, 50, 1e-4, 1e-4)), [Window(0, 0, 9, 9)])


def test_tiles_in_the_open_ocean_take_the_zone_of_the_nearest_ashore() -> None:
    # West of Lisbon: from the town two degrees out to sea.
    grid = Grid(100, 2100, CRS.from_epsg(4326), from_origin(-11.1, 38.8, 0.001, 0.001))
    windows = [Window(0, col, 100, 100) for col in range(0, 2100, 100)]
    assert {zone.code for zone in tile_zones(grid, windows)} <= {"Csa", "Csb"}
    assert len(tile_zones(grid, windows)) == 21
    with pytest.raises(DataError, match="open ocean"):
        zone_at(-11.05, 38.75)
    with pytest.raises(DataError, match=r"sea\.tif: no land .* -11.*open ocean"):
        tile_zones(grid, windows[:3], "sea.tif")


def test_position_from_a_crs_from_exif_and_from_nothing(tmp_path: Path) -> None:
    import rasterio

    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype="uint8", crs="EPSG:32636",
        transform=from_origin(450000, 40000, 10, 10),
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 10, 10), np.uint8))
    found = position_of(tmp_path / "a.tif")
    assert (round(found.lon, 2), round(found.lat, 2), found.source) == (32.55, 0.36, "CRS and transform")

    exif = Image.Exif()
    exif[0x8825] = {1: "S", 2: (6.0, 6.0, 0.0), 3: "E", 4: (39.0, 12.0, 36.0)}
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", exif=exif)
    found = position_of(tmp_path / "b.jpg")
    assert (round(found.lon, 3), round(found.lat, 3), found.source) == (39.21, -6.1, "EXIF position")

    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"--lonlat LON LAT, --zone CODE or --region NAME"):
        position_of(tmp_path / "c.png")


def test_position_from_control_points_and_rpcs(tmp_path: Path) -> None:
    import rasterio
    from rasterio.control import GroundControlPoint
    from rasterio.rpc import RPC

    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 10), (10, 0), (10, 10))]
    plain = {"driver": "GTiff", "height": 10, "width": 10, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "g.tif", "w", **plain, gcps=points, crs="EPSG:4326") as file:
        file.write(np.zeros((1, 10, 10), np.uint8))
    found = position_of(tmp_path / "g.tif")
    assert (round(found.lon, 2), round(found.lat, 2), found.source) == (10.05, 49.95, "control points")

    one = [1.0] + [0.0] * 19
    rpcs = RPC(0, 1, 48.5, 1, one, one, 5, 5, 9.5, 1, one, one, 5, 5)
    with rasterio.open(tmp_path / "r.tif", "w", **plain, rpcs=rpcs) as file:
        file.write(np.zeros((1, 10, 10), np.uint8))
    found = position_of(tmp_path / "r.tif")
    assert (found.lon, found.lat, found.source) == (9.5, 48.5, "RPC centre")


@pytest.mark.parametrize(
    ("day", "lat", "name"),
    [
        ("2018-07-01", 52.0, "summer"),
        ("2018-07-01", -34.0, "winter"),
        ("2018-12-31", 52.0, "winter"),
        ("2018-03-01", 52.0, "spring"),
        ("2018-03-01", -34.0, "autumn"),
        ("2018-07-01", -6.0, None),
        (None, 52.0, None),
    ],
)
def test_season_by_hemisphere(day: str | None, lat: float, name: str | None) -> None:
    assert season(day, lat) == name


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="2018-13-01"):
        season("2018-13-01", 50.0)
