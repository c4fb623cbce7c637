from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.shutil import copy
from rasterio.transform import Affine, from_origin

from factories import CRSS, DTYPES, make_picture, make_raster, noise, tagged_as_alpha, truncate
from geodistill.errors import DataError
from geodistill.raster import Grid, Raster, Window
from geodistill.raster import raster as raster_module
from geodistill.raster.raster import open_image
from geodistill.raster.source import open_source

windows = st.builds(Window, st.integers(-60, 60), st.integers(-60, 60), st.integers(0, 80), st.integers(0, 80))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = noise((2, 45, 37), "uint16")
    pixels[:, 10:20, 5:9] = 0
    return make_raster(tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels, nodata=0, tiled=True)


class TestWindow:
    @given(windows, st.integers(1, 70), st.integers(1, 70))
    @settings(deadline=None, max_examples=60)
    def test_intersection_holds_exactly_the_pixels_inside(self, window: Window, height: int, width: int) -> None:
        inside = window.intersection(height, width)
        rows = [r for r in range(window.row, window.row + window.height) if 0 <= r < height]
        cols = [c for c in range(window.col, window.col + window.width) if 0 <= c < width]
        assert (inside.height, inside.width) == (len(rows), len(cols))
        if rows and cols:
            assert (inside.row, inside.col) == (rows[0], cols[0])

    def test_slices_cut_the_same_pixels_as_rasterio_reads(self, scene: Path) -> None:
        window = Window(3, 7, 11, 13)
        with rasterio.open(scene) as file:
            assert np.array_equal(file.read()[(..., *window.slices)], file.read(window=window.to_rasterio()))


class TestReads:
    @given(windows)
    @settings(deadline=None, max_examples=60)
    def test_any_window_equals_the_cut_of_the_padded_whole(self, scene: Path, window: Window) -> None:
        with Raster(scene) as raster:
            whole, whole_valid = raster.read()
            pixels, valid = raster.read(window)
        around = ((60, 200), (60, 200))
        moved = Window(window.row + 60, window.col + 60, window.height, window.width).slices
        assert np.array_equal(pixels, np.pad(whole, ((0, 0), *around))[(..., *moved)])
        assert np.array_equal(valid, np.pad(whole_valid, around)[moved])

    @pytest.mark.parametrize("channels", [1, 3, 4, 13])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_keeps_type_and_samples(self, tmp_path: Path, channels: int, dtype: str) -> None:
        pixels = noise((channels, 12, 9), dtype)
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels)) as raster:
            read, valid = raster.read()
            assert raster.channels == channels
            assert raster.dtype == read.dtype == dtype
        assert np.array_equal(read, pixels)
        assert valid.all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nodata_in_every_band_is_not_valid(self, tmp_path: Path, dtype: str) -> None:
        pixels = noise((3, 12, 9), dtype)
        pixels[:, 2:5] = 0
        pixels[0, 7] = 0  # one band alone may hold the nodata value
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0)) as raster:
            _, valid = raster.read()
            assert raster.nodata == 0
        assert not valid[2:5].any()
        assert valid[:2].all()
        assert valid[5:].all()

    def test_not_a_number_is_not_valid_and_reads_as_zero(self, tmp_path: Path) -> None:
        pixels = noise((2, 6, 6), "float32")
        pixels[1, 0, 0], pixels[0, 1, 1] = np.nan, np.inf
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels)) as raster:
            read, valid = raster.read()
        assert np.isfinite(read).all()
        assert sorted(map(tuple, np.argwhere(~valid))) == [(0, 0), (1, 1)]

    def test_nodata_that_is_not_a_number(self, tmp_path: Path) -> None:
        pixels = noise((2, 6, 6), "float32")
        pixels[:, 3] = np.nan
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=float("nan"))) as raster:
            _, valid = raster.read()
        assert not valid[3].any()
        assert valid[:3].all()

    def test_alpha_is_validity_and_no_band(self, tmp_path: Path) -> None:
        shown = np.ones((40, 50), bool)
        shown[:, :10] = False
        with Raster(make_raster(tmp_path / "a.tif", alpha=shown)) as raster:
            pixels, valid = raster.read()
            assert raster.channels == 3
            assert raster.band_names == ("band1", "band2", "band3")
        assert pixels.shape[0] == 3
        assert np.array_equal(valid, shown)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize(("channels", "nodata"), [(1, None), (2, None), (3, 0), (4, None), (6, None)])
    def test_alpha_counts_where_gdal_makes_no_mask_of_it(
        self, channels: int, nodata: float | None, dtype: str, tmp_path: Path
    ) -> None:
        shown = np.ones((40, 50), bool)
        shown[:, :10] = False
        pixels = noise((channels, 40, 50), dtype)
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, alpha=shown, nodata=nodata)) as raster:
            read, valid = raster.read()
            labels, clear, hidden = raster.read_labels()
        assert np.array_equal(read, pixels)
        assert np.array_equal(valid, shown)
        assert np.array_equal(labels, pixels)
        assert np.array_equal(clear, shown)
        assert np.array_equal(hidden, ~shown)

    def test_near_infrared_that_gdal_tagged_as_alpha_stays_a_band(self, tmp_path: Path) -> None:
        pixels = noise((4, 40, 50))
        path = tagged_as_alpha(tmp_path / "a.tif", pixels)
        copy(path, tmp_path / "a.vrt", driver="VRT")
        for source in (path, tmp_path / "a.vrt", [path]):
            with Raster(source) as raster:
                read, valid = raster.read()
            assert np.array_equal(read, pixels)
            assert valid.all()

    @pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    def test_soft_alpha_of_a_png_is_alpha_behind_a_virtual_raster_too(self, tmp_path: Path) -> None:
        pixels = noise((40, 50, 4)) | 1
        pixels[..., 3] = np.linspace(1, 254, 50)
        path = make_picture(tmp_path / "a.png", pixels)
        copy(path, tmp_path / "a.vrt", driver="VRT")
        for source in (path, tmp_path / "a.vrt", [path]):
            with Raster(source) as raster:
                assert np.array_equal(raster.read()[0], np.moveaxis(pixels[..., :3], -1, 0))

    def test_near_infrared_of_zeros_hides_nothing_where_there_is_nodata(self, tmp_path: Path) -> None:
        pixels = noise((4, 200, 200)) | 1
        pixels[3, 40:] = 0  # water
        path = tagged_as_alpha(tmp_path / "a.tif", pixels)
        with rasterio.open(path, "r+") as file:
            file.nodata = 0
        for source in (path, [path]):
            with Raster(source) as raster:
                read, valid = raster.read()
            assert np.array_equal(read, pixels)
            assert valid.all()

    @pytest.mark.parametrize("width", [200, 0])
    def test_alpha_of_an_image_with_data_at_its_edge_alone_is_alpha_beside_nodata_too(
        self, tmp_path: Path, width: int
    ) -> None:
        shown = np.zeros((1024, 1024), bool)
        shown[:, :width] = True
        pixels = np.where(shown, noise((3, 1024, 1024)) | 1, 0).astype(np.uint8)
        path = make_raster(tmp_path / "a.tif", pixels=pixels, alpha=shown, nodata=0)
        for source in (path, [path]):
            with Raster(source) as raster:
                assert raster.channels == 3
                assert np.array_equal(raster.read()[1], shown)

    def test_near_infrared_of_an_image_with_data_at_its_edge_alone_stays_a_band(self, tmp_path: Path) -> None:
        pixels = noise((4, 1024, 1024)) | 1
        pixels[..., 200:] = 0
        path = tagged_as_alpha(tmp_path / "a.tif", pixels)
        with rasterio.open(path, "r+") as file:
            file.nodata = 0
        with Raster(path) as raster:
            assert raster.channels == 4

    def test_internal_mask_is_validity(self, tmp_path: Path) -> None:
        shown = np.ones((40, 50), bool)
        shown[30:] = False
        with Raster(make_raster(tmp_path / "a.tif", mask_band=shown)) as raster:
            assert np.array_equal(raster.read()[1], shown)

    def test_chosen_bands_come_in_the_order_asked(self, tmp_path: Path) -> None:
        pixels = noise((4, 5, 6))
        with Raster(make_raster(tmp_path / "a.tif", pixels=pixels)) as raster:
            assert np.array_equal(raster.read(bands=(2, 0))[0], pixels[[2, 0]])
            with pytest.raises(DataError, match="positions 0 to 3"):
                raster.read(bands=(4,))

    def test_a_models_bands_are_taken_by_name_where_the_file_has_them_all(self, tmp_path: Path) -> None:
        pixels = noise((3, 5, 6), "uint16")
        named = make_raster(tmp_path / "named.tif", pixels=pixels, bands=("nir", "red", "green"))
        plain = make_raster(tmp_path / "plain.tif", pixels=pixels)
        for file, bands, order in (
            (named, ("red", "green", "nir"), [1, 2, 0]),
            (named, ("Green",), [2]),
            (named, ("blue", "green", "red"), [0, 1, 2]),
            (plain, ("red", "green", "blue"), [0, 1, 2]),
            (plain, ("band1", "band2", "band3"), [0, 1, 2]),
        ):
            with open_image(file, bands) as raster:
                assert np.array_equal(raster.read()[0], pixels[order])
        twice = make_raster(tmp_path / "twice.tif", pixels=pixels, bands=("2", "1", "3"))
        with open_image(twice, ("2", "1", "3")) as raster:
            assert np.array_equal(raster.read()[0], pixels), "names, although they could be numbers"

    def test_an_image_that_cannot_be_read_is_not_opened_twice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []

        def opening(*asked: str | int | None) -> object:
            opened.append(str(asked[0]))
            return open_source(str(asked[0]))

        (tmp_path / "a.tif").write_bytes(b"no image")
        monkeypatch.setattr(raster_module, "open_source", opening)
        with pytest.raises(DataError):
            open_image(tmp_path / "a.tif", ("red",))
        assert opened == [str(tmp_path / "a.tif")]

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
    def test_plain_pictures(self, tmp_path: Path, suffix: str) -> None:
        pixels = np.full((8, 9, 3), 77, np.uint8)
        with Raster(make_picture(tmp_path / f"a{suffix}", pixels)) as raster:
            read, valid = raster.read()
            assert not raster.grid.georeferenced
        assert np.abs(read.astype(int) - 77).max() <= 2
        assert valid.all()

    def test_palette_names_band_and_date(self, tmp_path: Path) -> None:
        palette = [(0, 0, 0), (255, 0, 0)]
        path = make_raster(tmp_path / "a.tif", channels=1, palette=palette, bands=["roof"], date="2021:06:30 10:00:00")
        with Raster(path) as raster:
            assert raster.colormap is not None
            assert raster.colormap[1][:3] == (255, 0, 0)
            assert raster.band_names == ("band1", "band2", "band3")
            assert raster.acquired == "2021-06-30"

    def test_tells_tiles_from_strips(self, tmp_path: Path) -> None:
        with Raster(make_raster(tmp_path / "tiles.tif", height=200, width=200, tiled=True)) as raster:
            assert raster.tiled
        with Raster(make_picture(tmp_path / "strips.png", np.zeros((200, 200), np.uint8))) as raster:
            assert not raster.tiled


class TestBrokenFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no file"):
            Raster(tmp_path / "none.tif")

    def test_not_a_raster(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_text("hello")
        with pytest.raises(DataError, match=r"a\.tif cannot be opened"):
            Raster(tmp_path / "a.tif")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
    def test_truncated(self, tmp_path: Path, suffix: str) -> None:
        pixels = np.moveaxis(noise((3, 90, 80)), 0, -1)
        path = truncate(make_picture(tmp_path / f"a{suffix}", pixels))
        with pytest.raises(DataError, match=r"truncated|cannot be opened"), Raster(path) as raster:
            raster.read()

    def test_truncated_tiles_name_the_place(self, tmp_path: Path) -> None:
        path = truncate(make_raster(tmp_path / "a.tif", height=300, width=300, tiled=True))
        with Raster(path) as raster, pytest.raises(DataError, match="row 256, column 0"):
            raster.read(Window(256, 0, 44, 300))


def test_more_pixels_than_there_is_memory_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_raster(tmp_path / "a.tif", pixels=noise((3, 40, 50), "uint16"))
    monkeypatch.setattr("geodistill.raster.stored.machine_memory", lambda: 10_000.0)
    monkeypatch.setattr("geodistill.raster.stored.SMALL", 0)
    with Raster(path) as raster:
        assert raster.read(Window(0, 0, 10, 50))[0].shape == (3, 10, 50)
        with pytest.raises(DataError, match=r"40 x 50 pixels of .*a\.tif are 0 GB at once.*cut the image into tiles"):
            raster.read()


class TestGrid:
    @pytest.mark.parametrize("crs", CRSS)
    def test_round_trip_through_a_file(self, tmp_path: Path, crs: str | None) -> None:
        with Raster(make_raster(tmp_path / "a.tif", crs=crs)) as raster:
            grid = raster.grid
        with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", count=1, dtype="uint8", **grid.profile()):
            pass
        with Raster(tmp_path / "b.tif") as raster:
            assert raster.grid == grid
        assert grid.georeferenced == (crs is not None)

    def test_metres_per_pixel_are_true_metres(self) -> None:
        utm = Grid(100, 100, CRS.from_epsg(32636), from_origin(500_000, 40_000, 0.5, 0.5))
        assert utm.gsd == pytest.approx(0.5, rel=1e-3)
        # Web-Mercator stretches by 1 / cos(latitude): at 60 degrees north a unit is half a metre.
        north = 8_399_737.89
        mercator = Grid(100, 100, CRS.from_epsg(3857), from_origin(0, north, 1, 1))
        assert mercator.gsd == pytest.approx(0.5, rel=5e-3)
        degrees = Grid(10, 10, CRS.from_epsg(4326), from_origin(30, 0, 1e-5, 1e-5))
        assert degrees.gsd == pytest.approx(1.11, rel=1e-2)
        assert Grid(10, 10).gsd is None

    def test_centre_in_degrees(self) -> None:
        grid = Grid(10, 20, CRS.from_epsg(4326), from_origin(30, 1, 0.1, 0.1))
        assert grid.lonlat == pytest.approx((31.0, 0.5))
        assert Grid(10, 20).lonlat is None

    @given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30), st.floats(-0.5, 0.5))
    @settings(deadline=None, max_examples=40)
    def test_a_windows_corner_is_where_the_whole_has_it(
        self, row: int, col: int, height: int, width: int, turn: float
    ) -> None:
        transform = Affine.translation(500_000, 40_000) * Affine.rotation(turn * 90) * Affine.scale(0.5, -0.5)
        whole = Grid(60, 60, CRS.from_epsg(32636), transform)
        part = whole.window(Window(row, col, height, width))
        assert part.transform * (0, 0) == pytest.approx(whole.transform * (col, row))
        assert part.transform * (width, height) == pytest.approx(whole.transform * (col + width, row + height))
        left, bottom, right, top = whole.bounds
        inner = part.bounds
        slack = 1e-6
        assert left - slack <= inner[0] <= inner[2] <= right + slack
        assert bottom - slack <= inner[1] <= inner[3] <= top + slack

    def test_control_points_say_where_it_lies(self, tmp_path: Path) -> None:
        gcps = [GroundControlPoint(r, c, 30 + c * 1e-4, 1 - r * 1e-4) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
        path = tmp_path / "a.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=10, width=10, count=1, dtype="uint8", gcps=gcps, crs="EPSG:4326"
        ):
            pass
        with Raster(path) as raster:
            grid = raster.grid
        assert grid.georeferenced
        assert grid.lonlat == pytest.approx((30.00045, 0.99955))
        assert "gcps" in grid.profile()
        assert not grid.window(Window(0, 0, 5, 5)).gcps


def test_nodata_can_be_told(tmp_path: Path) -> None:
    pixels = noise((3, 12, 9))
    pixels[:, 3:5] = 255
    pixels[0, 7] = 255
    path = make_raster(tmp_path / "a.tif", pixels=pixels)
    with Raster(path, nodata=255) as raster, raster.reopen() as again:
        for opened in (raster, again):
            _, valid = opened.read()
            assert not valid[3:5].any()
            assert valid[:3].all()
            assert valid[5:].all()


def test_a_file_that_says_its_nodata_keeps_it(tmp_path: Path) -> None:
    pixels = noise((3, 12, 9)) // 2 + 1
    pixels[:, 3:5], pixels[:, 8] = 0, 255
    with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0), nodata=255) as raster:
        _, valid = raster.read()
    assert (valid == ~np.isin(np.arange(12), (3, 4))[:, None]).all()
