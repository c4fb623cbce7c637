"""Which files a raster is read from, and when its stamp changes."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
import rasterio.shutil

from factories import make_picture, make_raster, noise
from geodistill.raster import Raster, source_files
from geodistill.raster.source import stem_of
from served import serve


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
