from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from factories import make_picture, make_raster, noise
from geodistill.errors import DataError
from geodistill.label.pixels import read_tiles, tile_suffix, write_tile
from geodistill.raster import Raster, Window

WINDOWS = [Window(0, 0, 20, 20), Window(0, 15, 20, 20), Window(0, 30, 20, 20), Window(20, 30, 20, 20)]


@pytest.mark.parametrize("tiled", [False, True])
def test_tiles_are_the_parts_of_the_image(tmp_path: Path, tiled: bool) -> None:
    pixels = noise((3, 40, 150), "uint8", 0)
    path = make_raster(tmp_path / "a.tif", pixels=pixels, tiled=tiled)
    with Raster(path) as raster:
        for window, tile in zip(WINDOWS, read_tiles(raster, WINDOWS, None), strict=True):
            expected = pixels[(slice(None), *window.slices)]
            assert (tile.pixels == expected).all()
            assert (np.moveaxis(tile.rgb, -1, 0) == expected).all()
            assert tile.valid.all()
            assert tile.grid == raster.grid.window(window)


def test_a_file_in_rows_is_read_once_a_row_of_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_picture(tmp_path / "a.png", noise((40, 60, 3), "uint8", 0))
    reads: list[object] = []
    read = Raster.read
    monkeypatch.setattr(Raster, "read", lambda self, *args: reads.append(args) or read(self, *args))
    with Raster(path) as raster:
        assert len(list(read_tiles(raster, WINDOWS, None))) == 4
    assert len(reads) == 2


def test_deep_images_are_stretched_alike_in_every_tile(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(500, 3000, 200).astype(np.uint16), (3, 40, 1))
    path = make_raster(tmp_path / "a.tif", pixels=pixels)
    windows = [Window(0, 0, 40, 100), Window(0, 100, 40, 100)]
    with Raster(path) as raster:
        left, right = (tile.rgb for tile in read_tiles(raster, windows, None))
        (whole,) = read_tiles(raster, [Window(0, 0, 40, 200)], None)
    assert (np.concatenate([left, right], axis=1) == whole.rgb).all()
    assert whole.rgb[0, 0].tolist() == [0, 0, 0]
    assert whole.rgb[0, -1].tolist() == [255, 255, 255]
    assert (np.diff(whole.rgb[0, :, 0].astype(int)) >= 0).all()
    assert whole.rgb[0, 100, 0] == pytest.approx(128, abs=3)


def test_a_constant_deep_image_and_one_without_data(tmp_path: Path) -> None:
    flat = make_raster(tmp_path / "flat.tif", pixels=np.full((1, 30, 30), 700, np.uint16))
    none = make_raster(tmp_path / "none.tif", pixels=np.full((1, 30, 30), 9, np.float32), nodata=9.0)
    for path in (flat, none):
        with Raster(path) as raster:
            (tile,) = read_tiles(raster, [Window(0, 0, 30, 30)], None)
        assert set(np.unique(tile.rgb)) <= {0}
        assert tile.rgb.shape == (30, 30, 3)


def test_tiles_keep_bands_nodata_and_place(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", channels=4, nodata=0, bands=("red", "green", "blue", "nir"))
    with Raster(path) as raster:
        tile = next(read_tiles(raster, [Window(10, 5, 16, 24)], None))
        assert tile_suffix(tile, raster) == ".tif"
        write_tile(tmp_path / "tile.tif", tile, raster)
    with rasterio.open(tmp_path / "tile.tif") as file, rasterio.open(path) as source:
        assert (file.read() == source.read()[:, 10:26, 5:29]).all()
        assert file.descriptions == ("red", "green", "blue", "nir")
        assert (file.nodata, file.crs) == (0, source.crs)
        assert file.xy(0, 0) == source.xy(10, 5)


def test_tiles_of_scaled_samples_keep_what_is_no_data(tmp_path: Path) -> None:
    pixels = np.full((2, 40, 50), 1000, np.uint16)  # 0.0 once scaled, which is the nodata value
    pixels[:, :, :20] = 0
    path = make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4, 1e-4), (-0.1, -0.1)
    with Raster(path) as raster:
        write_tile(tmp_path / "tile.tif", next(read_tiles(raster, [Window(0, 0, 40, 50)], None)), raster)
    with Raster(tmp_path / "tile.tif") as tile:
        samples, valid = tile.read()
    assert (valid == (np.arange(50) >= 20)).all()
    np.testing.assert_allclose(samples[:, valid], 0, atol=1e-7)


def test_tiles_keep_what_is_no_number_as_no_data(tmp_path: Path) -> None:
    pixels = np.ones((1, 40, 50), np.float32)
    pixels[:, :10], pixels[:, 10:15] = -9999, np.nan
    with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=-9999)) as raster:
        write_tile(tmp_path / "tile.tif", next(read_tiles(raster, [Window(0, 0, 40, 50)], None)), raster)
    with Raster(tmp_path / "tile.tif") as tile:
        assert (tile.read()[1] == (np.arange(40) >= 15)[:, None]).all()


def test_what_is_masked_stays_masked(tmp_path: Path) -> None:
    mask = np.ones((40, 50), bool)
    mask[:, :10] = False
    path = make_raster(tmp_path / "a.tif", mask_band=mask)
    with Raster(path) as raster:
        tile = next(read_tiles(raster, [Window(0, 0, 20, 20)], None))
        write_tile(tmp_path / "tile.tif", tile, raster)
    with Raster(tmp_path / "tile.tif") as raster:
        assert (raster.read()[1] == mask[:20, :20]).all()


def test_a_grey_picture_is_kept_as_rgb(tmp_path: Path) -> None:
    grey = noise((30, 30), "uint8", 0)
    with Raster(make_picture(tmp_path / "a.png", grey)) as raster:
        tile = next(read_tiles(raster, [Window(0, 0, 30, 30)], None))
        assert tile_suffix(tile, raster) == ".png"
        write_tile(tmp_path / "tile.png", tile, raster)
    with Raster(tmp_path / "tile.png") as raster:
        assert (raster.read()[0] == grey).all()
        assert raster.channels == 3


@pytest.mark.parametrize("bands", [[0, 3], [0, 1, 2, 3]])
def test_what_is_transparent_is_no_data_in_its_tiles(tmp_path: Path, bands: list[int]) -> None:
    picture = noise((64, 64, 4), "uint8", 0)
    picture[..., 3] = np.where(np.arange(64) < 40, 0, 255)
    path = tmp_path / "a.png"
    Image.fromarray(picture[..., bands]).save(path)
    windows = [Window(0, 0, 64, 48), Window(0, 48, 64, 16)]
    with Raster(path) as raster:
        for tile, suffix in zip(read_tiles(raster, windows, None), (".tif", ".png"), strict=True):
            assert tile_suffix(tile, raster) == suffix
            write_tile(tmp_path / f"tile{suffix}", tile, raster)
            with Raster(tmp_path / f"tile{suffix}") as written:
                pixels, valid = written.read()
            assert (pixels == tile.pixels).all(), "a grey one in each of three bands"
            assert (valid == (picture[tile.window.slices][..., 3] > 0)).all()


def test_bands_that_are_not_there(tmp_path: Path) -> None:
    with Raster(make_raster(tmp_path / "a.tif")) as raster, pytest.raises(DataError, match="positions 1 to 3"):
        next(read_tiles(raster, [Window(0, 0, 9, 9)], (1, 2, 7)))
