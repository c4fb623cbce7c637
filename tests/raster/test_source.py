"""Rasters over the network by range reads, in archives and in mosaics."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil

from factories import make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.raster.source import is_local, is_remote, stem_of, vsi_name
from served import Server, serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path / "served") as held:
        yield held


def cloud_optimised(path: Path, height: int, width: int) -> Path:
    """Write noise as a COG: it does not compress."""
    plain = make_raster(path.with_name("plain.tif"), height=height, width=width)
    rasterio.shutil.copy(plain, path, driver="COG", compress="deflate", blocksize=128)
    plain.unlink()
    return path


def test_a_cog_is_read_by_ranges(server: Server) -> None:
    path = cloud_optimised(server.folder / "scene.tif", 2000, 600)
    address = f"{server.address}/scene.tif?token=1"
    with Raster(address) as raster, Raster(path) as local:
        assert raster.remote
        assert raster.name == "scene"
        assert raster.grid == local.grid
        window = Window(900, 100, 100, 100)
        np.testing.assert_array_equal(raster.read(window)[0], local.read(window)[0])
        assert server.sent < path.stat().st_size / 3
        with raster.reopen() as again:
            np.testing.assert_array_equal(again.read(window)[0], local.read(window)[0])
        server.broken = True
        with pytest.raises(DataError, match=r"scene.tif\?token=1 is truncated or corrupt at row 0, column 0"):
            raster.read(Window(0, 0, 300, 600))


def test_an_address_that_has_nothing(server: Server) -> None:
    with pytest.raises(DataError, match=r"cannot be opened as a raster .* expected an address that answers range"):
        Raster(f"{server.address}/gone.tif")


def test_a_raster_in_an_archive(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "scene.tif")
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        archive.write(path, "deep/scene.tif")
    with Raster(f"/vsizip/{tmp_path}/scenes.zip/deep/scene.tif") as raster, Raster(path) as plain:
        np.testing.assert_array_equal(raster.read()[0], plain.read()[0])
        assert raster.name == "scene"


def test_a_mosaic_is_a_raster(tmp_path: Path) -> None:
    whole = noise((3, 60, 80))
    tiles = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{{name}}</SourceFilename><SourceBand>{{band}}</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="40" ySize="60"/>'
        f'<DstRect xOff="{x}" yOff="0" xSize="40" ySize="60"/></SimpleSource>'.replace("{name}", f"tile{x}.tif")
        for x in (0, 40)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{tiles.replace("{band}", str(band))}</VRTRasterBand>'
        for band in (1, 2, 3)
    )
    for x in (0, 40):
        make_raster(tmp_path / f"tile{x}.tif", pixels=whole[:, :, x : x + 40])
    path = tmp_path / "mosaic.vrt"
    path.write_text(f'<VRTDataset rasterXSize="80" rasterYSize="60">{bands}</VRTDataset>')
    with Raster(path) as raster:
        np.testing.assert_array_equal(raster.read()[0], whole)
        (tmp_path / "tile40.tif").unlink()
    with Raster(path) as raster, pytest.raises(DataError, match=r"mosaic.vrt is truncated or corrupt"):
        raster.read()


def test_what_lies_where() -> None:
    assert is_remote("https://host/a.tif")
    assert is_remote("s3://bucket/a.tif")
    assert not is_remote("/vsizip/a.zip/b.tif")
    assert is_local("a/b.tif")
    assert not is_local("/vsizip/a.zip/b.tif")
    assert vsi_name("https://host/a.tif") == "/vsicurl/https://host/a.tif"
    assert vsi_name("s3://bucket/a.tif") == "/vsis3/bucket/a.tif"
    assert vsi_name("a.tif") == str(Path("a.tif").absolute())
    assert stem_of("https://host/deep/a.b.tif?x=/y.z") == "a.b"
