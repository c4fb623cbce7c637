"""Pictures as viewers show them: orientation tags, palettes, sample types that differ, parts of containers."""

import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow

from factories import make_picture, make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window, source_files

ORIENTATION = 274


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """``(H, W, 3)`` of ramps, of which no turn looks like another, that JPEG keeps nearly."""
    rows, cols = np.mgrid[:height, :width]
    planes = (rows * 2 + cols, cols * 2, np.where(rows < height // 3, 30, 200))
    return np.stack(planes, -1).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.uint8], orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    more: dict[str, dict[str, Any]] = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}
    Image.fromarray(pixels).save(path, exif=exif, **more.get(path.suffix, {}))
    return path


def seen(path: Path) -> NDArray[np.uint8]:
    """``(C, H, W)`` as Pillow, like any viewer, shows a picture."""
    with Image.open(path) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_viewers_show_it(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = save(tmp_path / f"a{suffix}", smooth(40, 60), orientation)
    expected = seen(path)
    with Raster(path) as raster, raster.reopen() as again:
        assert (raster.grid.height, raster.grid.width) == expected.shape[1:]
        pixels, valid = raster.read()
        np.testing.assert_allclose(pixels.astype(int), expected, atol=2)
        assert pixels.flags.c_contiguous
        assert valid.all()
        np.testing.assert_array_equal(again.read()[0], pixels)
        for top, bottom in pairwise((0, 7, 30, raster.grid.height)):
            window = Window(top, 5, bottom - top, 20)
            np.testing.assert_array_equal(raster.read(window)[0], pixels[(..., *window.slices)])


def packed(path: Path, kind: str) -> str:
    """Put a picture into an archive, and return GDAL's name for it there."""
    archive = path.with_suffix(f".{kind}")
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(path, f"sub/{path.name}")
    else:
        with tarfile.open(archive, "w") as file:
            file.add(path, f"sub/{path.name}")
    path.unlink()
    return f"/vsi{kind}/{archive}/sub/{path.name}"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_picture_in_an_archive_is_turned_too(tmp_path: Path, suffix: str, kind: str) -> None:
    path = save(tmp_path / f"a{suffix}", smooth(40, 60), 6)
    expected = seen(path)
    with Raster(packed(path, kind)) as raster:
        np.testing.assert_allclose(raster.read()[0].astype(int), expected, atol=2)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_virtual_raster_of_a_picture_to_be_turned_is_refused(tmp_path: Path, suffix: str) -> None:
    for orientation in (1, 6):
        path = save(tmp_path / f"a{orientation}{suffix}", smooth(40, 60), orientation)
        source = f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>1</SourceBand>'
        band = f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
        place = tmp_path / f"{orientation}.vrt"
        place.write_text(f'<VRTDataset rasterXSize="60" rasterYSize="40">{band}</VRTDataset>')
        if orientation == 1:
            Raster(place).close()
        else:
            with pytest.raises(DataError, match="orientation"):
                Raster(place)


@given(st.integers(1, 8), st.integers(-20, 50), st.integers(-20, 50), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_of_turned_pictures(
    tmp_path: Path, orientation: int, row: int, col: int, height: int, width: int
) -> None:
    path = save(tmp_path / f"{orientation}.png", np.moveaxis(noise((3, 31, 45)), 0, -1), orientation)
    around = ((0, 0), (60, 120), (60, 120))
    expected = np.pad(seen(path), around)[:, row + 60 : row + 60 + height, col + 60 : col + 60 + width]
    with Raster(path) as raster:
        pixels, valid = raster.read(Window(row, col, height, width))
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(valid, (expected > 0).all(axis=0))  # the noise is never 0


@pytest.mark.parametrize("orientation", range(2, 9))
def test_alpha_and_labels_are_turned_too(tmp_path: Path, orientation: int) -> None:
    pixels = np.concatenate([np.moveaxis(noise((3, 30, 20)), 0, -1), np.full((30, 20, 1), 255, np.uint8)], -1)
    pixels[:9, :4, 3] = 0
    path = save(tmp_path / "a.png", pixels, orientation)
    with Raster(path) as raster:
        np.testing.assert_array_equal(raster.read()[1], seen(path)[3] > 0)
    labels = save(tmp_path / "m.png", (noise((30, 20)) % 5).astype(np.uint8), orientation)
    with Raster(labels) as raster:
        stored, valid, hidden = raster.read_labels()
        np.testing.assert_array_equal(stored, seen(labels))
        assert valid.all()
        assert not hidden.any()


def test_blocks_are_those_of_the_turned_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", smooth(40, 60), 6)
    with Raster(path) as raster, rasterio.open(path) as file:
        assert raster.block == file.block_shapes[0][::-1]


def test_both_an_orientation_and_a_place_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", smooth(40, 60), 6)
    path.with_suffix(".jgw").write_text("0.5\n0\n0\n-0.5\n500000\n40000\n")
    with pytest.raises(DataError, match="orientation tag that asks to turn it"):
        Raster(path)
    with pytest.raises(DataError, match="orientation tag"):
        Raster([save(tmp_path / f"b{i}.tif", smooth(40, 60), 3) for i in (2, 3)])


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif"])
def test_a_palette_is_expanded_to_its_colours(tmp_path: Path, name: str) -> None:
    palette = [(7 * i % 256, 200 - i % 100, 11 * i % 256) for i in range(256)]
    indices = noise((40, 50))
    if name == "a.tif":
        path = make_raster(tmp_path / name, pixels=indices[None], palette=palette)
    else:
        path = make_picture(tmp_path / name, indices, palette)
    expected = np.array(palette, np.uint8)[indices].transpose(2, 0, 1)
    with Raster(path) as raster:
        assert raster.channels == 3
        assert raster.dtype == np.uint8
        assert raster.band_names == ("band1", "band2", "band3")
        np.testing.assert_array_equal(raster.read()[0], expected)
        np.testing.assert_array_equal(raster.read(Window(3, 4, 9, 8), (2, 0))[0], expected[[2, 0], 3:12, 4:12])
        assert raster.label_channels == 1
        if name != "a.gif":  # Pillow leaves out what a GIF does not use
            np.testing.assert_array_equal(raster.read_labels()[0][0], indices)
    with Raster(path, ["3", "red"]) as raster:
        np.testing.assert_array_equal(raster.read()[0], expected[[2, 0]])


def test_transparent_entries_of_a_palette_are_no_data(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
    picture.putpalette([10, 10, 10, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 255, 0, 255]))
    with Raster(tmp_path / "a.png") as raster:
        pixels, valid = raster.read()
    assert valid.tolist() == [[False, True, False, True]]
    assert pixels[:, 0, 3].tolist() == [0, 0, 255]


def mixed(folder: Path) -> tuple[Path, list[NDArray[np.generic]]]:
    """A virtual raster of Byte, UInt16 and Float32, and its bands."""
    bands = [noise((40, 50), kind) for kind in ("uint8", "uint16", "float32")]
    bands[2][3, 4] = np.nan
    text = ""
    for number, (band, kind) in enumerate(zip(bands, ("Byte", "UInt16", "Float32"), strict=True), 1):
        make_raster(folder / f"b{number}.tif", pixels=band[None], crs=None)
        source = f'<SourceFilename relativeToVRT="1">b{number}.tif</SourceFilename><SourceBand>1</SourceBand>'
        text += (
            f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
        )
    path = folder / "mixed.vrt"
    path.write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{text}</VRTDataset>')
    return path, bands


def test_bands_of_several_types_come_in_their_common_one(tmp_path: Path) -> None:
    path, bands = mixed(tmp_path)
    for source in (path, [tmp_path / f"b{i}.tif" for i in (1, 2, 3)]):
        with Raster(source) as raster:
            pixels, valid = raster.read()
            assert raster.dtype == pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, np.nan_to_num(np.stack([b.astype(np.float32) for b in bands])))
            assert np.argwhere(~valid).tolist() == [[3, 4]]
            assert raster.read(bands=[0])[0].dtype == np.float32
        with Raster(source, ["2", "1"]) as raster:
            assert raster.read(Window(-1, 0, 5, 5))[0].dtype == np.uint16


def test_complex_samples_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sar.tif"
    with rasterio.open(path, "w", driver="GTiff", height=4, width=5, count=2, dtype="complex64") as file:
        file.write(np.full((2, 4, 5), 1 + 2j, np.complex64))
    with pytest.raises(DataError, match=r"sar\.tif has complex samples \(complex64\)"):
        Raster(path)


def container(path: Path) -> Path:
    """Write a GeoTIFF of three pictures, which GDAL names apart."""
    pictures = [Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (1, 2, 3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    return path


def test_gdals_own_names_pass_through(tmp_path: Path) -> None:
    path = container(tmp_path / "a.tif")
    with Raster(f"GTIFF_DIR:2:{path}") as raster:
        assert np.unique(raster.read()[0]).tolist() == [2]
        assert raster.name == "2_a"
    with Raster(f"vrt://{path}?bands=1,1") as raster:
        assert raster.channels == 2
    with pytest.raises(DataError, match=r"NETCDF:gone.nc:red cannot be opened"):
        Raster("NETCDF:gone.nc:red")


def netcdf(path: Path) -> Path:
    """Write two variables in one NetCDF file by hand: the classic format, big-endian."""
    scipy = pytest.importorskip("scipy.io")
    with scipy.netcdf_file(path, "w") as file:
        for name, size in (("y", 6), ("x", 8)):
            file.createDimension(name, size)
            file.createVariable(name, "f8", (name,))[:] = np.arange(size) * 10.0
        for value, name in ((1, "red"), (2, "nir")):
            file.createVariable(name, "i2", ("y", "x"))[:] = np.full((6, 8), value)
    return path


def test_a_container_says_what_it_holds_and_how_to_name_it(tmp_path: Path) -> None:
    path = netcdf(tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"has no bands of its own, but 2 rasters inside: .*:red, .*:nir.*name one"):
        Raster(path)
    for name in (f"NETCDF:{path}:nir", f'NETCDF:"{path}":nir', f"netcdf:{path}:nir"):
        with Raster(name) as raster:
            assert np.unique(raster.read()[0]).tolist() == [2]
            assert raster.name == "a_nir"
            assert raster.files == (str(path),)
    with Raster([f"NETCDF:{path}:nir", f"NETCDF:{path}:red"]) as raster:
        assert raster.read()[0][:, 0, 0].tolist() == [2, 1]
    assert source_files(f"NETCDF:{path}:nir") == (str(path),)


def test_names_that_are_not_utf8_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not UTF-8|no file"):
        Raster(tmp_path / "a\udce9.tif")
    path = tmp_path / b"a\xe9.tif".decode("utf-8", "surrogateescape")
    path.write_bytes(make_raster(tmp_path / "b.tif").read_bytes())
    with pytest.raises(DataError, match="not UTF-8"):
        Raster(path)


def test_descriptions_in_another_encoding_do_not_hinder(tmp_path: Path) -> None:
    path = tmp_path / "a.vrt"
    band = '<VRTRasterBand dataType="Byte" band="1"><Description>for\xeat</Description></VRTRasterBand>'
    path.write_bytes(f'<VRTDataset rasterXSize="5" rasterYSize="4">{band}</VRTDataset>'.encode("latin-1"))
    with Raster(path) as raster:
        assert raster.band_names == ("band1",)


def test_a_place_in_the_stored_raster_is_read_where_it_lies(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", transform=from_origin(500_000, 40_000, 0.5, 0.5))
    with Raster(path) as raster, rasterio.open(path) as file:
        expected = file.read(window=RasterioWindow(3, 4, 9, 8))
        np.testing.assert_array_equal(raster.read(Window(4, 3, 8, 9))[0], expected)
