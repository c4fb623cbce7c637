"""Band files of one scene read as one raster."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin

from factories import make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.raster.source import Neighbours, shared_name


@pytest.fixture
def landsat(tmp_path: Path) -> list[Path]:
    """Three bands of a scene, ``uint16``, each with nodata of its own."""
    paths = []
    for number, nodata in ((2, 0), (3, 7), (4, 0)):
        pixels = noise((1, 60, 50), "uint16", seed=number)
        pixels[:, :5] = nodata
        path = tmp_path / f"LC08_L1TP_193025_B{number}.TIF"
        paths.append(make_raster(path, pixels=pixels, nodata=nodata, tiled=True))
    return paths


def test_files_become_bands_in_their_order(landsat: list[Path]) -> None:
    with Raster(landsat) as raster, Raster(landsat[1]) as second:
        pixels, valid = raster.read()
        assert raster.channels == 3
        assert raster.grid == second.grid
        assert raster.dtype == np.uint16
        assert raster.name == "LC08_L1TP_193025"
        np.testing.assert_array_equal(pixels[1], second.read()[0][0])
    assert not valid[:5].any()
    assert valid[5:].all()


def test_bands_answer_to_their_common_names(landsat: list[Path]) -> None:
    with Raster(landsat) as plain, Raster(landsat, ["red", "B3", "blue"]) as raster:
        np.testing.assert_array_equal(raster.read()[0], plain.read()[0][::-1])


def test_bands_answer_to_their_descriptions_and_to_the_names_of_their_files(tmp_path: Path) -> None:
    names = ("blue", "nir", "red")  # as a shell lists them
    paths = [make_raster(tmp_path / f"T32_b_{n}.tif", channels=1, bands=[n], seed=i) for i, n in enumerate(names)]
    with Raster(paths) as plain, Raster(paths, ["Red", "T32_b_blue.tif", "nir"]) as raster:
        np.testing.assert_array_equal(raster.read()[0], plain.read()[0][[2, 0, 1]])
        assert plain.band_names == tuple(path.name for path in paths)
    tokens = [
        make_raster(tmp_path / f"LC08_x_B{n}.TIF", channels=1, bands=[said], seed=n)
        for n, said in ((4, "Band 1"), (5, "Band 4"), (6, "infrared & more"))
    ]
    with Raster(tokens) as plain, Raster(tokens, ["infrared & more", "b5", "red"]) as raster:
        np.testing.assert_array_equal(raster.read()[0], plain.read()[0][::-1])


def test_descriptions_in_another_encoding_count_for_none(tmp_path: Path) -> None:
    paths = [make_raster(tmp_path / f"{name}.tif", channels=1, bands=["Grxn"]) for name in "ab"]
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"Grxn", b"Gr\xfcn"))
    for source in (paths, Neighbours(map(str, paths))):
        with Raster(source) as raster:
            assert not any("Gr" in name for name in raster.band_names)


def test_coarser_bands_come_onto_the_finest_grid(tmp_path: Path) -> None:
    fine = make_raster(tmp_path / "T32_B04_10m.tif", pixels=noise((1, 60, 80), "uint16"))
    ramp = np.linspace(100, 200, 40).round().astype(np.uint16)[None, None].repeat(30, 1)
    coarse = make_raster(
        tmp_path / "T32_B11_20m.tif", pixels=ramp, transform=from_origin(500_000, 40_000, 1.0, 1.0), nodata=0
    )
    with Raster([fine, coarse]) as raster, Raster(fine) as own:
        assert raster.grid == own.grid
        pixels, valid = raster.read()
        np.testing.assert_array_equal(pixels[0], own.read()[0][0])
        assert valid.all()
        # Bilinear: a ramp stays a ramp, at half the step.
        steps = np.diff(pixels[1, 30, 2:-2].astype(int))
        assert set(np.unique(steps)) <= {0, 1, 2}
        assert abs(pixels[1, 30, 40] - 150) <= 2
        for cuts in ([0, 7, 30, 31, 60], [0, 16, 60]):
            parts = [raster.read(Window(a, 0, b - a, 80))[0] for a, b in pairwise(cuts)]
            np.testing.assert_array_equal(np.concatenate(parts, 1), pixels)


@pytest.mark.parametrize("kind", ["internal", "beside", "alpha"])
def test_masks_of_band_files_count(kind: str, tmp_path: Path) -> None:
    shown = np.ones((40, 50), bool)
    shown[:, :25] = False
    paths, coarse = [], shown[::2, ::2]
    for number, visible in ((2, shown), (3, shown), (4, coarse)):
        mask = {"alpha" if kind == "alpha" else "mask_band": visible}
        pixels = np.where(visible, noise((1, *visible.shape), seed=number), 0).astype(np.uint8)
        transform = from_origin(500_000, 40_000, 20 / visible.shape[0], 20 / visible.shape[0])
        paths.append(make_raster(tmp_path / f"x_B{number}.tif", pixels=pixels, transform=transform, **mask))
        if kind == "beside":
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
                copy(paths[-1], tmp_path / f"y_B{number}.tif", driver="GTiff")
            paths[-1] = tmp_path / f"y_B{number}.tif"
            assert Path(f"{paths[-1]}.msk").exists()
    with Raster(paths) as raster, Raster(paths[0]) as first:
        pixels, valid = raster.read()
        np.testing.assert_array_equal(valid, shown)
        np.testing.assert_array_equal(pixels[0], first.read()[0][0])
        assert pixels[2, :, 25:].all()  # nothing of what is hidden is mixed in


def test_a_pixel_has_data_where_one_band_file_shows_it(tmp_path: Path) -> None:
    shown = np.zeros((2, 40, 50), bool)
    shown[0, :10], shown[1, 5:20] = True, True
    paths = [make_raster(tmp_path / f"x_B{i}.tif", channels=1, mask_band=mask) for i, mask in enumerate(shown, 1)]
    with Raster(paths) as raster:
        np.testing.assert_array_equal(raster.read()[1], shown.any(0))
    with Raster([*paths, make_raster(tmp_path / "x_B3.tif", channels=1)]) as raster:
        assert raster.read()[1].all()


def test_scale_and_offset_stay_with_their_band(tmp_path: Path) -> None:
    paths = [make_raster(tmp_path / f"x_B{i}.tif", pixels=noise((1, 9, 9), "uint16", i)) for i in (1, 2)]
    with rasterio.open(paths[1], "r+") as file:
        file.scales, file.offsets = (0.5,), (-3.0,)
    with Raster(paths) as raster, Raster(paths[0]) as first, rasterio.open(paths[1]) as second:
        pixels, _ = raster.read()
        np.testing.assert_array_equal(pixels[0], first.read()[0][0])
        np.testing.assert_allclose(pixels[1], second.read(1) * 0.5 - 3)


def test_files_of_different_places_are_refused(landsat: list[Path], tmp_path: Path) -> None:
    moved = make_raster(
        tmp_path / "other_B5.tif", pixels=noise((1, 60, 50)), transform=from_origin(500_900, 40_000, 0.5, 0.5)
    )
    with pytest.raises(DataError, match=r"other_B5.tif covers another place"):
        Raster([*landsat, moved])
    other = make_raster(tmp_path / "degrees_B5.tif", pixels=noise((1, 60, 50)), crs="EPSG:4326")
    with pytest.raises(DataError, match=r"degrees_B5.tif in WGS 84; expected WGS 84 / UTM zone 36N"):
        Raster([*landsat, other])
    zones = [
        make_raster(tmp_path / f"zone_B{i}.tif", channels=1, crs=f"+proj=tmerc +lon_0={i} +ellps=bessel")
        for i in (3, 6)
    ]
    for source in (zones, Neighbours(map(str, zones))):
        with pytest.raises(DataError, match=r"zone_B6.tif in unknown \(.*\+lon_0=6 .* expected unknown \(.*\+lon_0=3 "):
            Raster(source)
    with pytest.raises(DataError, match="no file"):
        Raster([*landsat, tmp_path / "gone_B5.tif"])


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["LC08_x_B2", "LC08_x_B3"], "LC08_x"),
        (["T32_B02_10m", "T32_B03_10m"], "T32"),
        (["red", "green"], "red"),
        (["a_SR_B1", "a_SR_B2"], "a"),
    ],
)
def test_what_a_scene_of_files_is_called(names: list[str], shared: str) -> None:
    assert shared_name(names) == shared
