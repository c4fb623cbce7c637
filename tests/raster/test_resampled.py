"""Another ground sampling distance: means, not samples; the same pixels however they are read."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import Affine

from factories import make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.raster.resampled import ResampledRaster


@given(st.floats(0.15, 3.0), st.integers(0, 40), st.integers(0, 40), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_window_is_a_cut_of_the_whole(
    tmp_path: Path, gsd: float, row: int, col: int, height: int, width: int
) -> None:
    path = tmp_path / "a.tif"
    if not path.exists():
        pixels = noise((2, 70, 50), "uint16")
        pixels[:, 20:30, 10:30] = 0
        make_raster(path, pixels=pixels, nodata=0, tiled=True)
    with Raster(path) as raster, ResampledRaster(raster, gsd) as other:
        whole, seen = other.read()
        part = Window(row, col, height, width).intersection(*seen.shape)
        pixels, valid = other.read(part)
    np.testing.assert_array_equal(pixels, whole[(..., *part.slices)])
    np.testing.assert_array_equal(valid, seen[part.slices])


@pytest.mark.parametrize("gsd", [0.25, 0.7, 1.0, 2.5])
def test_constants_stay_and_corners_stay(tmp_path: Path, gsd: float) -> None:
    path = make_raster(tmp_path / "a.tif", pixels=np.full((3, 90, 70), 77, np.uint8))
    with Raster(path) as raster, ResampledRaster(raster, gsd) as other:
        pixels, valid = other.read()
        assert other.dtype == pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, 77, rtol=1e-5)
        np.testing.assert_allclose(other.grid.bounds, raster.grid.bounds)
        assert other.grid.gsd == pytest.approx(gsd, rel=0.02)
        assert pixels.shape[1:] == (other.grid.height, other.grid.width) == (round(45 / gsd), round(35 / gsd))
    assert valid.all()


def test_larger_pixels_are_means_of_what_is_valid(tmp_path: Path) -> None:
    pixels = noise((1, 80, 80), "float32")
    pixels[:, :, :40] = np.nan
    with Raster(make_raster(tmp_path / "a.tif", pixels=pixels)) as raster, ResampledRaster(raster, 4.0) as other:
        made, valid = other.read()
    assert not valid[:, :4].any()
    assert valid[:, 6:].all()
    # White noise of 8 x 8 pixels under a triangle averages out, and its mean stays.
    assert made[0][valid].std() < 0.25 * pixels[0, :, 40:].std()
    assert made[0][valid].mean() == pytest.approx(pixels[0, :, 40:].mean(), abs=0.03)


def test_finer_pixels_lie_between_their_neighbours(tmp_path: Path) -> None:
    ramp = np.arange(60, dtype=np.float32)[None, None].repeat(20, 1)
    with Raster(make_raster(tmp_path / "a.tif", pixels=ramp)) as raster, ResampledRaster(raster, 0.125) as other:
        made, _ = other.read()
    np.testing.assert_allclose(np.diff(made[0, 40, 4:-4]), 0.25, atol=1e-4)


def test_overviews_are_read_where_they_are_fine_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_raster(tmp_path / "a.tif", pixels=np.full((1, 256, 256), 9, np.uint8), tiled=True)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    with Raster(path) as raster:
        assert raster.overviews == [2, 4, 8]
        with ResampledRaster(raster, 2.5) as other:  # five times the 0.5 m of the file
            assert other._file.width == 64
            np.testing.assert_allclose(other.read()[0], 9, rtol=1e-5)
            with other.reopen() as again:
                assert again.grid == other.grid


def test_turned_and_south_up_rasters_stay_so(tmp_path: Path) -> None:
    turned = Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(0.5, -0.5)
    for name, transform in {"turned": turned, "south_up": Affine(0.5, 0, 5e5, 0, 0.5, 4e6)}.items():
        path = make_raster(tmp_path / f"{name}.tif", height=40, width=60, transform=transform)
        with Raster(path) as raster, ResampledRaster(raster, 1.0) as other:
            assert (other.grid.height, other.grid.width) == (20, 30)
            for corner in ((0, 0), (30, 0), (0, 20), (30, 20)):
                there = transform @ (2 * corner[0], 2 * corner[1])
                assert other.grid.transform @ corner == pytest.approx(there, rel=1e-9)


def test_a_raster_that_lies_nowhere_is_refused(tmp_path: Path) -> None:
    with Raster(make_raster(tmp_path / "a.tif", crs=None)) as raster, pytest.raises(DataError, match="no ground"):
        ResampledRaster(raster, 1.0)
