"""Climate zones of real places, against what is published for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodistill.raster import Raster
from geodistill.text.places import find_place, region_zone, zone_shares

PLACES = {
    # Folder and files, centre (to a tenth of a degree), zone: the published maps' for the place.
    "Kampala, Uganda": ("hot_kampala", "scene/*_block0.tif", (32.6, 0.4), "Af"),
    "Kampala, training chips": ("hot_kampala", "chips_tif/*/images/*.tif", (32.6, 0.3), "Af"),
    "Zanzibar, Tanzania": ("hot_zanzibar", "scene/*_block[01].tif", (39.2, -6.1), "Am"),
    "Harvard Forest, Massachusetts": ("neon_trees", "images/HARV_*.tif", (-72.2, 42.5), "Dfb"),
    "Ordway-Swisher, Florida": ("neon_trees", "images/OSBS_*.tif", (-82.0, 29.7), "Cfa"),
    "San Joaquin Range, California": ("neon_trees", "images/SJER_*.tif", (-119.7, 37.1), "Csa"),
    "North Dakota": ("naip_landsat", "naip/*.tif", (-99.2, 47.0), "Dfb"),
    "Swabia, Germany": ("oam_scenes", "images/*.tif", (9.1, 48.5), "Cfb"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_each_tile_of_a_real_place_lies_in_the_published_zone(name: str, shared: Path) -> None:
    folder, pattern, centre, zone = PLACES[name]
    files = sorted((shared / "data" / folder).glob(pattern))
    if not files:
        pytest.skip(f"no {folder}/{pattern}")
    tiles: dict[str, int] = {}
    for path in files:
        place = find_place(path)
        assert (place.source, place.zone.distance) == ("CRS and transform", 0.0)
        assert (place.lon, place.lat) == (pytest.approx(centre[0], abs=0.15), pytest.approx(centre[1], abs=0.15))
        with Raster(path) as raster:
            for code, count in zone_shares(raster.grid, 256).items():
                tiles[code] = tiles.get(code, 0) + count
    print(f"{name}: {place.lon:.3f}, {place.lat:.3f}: {tiles} in {len(files)} files")
    assert list(tiles) == [zone]


def test_places_without_georeferencing_take_their_zone_by_name() -> None:
    for region, zone in (("dubai", "BWh"), ("potsdam", "Cfb"), ("nanjing", "Cfa"), ("wuhan", "Cfa")):
        assert region_zone(region)[0].code == zone
