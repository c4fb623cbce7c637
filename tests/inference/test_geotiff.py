"""Maps as files: layout, colours, names and georeferencing."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine, from_origin

from factories import rational_polynomials
from geodistill.errors import OutputError
from geodistill.inference.checkpoint import PartFiles
from geodistill.inference.geotiff import MapInfo, write_map
from geodistill.inference.layers import Layer
from geodistill.inference.sliding import SceneRows
from geodistill.inference.windows import Part, WindowPlan
from geodistill.raster import Grid, Raster
from geodistill.spec import IGNORE_INDEX, Legend
from where import SUPPORT

LEGEND = Legend(
    ("water", "roof & wall", "tree"), colours=((0, 0, 250), (200, 10, 20), (0, 120, 30)), values=(10, 20, 255)
)
UTM = CRS.from_epsg(32636)


def classes(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """``(1, height, width)`` random classes with a corner of nodata."""
    values = np.random.default_rng(seed).integers(0, 3, (1, height, width), dtype=np.uint8)
    values[:, :7, :9] = IGNORE_INDEX
    return values


def write(
    path: Path,
    values: NDArray[Any],
    grid: Grid | None = None,
    rows: int = 100,
    name: str = "classes",
    legend: Legend = LEGEND,
) -> Path:
    """Write a map from rows that come ``rows`` at a time."""
    grid = grid or Grid(values.shape[1], values.shape[2], UTM, from_origin(5e5, 4e6, 0.3, 0.3))
    folder = path.parent / f"{path.name}.work"
    folder.mkdir(parents=True)
    layer = Layer(name, len(values), str(values.dtype))
    starts = range(0, grid.height, rows)
    plan = WindowPlan(grid.height, grid.width, max(rows, grid.width), tuple(starts), (0,))
    with PartFiles(folder, plan, Part.whole(plan), (layer,)) as files:
        for row, top in enumerate(starts):
            part = values[:, top : top + rows]
            files.append(SceneRows(row, top, {name: part}, np.ones(part.shape[1:], bool), 1, ()))
        assert files.finished
        info = MapInfo(grid, legend, {"MODEL": "a model"})
        write_map(path, layer, [files], info, folder)
    shutil.rmtree(folder)
    return path


@pytest.mark.parametrize("rows", [1, 100, 384, 512, 5000])
def test_rows_of_any_number_come_out_as_they_went_in(tmp_path: Path, rows: int) -> None:
    values = classes(1100, 70)
    with rasterio.open(write(tmp_path / "map.tif", values, rows=rows)) as file:
        np.testing.assert_array_equal(file.read(), values)
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_a_class_map_is_a_cog_with_colours_and_names(tmp_path: Path) -> None:
    with rasterio.open(write(tmp_path / "map.tif", classes(1500, 1300))) as file:
        assert (file.count, file.dtypes, file.nodata) == (1, ("uint8",), IGNORE_INDEX)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.profile["compress"] == "deflate"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.colorinterp == (ColorInterp.palette,)
        table = file.colormap(1)
        assert [table[i][:3] for i in range(3)] == list(LEGEND.colours)
        assert table[IGNORE_INDEX][3] == 0
        tags = file.tags()
        assert [tags[f"CLASS_{i}"] for i in range(3)] == list(LEGEND.names)
        # The map holds class indices, whatever values the masks had.
        assert Legend.from_dict(json.loads(tags["LEGEND"])) == Legend(LEGEND.names, LEGEND.colours)
        assert tags["MODEL"] == "a model"


def cog_faults(path: Path) -> list[str]:
    """Say what hinders range reads, as GDAL's ``validate_cloud_optimized_geotiff`` does.

    Tiles; overviews, each half of the one before; all directories before all pixels, the directories from the largest
    to the smallest, the pixels from the smallest overview to the whole.
    """
    faults, firsts, shapes = [], [], []
    with rasterio.open(path) as file:
        levels = len(file.overviews(1))
        heads = [int(file.get_tag_item("IFD_OFFSET", "TIFF", bidx=1))]
        heads += [int(file.get_tag_item("IFD_OFFSET", "TIFF", bidx=1, ovr=i)) for i in range(levels)]
    for level in range(-1, levels):
        with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as file:
            if file.block_shapes[0][1] >= max(file.width, 513):
                faults.append(f"level {level} is not tiled")
            shapes.append(file.shape)
            blocks = [(x, y) for y in range(-(-file.height // 512)) for x in range(-(-file.width // 512))]
        with rasterio.open(path) as file:
            ovr = {} if level < 0 else {"ovr": level}
            places = [file.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1, **ovr) for x, y in blocks]
        firsts.append([int(place) for place in places if place])
    if heads != sorted(heads):
        faults.append(f"directories at {heads}")
    if min(min(first) for first in firsts) < max(heads):
        faults.append("pixels before directories")
    for one, smaller in pairwise(range(len(firsts))):
        if min(firsts[one]) < max(firsts[smaller]):
            faults.append(f"pixels of level {smaller - 1} after those of level {one - 1}")
        if any(abs(2 * half - side) > 1 for half, side in zip(shapes[smaller], shapes[one], strict=True)):
            faults.append(f"level {smaller - 1} of {shapes[smaller]}")
    if max(shapes[-1]) > 512:
        faults.append(f"the smallest level is {shapes[-1]}")
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes", "confidence", "probabilities"])
def test_every_map_is_cloud_optimised(tmp_path: Path, name: str) -> None:
    values: NDArray[Any] = classes(2100, 1300)
    if name == "probabilities":
        values = np.random.default_rng(0).random((3, 2100, 1300), np.float32)
    made = write(tmp_path / "map.tif", values, name=name)
    assert cog_faults(made) == []
    # The check finds what it is there to find.
    rasterio.shutil.copy(made, tmp_path / "tiles.tif", driver="GTiff", tiled=True, blockxsize=512, blockysize=512)
    with rasterio.open(tmp_path / "tiles.tif", "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.nearest)
    assert any("pixels" in fault for fault in cog_faults(tmp_path / "tiles.tif"))


def test_overviews_hold_classes_and_no_means_of_them(tmp_path: Path) -> None:
    values = (2 * np.indices((1200, 1200)).sum(0) % 4).astype(np.uint8)[None]
    with rasterio.open(write(tmp_path / "map.tif", values), overview_level=0) as file:
        assert set(np.unique(file.read())) <= {0, 2}


@pytest.mark.parametrize("half", [False, True])
def test_probabilities_are_one_named_band_a_class(tmp_path: Path, half: bool) -> None:
    values = np.random.default_rng(0).random((3, 600, 530), np.float32)
    values = values.astype(np.float16).astype(np.float32) if half else values
    values[:, :3] = np.nan
    with rasterio.open(write(tmp_path / "p.tif", values, name="probabilities")) as file:
        assert file.dtypes == ("float32",) * 3
        assert file.descriptions == LEGEND.names
        assert np.isnan(file.nodata)
        np.testing.assert_array_equal(file.read(), values)
        assert not file.read_masks(1)[:3].any()
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize("name", ["classes", "probabilities"])
def test_names_that_no_file_can_hold_are_escaped(tmp_path: Path, name: str) -> None:
    legend = Legend(("a\ud800", "Straße", "c"))
    values = np.ones((1, 8, 9), np.uint8) if name == "classes" else np.full((3, 8, 9), 0.3, np.float32)
    with rasterio.open(write(tmp_path / "map.tif", values, name=name, legend=legend)) as file:
        assert [file.tags()[f"CLASS_{index}"] for index in range(3)] == ["a\\ud800", "Straße", "c"]
        assert Legend.from_dict(json.loads(file.tags()["LEGEND"])).names == legend.names
        assert name == "classes" or file.descriptions == ("a\\ud800", "Straße", "c")


def test_bytes_say_by_what_they_are_to_be_divided(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 251, (1, 600, 530), dtype=np.uint8)
    with rasterio.open(write(tmp_path / "c.tif", values, name="confidence")) as file:
        assert file.scales == (0.004,)
        assert file.descriptions == ("confidence",)
        assert file.colorinterp == (ColorInterp.gray,)
        np.testing.assert_array_equal(file.read(), values)


def most_of_four(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mode of each 2 x 2 pixels, the last row and column doubled: the first of equals, 255 only where all are."""
    whole = np.pad(values, [(0, side % 2) for side in values.shape], mode="edge")
    parts = np.stack([whole[i::2, j::2] for i in (0, 1) for j in (0, 1)]).astype(int)
    votes = (parts[:, None] == parts[None]).sum(1)
    # Ordered by votes and then by place; no data comes last.
    best = np.where(parts == 255, -1, 4 * votes + (3 - np.arange(4))[:, None, None]).argmax(0)
    return np.take_along_axis(parts, best[None], 0)[0].astype(np.uint8)


@pytest.mark.parametrize("shape", [(512, 512), (513, 700), (1025, 511), (2200, 600)])
def test_overviews_are_what_most_of_four_pixels_are(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = classes(*shape)
    path = write(tmp_path / "map.tif", values, rows=300)
    smaller = values[0]
    with rasterio.open(path) as file:
        levels = file.overviews(1)
    for level in range(len(levels)):
        smaller = most_of_four(smaller)
        with rasterio.open(path, overview_level=level) as file:
            np.testing.assert_array_equal(file.read(1), smaller)
    assert max(smaller.shape) <= 512


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    values = classes(1100, 900)
    one = write(tmp_path / "a" / "map.tif", values, rows=100)
    assert write(tmp_path / "b" / "map.tif", values, rows=384).read_bytes() == one.read_bytes()


def as_geotiff_keeps(crs: CRS | None, folder: Path) -> CRS | None:
    """Write a plain GeoTIFF in a CRS and say what it is in: not every CRS comes out as it went in."""
    if crs is None:
        return None
    place = {"crs": crs, "transform": from_origin(100, 200, 0.3, 0.3)}
    with rasterio.open(folder / "plain.tif", "w", width=1, height=1, count=1, dtype="uint8", **place):
        pass
    with rasterio.open(folder / "plain.tif") as file:
        return file.crs


GCPS = tuple(GroundControlPoint(row, col, 30 + col / 1e3, 2 - row / 1e3) for row, col in ((0, 0), (0, 40), (60, 0)))
RPCS = rational_polynomials(300, 200)
LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
ENGINEERING = 'ENGCRS["site",EDATUM["stake"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
MOON = 'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],UNIT["degree",0.0174532925199433]]'


@pytest.mark.parametrize(
    "grid",
    [
        Grid(60, 40),
        Grid(60, 40, UTM, from_origin(5e5, 4e6, 0.3, 0.3)),
        Grid(60, 40, UTM, Affine(0.3, 0, 5e5, 0, 0.3, 4e6)),
        Grid(60, 40, UTM, Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(0.3, -0.3)),
        Grid(60, 40, CRS.from_epsg(4326), from_origin(179.99, 2, 1e-3, 1e-3)),
        Grid(60, 40, gcps=GCPS, gcps_crs=CRS.from_epsg(4326)),
        Grid(60, 40, rpcs=RPCS),
        Grid(60, 40, None, from_origin(5e5, 4e6, 0.3, 0.3)),
        Grid(60, 40, None, Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(0.3, -0.3)),
        Grid(60, 40, gcps=GCPS),
        Grid(60, 40, CRS.from_wkt(LOCAL), from_origin(100, 200, 0.3, 0.3)),
        Grid(60, 40, CRS.from_wkt(ENGINEERING), from_origin(100, 200, 0.3, 0.3)),
        Grid(60, 40, CRS.from_wkt(MOON), from_origin(10, 20, 1e-3, 1e-3)),
    ],
    ids=[
        *("none", "utm", "south-up", "rotated", "antimeridian", "gcps", "rpcs"),
        *("transform alone", "turned alone", "gcps alone", "local", "engineering", "moon"),
    ],
)
def test_georeferencing_is_that_of_the_scene(tmp_path: Path, grid: Grid) -> None:
    with Raster(write(tmp_path / "map.tif", classes(60, 40), grid)) as raster:
        found = raster.grid
    assert (found.height, found.width, found.crs) == (grid.height, grid.width, as_geotiff_keeps(grid.crs, tmp_path))
    assert found.transform.almost_equals(grid.transform, 1e-9)
    assert [(p.row, p.col, p.x, p.y) for p in found.gcps] == [(p.row, p.col, p.x, p.y) for p in grid.gcps]
    assert found.gcps_crs == grid.gcps_crs
    assert (found.rpcs is None) == (grid.rpcs is None)
    if found.rpcs is not None:
        assert found.rpcs.to_dict() == {
            **RPCS.to_dict(),
            "err_bias": found.rpcs.err_bias,
            "err_rand": found.rpcs.err_rand,
        }


@pytest.mark.parametrize(
    "first", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"BM", b"<VRTDataset"]
)
def test_bytes_that_begin_like_another_format_stay_bytes(tmp_path: Path, first: bytes) -> None:
    values = np.full((1, 40, 50), 7, np.uint8)
    values[0, 0, : len(first)] = list(first)
    with rasterio.open(write(tmp_path / "c.tif", values, name="confidence")) as file:
        np.testing.assert_array_equal(file.read(), values)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 900), (900, 1), (3, 3)])
@pytest.mark.parametrize("name", ["classes", "confidence", "probabilities"])
def test_maps_of_a_few_pixels(tmp_path: Path, shape: tuple[int, int], name: str) -> None:
    values: NDArray[Any] = np.random.default_rng(0).integers(0, 3, (1, *shape), dtype=np.uint8)
    if name == "probabilities":
        values = np.random.default_rng(0).random((3, *shape), np.float32)
    with rasterio.open(write(tmp_path / "map.tif", values, name=name)) as file:
        np.testing.assert_array_equal(file.read(), values)


@pytest.mark.slow
def test_no_byte_of_a_map_is_what_memory_held_before(tmp_path: Path) -> None:
    script = SUPPORT / "perturbed_map.py"
    made: dict[str, set[bytes]] = {}
    for filler in ("90", "165"):  # what glibc fills memory with as it is taken and given back
        folder = tmp_path / filler
        folder.mkdir()
        held = {**os.environ, "MALLOC_PERTURB_": filler, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, script, folder], env=held, check=True, timeout=300)
        for file in folder.iterdir():
            made.setdefault(file.name, set()).add(file.read_bytes())
    assert {name: len(kinds) for name, kinds in made.items()} == dict.fromkeys(made, 1)
    assert len(made) == 12


def test_a_map_replaces_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "map.tif", classes(60, 40))
    with rasterio.open(write(tmp_path / "map.tif", classes(30, 20))) as file:
        assert file.shape == (30, 20)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "file").write_text("")
    plan = WindowPlan(20, 20, 20, (0,), (0,))
    layer = Layer("classes", 1, "uint8")
    with PartFiles(work, plan, Part.whole(plan), (layer,)) as files:
        files.append(SceneRows(0, 0, {"classes": classes(20, 20)}, np.ones((20, 20), bool), 1, ()))
        with pytest.raises(OutputError, match="cannot be written"):
            write_map(tmp_path / "file" / "map.tif", layer, [files], MapInfo(Grid(20, 20), LEGEND, {}), work)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RasterioError("Free disk space available is 5 bytes")

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(rasterio.shutil, "copy", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match=r"^the disk is full while writing .*map\.tif; free some space"):
        write(tmp_path / "map.tif", classes(600, 40))
    assert not (tmp_path / "map.tif").exists()


def test_what_gdal_cannot_write_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RasterioError("Input/output error")

    monkeypatch.setattr(rasterio.shutil, "copy", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "map.tif", classes(600, 40))
    assert not (tmp_path / "map.tif").exists()


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(tmp_path / "map.tif", classes(3000, 2048))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not (tmp_path / "map.tif").exists()
