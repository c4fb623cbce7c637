"""Neighbouring rasters as one: the first on top, gaps without data, and what does not fit is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import from_origin

from factories import make_raster, noise, tagged_as_alpha
from geodistill.errors import DataError
from geodistill.raster import Raster
from geodistill.raster.source import Neighbours


def at(col: float, row: float, size: float = 0.5) -> Any:
    return from_origin(500_000 + col * 0.5, 40_000 - row * 0.5, size, size)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["plain", "nodata", "alpha", "mask_band"])
def test_the_first_lies_on_top_and_gaps_have_no_data(kind: str, channels: int, tmp_path: Path) -> None:
    one, two = noise((channels, 30, 40), seed=1) | 1, noise((channels, 50, 30), seed=2) | 1
    shown = np.ones((30, 40), bool)
    more: list[dict[str, Any]] = [{}, {}]
    if kind != "plain":
        shown[5:20, 20:38] = False
        if kind == "nodata":
            one[:, ~shown] = 0
            more = [{"nodata": 0}] * 2
        else:
            more = [{kind: shown}, {kind: np.ones((50, 30), bool)}]
    a = make_raster(tmp_path / "part_a.tif", pixels=one, transform=at(10, 4), **more[0])
    b = make_raster(tmp_path / "part_b.tif", pixels=two, transform=at(35, 0), **more[1])
    expected, valid = np.zeros((channels, 50, 55), np.uint8), np.zeros((50, 55), bool)
    expected[:, :, 25:], valid[:, 25:] = two, True
    expected[:, 4:34, :40][:, shown], valid[4:34, :40] = one[:, shown], shown | valid[4:34, :40]
    with Raster(Neighbours((str(a), str(b)))) as raster:
        pixels, has_data = raster.read()
        np.testing.assert_array_equal(has_data, valid)
        np.testing.assert_array_equal(pixels * valid, expected * valid)
        assert raster.grid.transform == at(10, 0)
        assert set(raster.files) == {str(a), str(b)}
        with raster.reopen() as again:
            np.testing.assert_array_equal(again.read()[0], pixels)


def test_near_infrared_that_gdal_tagged_as_alpha_stays_a_band(tmp_path: Path) -> None:
    one, two = noise((4, 30, 40), seed=1), noise((4, 30, 40), seed=2)
    one[3, :5], two[3] = 0, 0  # water
    parts = [tagged_as_alpha(tmp_path / "a.tif", one, at(0, 0)), tagged_as_alpha(tmp_path / "b.tif", two, at(30, 0))]
    with Raster(Neighbours(map(str, parts))) as raster:
        pixels, valid = raster.read()
        assert set(raster.files) == set(map(str, parts))
    np.testing.assert_array_equal(pixels, np.concatenate([one, two[:, :, 10:]], 2))
    assert valid.all()


def test_a_palette_is_read_in_its_colours(tmp_path: Path) -> None:
    values, palette = noise((1, 30, 40)) % 3, [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    halves = [(values[:, :, :25], at(0, 0)), (values[:, :, 25:], at(25, 0))]
    parts = [
        make_raster(tmp_path / f"{i}.tif", pixels=half, transform=place, palette=palette)
        for i, (half, place) in enumerate(halves)
    ]
    with Raster(Neighbours(map(str, parts))) as raster:
        pixels, valid = raster.read()
    np.testing.assert_array_equal(pixels, np.array(palette)[values[0]].transpose(2, 0, 1))
    assert valid.all()
    other = make_raster(tmp_path / "2.tif", pixels=halves[1][0], transform=at(25, 0), palette=palette[::-1])
    with pytest.raises(DataError, match="another palette"):
        Raster(Neighbours([str(parts[0]), str(other)]))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"crs": "EPSG:32635"}, "gdalwarp"),
        ({"transform": at(40.3, 0)}, "off the grid"),
        ({"transform": at(40, 0, size=0.25)}, "off the grid"),
        ({"channels": 4}, "with count"),
        ({"dtype": "uint16"}, "with dtypes"),
        ({"nodata": 3}, "with nodatavals"),
    ],
)
def test_what_does_not_fit_is_named(other: dict[str, Any], says: str, tmp_path: Path) -> None:
    parts = [make_raster(tmp_path / "a.tif"), make_raster(tmp_path / "b.tif", **{"transform": at(50, 0)} | other)]
    with pytest.raises(DataError, match=says):
        Raster(Neighbours(map(str, parts)))
