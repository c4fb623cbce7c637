"""Where rasters are kept (networks, archives, mosaics), which files they are read from, and their stamps."""

import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from factories import make_picture, make_raster, noise
from geodistill.errors import DataError
from geodistill.raster import Raster, Window, source_files
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


def vrt(path: Path, sources: list[str], relative: bool = False) -> Path:
    """Write a virtual raster of one band whose sources all cover it, in GDAL's own words."""
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="{int(relative)}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
        for source in sources
    )
    band = f'<VRTRasterBand dataType="Byte" band="1">{parts}</VRTRasterBand>'
    path.write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{band}</VRTDataset>')
    return path


def test_sources_of_virtual_rasters_count_however_deep(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    leaf = make_raster(tmp_path / "below" / "a & b.tif", channels=1)
    other = make_raster(tmp_path / "c.tif", channels=1)
    inner = vrt(tmp_path / "below" / "inner.vrt", ["a &amp; b.tif"], relative=True)
    outer = vrt(tmp_path / "outer.vrt", [str(inner), str(other)])
    expected = tuple(sorted(map(str, (leaf, other, inner, outer))))
    assert source_files(outer) == expected
    with Raster(outer) as raster:
        assert raster.files == expected
    assert source_files([other, leaf]) == (str(leaf), str(other))


def test_a_virtual_raster_that_names_itself_ends(tmp_path: Path) -> None:
    first = vrt(tmp_path / "first.vrt", ["second.vrt"], relative=True)
    second = vrt(tmp_path / "second.vrt", ["first.vrt"], relative=True)
    assert source_files(first) == (str(first), str(second))


def test_files_beside_a_raster_count(tmp_path: Path) -> None:
    picture = make_picture(tmp_path / "a.png", noise((40, 50, 3)))
    beside = [tmp_path / name for name in ("a.png.msk", "a.png.aux.xml", "a.PGW", "a.png.ovr")]
    for path in beside:
        path.write_bytes(b"x" if path.suffix != ".PGW" else b"1\n0\n0\n-1\n0\n0\n")
    (tmp_path / "a.xml").write_text("<annotation/>")
    make_picture(tmp_path / "ab.png", noise((40, 50, 3)))
    assert source_files(picture) == tuple(sorted(map(str, (picture, *beside))))


def test_archives_and_gdals_own_names_stand_for_their_file(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", channels=1)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as held:
        held.write(path, "deep/a.tif")
    assert source_files(f"/vsizip/{archive}/deep/a.tif") == (str(archive),)
    assert source_files(f"GTIFF_DIR:1:{path}") == (str(path),)
    assert source_files(f"vrt://{path}?bands=1") == (str(path),)
    mosaic = vrt(tmp_path / "mosaic.vrt", [f"GTIFF_DIR:1:{path}"])
    assert source_files(mosaic) == (str(path), str(mosaic))


@pytest.mark.parametrize(
    ("source", "stem"),
    [('NETCDF:"/data/file.nc":red', "file_red"), ("vrt:///data/a.tif?bands=1", "a_bands_1"), ("/data/a.b.tif", "a.b")],
)
def test_what_a_part_of_a_file_is_called(source: str, stem: str) -> None:
    assert stem_of(source) == stem


def rewrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def add_mask(path: Path) -> None:
    with rasterio.open(path, "r+") as file, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        file.write_mask(noise((40, 50)) > 50)


@pytest.mark.parametrize("change", [rewrite, add_mask, lambda path: path.with_name("leaf.tfw").write_text("1\n" * 6)])
def test_the_stamp_tells_a_changed_source(tmp_path: Path, change: Callable[[Path], object]) -> None:
    leaf = make_raster(tmp_path / "leaf.tif", channels=1)
    mosaic = vrt(tmp_path / "mosaic.vrt", [str(leaf)])
    with Raster(mosaic) as raster:
        before = raster.stamp
    with Raster(mosaic) as raster:
        assert raster.stamp == before == json.loads(json.dumps(before))
    change(leaf)
    with Raster(mosaic) as raster:
        assert raster.stamp != before


def test_the_stamp_of_an_address_is_what_the_server_says(tmp_path: Path) -> None:
    with serve(tmp_path / "served") as server:
        path = make_raster(server.folder / "a.tif", channels=1)
        address = f"{server.address}/a.tif?signature=secret"
        mosaic = vrt(tmp_path / "mosaic.vrt", [f"/vsicurl/{address}"])
        with Raster(mosaic) as raster:
            assert raster.files == tuple(sorted((address, str(mosaic))))
            before = raster.stamp
            size = path.stat().st_size
            assert [f"{server.address}/a.tif", None, None, str(size)] in before
            assert "secret" not in json.dumps(before)
            make_raster(path, channels=1, height=60)
            assert raster.stamp != before
            server.broken = True
            assert [f"{server.address}/a.tif", None, None, None] in raster.stamp


@pytest.mark.parametrize("begin", ["<Source><![CDATA[", "<Source><!--"])
def test_sources_that_never_end_are_refused_at_once(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "m.vrt"
    band = '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    for count, refused in ((2, False), (40, True), (20_000, True)):
        held = f"<Metadata><MDI><![CDATA[{begin * count}]]></MDI></Metadata>"
        path.write_text(f'<VRTDataset rasterXSize="20" rasterYSize="20">{held}{band}')
        begun = time.process_time()
        if refused:
            with pytest.raises(DataError, match="sources within sources"):
                source_files(path)
        else:
            assert source_files(path) == (str(path),)
        assert time.process_time() - begun < 5  # 2 to the power of their number, before
