"""Bands by number, by name, by colour and as sensors call them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from factories import make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.raster.bands import aliases, band_token, choose


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("LC08_L1TP_193025_20210612_20210622_02_T1_B4.TIF", "b4"),
        ("LC09_L2SP_193025_20220101_SR_B10.TIF", "b10"),
        ("T32UQD_20210612T101559_B04_10m.jp2", "b4"),
        ("T32UQD_20210612T101559_B8A.jp2", "b8a"),
        ("HLS.S30.T32UQD.2021163T101559.v2.0.B11.tif", "b11"),
        ("B02", "b2"),
        ("band 7", "b7"),
        ("Band_3", "b3"),
        ("nairobi_ABB12_scene", None),
        ("QA_PIXEL", None),
    ],
)
def test_the_number_in_a_name(text: str, token: str | None) -> None:
    assert band_token(text) == token


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("LC08_L1TP_193025_B5.TIF", "nir"),
        ("LE07_L1TP_193025_B4.TIF", "nir"),
        ("T32UQD_20210612T101559_B08.jp2", "nir"),
        ("S2A_32UQD_B8A.tif", "nir08"),
        ("HLS.L30.T32UQD.v2.0.B06.tif", "swir16"),
        ("HLS.S30.T32UQD.v2.0.B11.tif", "swir16"),
    ],
)
def test_sensors_call_the_same_light_by_other_numbers(name: str, common: str) -> None:
    assert common in aliases(name, None, None, alone=True)
    # Of a file with several bands, its name says nothing about one of them.
    assert aliases(name, None, None, alone=False) == set()


@pytest.mark.parametrize("description", ["Band 1", "Band 3", "Band 1 (quality)", "TOA reflectance, product 2 band 8"])
def test_an_only_band_goes_by_the_number_of_its_file(description: str) -> None:
    token = str(band_token(description))
    names = aliases("LC08_x_B4.TIF", description, None, alone=True)
    assert names >= {description.lower(), "b4", "red"}
    assert token not in names
    assert token in aliases("a.tif", description, None, alone=True)
    assert token in aliases("LC08_x_B4.TIF", description, None, alone=False)


def test_names_answer_in_any_case_and_with_or_without_zero() -> None:
    known = [(1, aliases("s.tif", "Red Edge", "undefined", False)), (3, aliases("s.tif", "B04", None, False))]
    assert choose(["RED EDGE", "b4"], known, "s.tif") == [1, 3]
    assert choose(["B04", "2", "1"], known, "s.tif") == [3, 3, 1]
    with pytest.raises(DataError, match="band '²'"):  # a digit, and no number
        choose(["²"], known, "s.tif")


def test_bands_that_are_not_there_or_not_one(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", channels=3, bands=["red", "green", "red"])
    with pytest.raises(DataError, match=r"a.tif: no band 'nir'; expected one of .*green"):
        Raster(path, ["nir"])
    with pytest.raises(DataError, match="2 bands named 'red'"):
        Raster(path, ["red"])
    with pytest.raises(DataError, match=r"band 4; expected 1 to 3"):
        Raster(path, ["4"])
    with pytest.raises(DataError, match=r"band 0; expected 1 to 3"):
        Raster(path, ["0"])


def test_a_description_counts_where_a_writers_default_colour_contradicts_it(tmp_path: Path) -> None:
    # Four 8-bit bands with the usual profile: GDAL calls them red, green, blue and alpha.
    path = make_raster(tmp_path / "a.tif", channels=4, bands=["blue", "green", "red", "nir"])
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with Raster(path) as whole, Raster(path, ["red", "green", "blue", "nir"]) as chosen:
        pixels = whole.read(Window(0, 0, 8, 8))[0]
        np.testing.assert_array_equal(chosen.read(Window(0, 0, 8, 8))[0], pixels[[2, 1, 0, 3]])


def test_colours_are_names_too(tmp_path: Path) -> None:
    pixels, path = noise((4, 8, 9)), tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=8, width=9, count=4, dtype="uint8", photometric="minisblack"
    ) as file:
        file.write(pixels)
        file.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    with Raster(path, ["red", "green", "blue"]) as raster:
        assert raster.channels == 3
        np.testing.assert_array_equal(raster.read()[0], pixels[[2, 1, 0]])
        np.testing.assert_array_equal(raster.read(bands=(2,))[0], pixels[[0]])
        with raster.reopen() as again:
            np.testing.assert_array_equal(again.read()[0], pixels[[2, 1, 0]])


def test_a_pixel_is_valid_where_one_of_the_chosen_bands_is(tmp_path: Path) -> None:
    pixels = noise((3, 12, 9))
    pixels[:2, 3] = 0
    path = make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0)
    with Raster(path) as raster:
        assert raster.read()[1].all()
    with Raster(path, ["1", "2"]) as raster:
        _, valid = raster.read()
    assert not valid[3].any()
    assert valid.sum() == 11 * 9


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_scale_and_offset_tags_are_applied(tmp_path: Path, dtype: str) -> None:
    pixels = noise((2, 12, 9), "uint16").astype(dtype)
    pixels[:, 4] = -9 if dtype != "uint16" else 9999
    path = make_raster(tmp_path / "a.tif", pixels=pixels, nodata=float(pixels[0, 4, 0]))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001, 0.0002), (-0.1, 0.0)
    with Raster(path) as raster:
        assert raster.dtype == np.float32
        read, valid = raster.read()
        second, _ = raster.read(bands=(1,))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[0][valid], pixels[0][valid] * 0.0001 - 0.1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second[0][valid], pixels[1][valid] * 0.0002, rtol=1e-4, atol=1e-6)
    assert valid.sum() == 11 * 9
    assert not valid[4].any()
