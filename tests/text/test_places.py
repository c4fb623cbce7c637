"""The setting of a scene and of a manifest's rows, from whatever says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rasterio.transform import from_origin

from factories import make_raster
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.raster import Raster, Window
from geodistill.text.places import find_place, group_places, manifest_places, row_place, zone_shares
from places import ZONES, place_files


def row(image: Path | str, lon: float | None = None, lat: float | None = None, **more: str | float) -> Row:
    return Row(Path(image), None, "train", Window(0, 0, 8, 8), lon=lon, lat=lat, **more)  # type: ignore[arg-type]


def test_every_way_a_file_can_say_where_it_lies(tmp_path: Path) -> None:
    for source, path in place_files(tmp_path).items():
        for found in (find_place(path), row_place(row(path))):
            assert (found.source, found.zone.code) == (source, ZONES[source])


def test_what_is_said_wins_over_what_the_file_says(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", date="2019:01:05 10:00:00")
    assert find_place(path).setting.gsd == pytest.approx(0.5, rel=0.01)
    assert find_place(path, region="potsdam").zone.code == "Cfb"
    assert find_place(path, region="potsdam").setting.season == "winter"
    assert find_place(path, lonlat=(55.2, 25.1)).source == "coordinate"
    assert find_place(path, lonlat=(55.2, 25.1), zone="ET").setting.zone == "ET"
    for given, zone, source in (
        ({}, "BWh", "manifest"),
        ({"lonlat": (32.6, 0.35)}, "Af", "coordinate"),
        ({"region": "potsdam", "lonlat": (32.6, 0.35)}, "Cfb", "region potsdam"),
        ({"zone": "dfb", "region": "potsdam"}, "Dfb", "named"),
    ):
        found = row_place(row(path, 55.2, 25.1), **given)  # type: ignore[arg-type]
        assert (found.zone.code, found.source) == (zone, source)


@pytest.mark.parametrize(("north", "season"), [(5_807_000.0, "summer"), (-5_807_000.0, "winter"), (0.0, None)])
def test_a_named_zone_leaves_the_season_to_where_the_image_lies(
    north: float, season: str | None, tmp_path: Path
) -> None:
    # Zone 33 of the northern half counts from the equator on: 52 degrees north, south, and none.
    place = {"crs": "EPSG:32633", "transform": from_origin(368_000, north, 0.5, 0.5)}
    path = make_raster(tmp_path / "a.tif", date="2024:07:01 10:00:00", **place)
    with Raster(path) as raster:
        for found in (
            find_place(path, zone="Dfb"),
            find_place(raster, zone="dfb"),
            row_place(day_of(path), zone="Dfb"),
        ):
            assert (found.setting.zone, found.setting.season, found.source) == ("Dfb", season, "named")
            assert found.lon is found.lat is None
    # A coordinate says it where there is one, and nothing does where no file lies.
    assert find_place(path, zone="Dfb", lonlat=(10.0, -52.0)).setting.season == "winter"
    assert row_place(replace(day_of(path), lon=10.0, lat=-52.0), zone="Dfb").setting.season == "winter"
    nowhere = make_raster(tmp_path / "n.tif", crs=None, date="2024:07:01 10:00:00")
    assert find_place(nowhere, zone="Dfb").setting.season is None
    assert row_place(day_of(tmp_path / "gone.tif"), zone="Dfb").setting.season is None


def day_of(path: Path) -> Row:
    return row(path, date="2024-07-01")


def test_a_file_named_by_its_region(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "aachen_11.tif")
    for found in (
        find_place(tmp_path / "aachen_11.tif", region="file"),
        row_place(row(tmp_path / "aachen_11.tif"), region="file"),
    ):
        assert (found.zone.code, found.source) == ("Cfb", "region aachen")
    with Raster(tmp_path / "aachen_11.tif") as raster:
        assert find_place(raster, region="file").zone.code == "Cfb"
    with pytest.raises(UnknownNameError, match="region"):
        row_place(row("nowhere_1.tif"), region="file")
    with pytest.raises(RecipeError, match="without a file"):
        find_place(region="file")
    with pytest.raises(RecipeError, match="no scene"):
        find_place()


@pytest.mark.parametrize(
    ("lon", "lat", "words"),
    [(-30.0, 0.0, "open ocean"), (0.3, 132.0, "swapped"), (200.0, 10.0, "-180 to 180")],
)
def test_a_row_from_no_place_on_land_is_named(lon: float, lat: float, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        row_place(row("lost.tif", lon, lat))
    assert "lost.tif" in str(caught.value)


def test_a_file_in_the_ocean_is_named(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "sea.tif", crs="EPSG:4326", transform=from_origin(-30.0, 0.0, 1e-5, 1e-5))
    with pytest.raises(DataError, match=r"sea\.tif: no land .* -29.*open ocean"):
        find_place(path)


def test_images_from_nowhere_name_the_three_ways(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png does not say where it lies.*--lonlat .*--zone .*--region"):
        row_place(row(tmp_path / "x.png"))


def test_a_file_whose_day_is_zeros_has_none(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", date="0000:00:00 00:00:00")
    with Raster(path) as raster:
        assert raster.acquired is None
    assert find_place(path, region="potsdam").setting.season is None


def test_a_manifest_is_grouped_as_training_tells_prompts_apart() -> None:
    rows = (
        row("a.tif", 13.06, 52.4, date="2019-01-05", gsd=0.1),
        row("b.tif", 13.06, 52.4, date="2019-07-05", gsd=0.1),
        row("c.tif", 13.06, 52.4, date="2019-07-06", gsd=0.5),
        row("d.tif", 55.2, 25.1, gsd=0.1),
    )
    manifest = Manifest(rows, ("r", "g", "b"))
    places = manifest_places(manifest)
    assert {place.setting.gsd for place in places} == {manifest.gsd} == {0.1}
    groups = group_places(places, seasons=False)
    assert [(g.setting.zone, g.setting.season, len(g.places)) for g in groups] == [("Cfb", None, 3), ("BWh", None, 1)]
    assert groups[0].seasons == {"summer": 2, "winter": 1}
    assert groups[0].sources == {"manifest": 3}
    told = [(g.setting.zone, g.setting.season, len(g.places)) for g in group_places(places)]
    assert told == [("Cfb", "summer", 2), ("BWh", None, 1), ("Cfb", "winter", 1)]
    assert [g.setting.zone for g in group_places(manifest_places(manifest, zone="dfb"), seasons=False)] == ["Dfb"]


def test_scenes_of_nearly_one_resolution_share_a_prompt() -> None:
    places = [find_place(zone="Cfb", gsd=gsd) for gsd in (0.0998, 0.0999, 0.31)]
    assert [(g.setting.gsd, len(g.places)) for g in group_places(places)] == [(0.1, 2), (0.3, 1)]


def test_the_tiles_of_a_raster_are_counted_by_zone(tmp_path: Path) -> None:
    from rasterio.crs import CRS

    from geodistill.raster import Grid

    down_the_nile = Grid(160, 64, CRS.from_epsg(4326), from_origin(32.5, 17.0, 0.002, 10 / 160))
    shares = zone_shares(down_the_nile, 32)
    assert sum(shares.values()) == 10
    assert len(shares) > 1
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    # A raster of any size is asked at no more than 64 x 64 places.
    large = Grid(100_000, 50_000, CRS.from_epsg(32636), from_origin(450_000, 40_000, 0.1, 0.1))
    assert zone_shares(large) == {"Af": 64 * 32}
