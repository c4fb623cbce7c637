"""Maps as files: layout, colours, names, georeferencing, and nothing left behind by a failure."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_origin

from geodistill.errors import OutputError
from geodistill.raster import Grid, Raster
from geodistill.scene.writer import MapWriter, open_map
from geodistill.spec import IGNORE_INDEX, Legend

LEGEND = Legend(
    ("water", "roof & wall", "tree"), colours=((0, 0, 250), (200, 10, 20), (0, 120, 30)), values=(10, 20, 255)
)
UTM = CRS.from_epsg(32636)


def classes(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """``(1, height, width)`` random classes with a corner of nodata."""
    values = np.random.default_rng(seed).integers(0, 3, (1, height, width), dtype=np.uint8)
    values[:, :7, :9] = IGNORE_INDEX
    return values


def write(path: Path, values: NDArray[np.uint8], grid: Grid | None = None, rows: int = 100) -> Path:
    """Write a class map, ``rows`` rows at a time."""
    grid = grid or Grid(values.shape[1], values.shape[2], UTM, from_origin(5e5, 4e6, 0.3, 0.3))
    with open_map(path, grid, LEGEND, False, "a model") as writer:
        for top in range(0, values.shape[1], rows):
            writer.write(values[:, top : top + rows])
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


def test_overviews_hold_classes_and_no_means_of_them(tmp_path: Path) -> None:
    values = (2 * np.indices((1200, 1200)).sum(0) % 4).astype(np.uint8)[None]
    with rasterio.open(write(tmp_path / "map.tif", values), overview_level=0) as file:
        assert set(np.unique(file.read())) <= {0, 2}


def test_probabilities_are_one_named_band_a_class(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 600, 530), np.float32)
    values[:, :3] = np.nan
    grid = Grid(600, 530, UTM, from_origin(5e5, 4e6, 0.3, 0.3))
    with open_map(tmp_path / "p.tif", grid, LEGEND, True, "m") as writer:
        writer.write(values)
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.dtypes == ("float32",) * 3
        assert file.descriptions == LEGEND.names
        assert np.isnan(file.nodata)
        np.testing.assert_array_equal(file.read(), values)
        assert not file.read_masks(1)[:3].any()


GCPS = tuple(GroundControlPoint(row, col, 30 + col / 1e3, 2 - row / 1e3) for row, col in ((0, 0), (0, 40), (60, 0)))
RPCS = RPC(
    height_off=10.0,
    height_scale=500.0,
    lat_off=2.0,
    lat_scale=0.1,
    line_den_coeff=[1.0] + [0.0] * 19,
    line_num_coeff=[0.0, 1.0] + [0.0] * 18,
    line_off=300.0,
    line_scale=300.0,
    long_off=30.0,
    long_scale=0.1,
    samp_den_coeff=[1.0] + [0.0] * 19,
    samp_num_coeff=[0.0, 0.0, 1.0] + [0.0] * 17,
    samp_off=200.0,
    samp_scale=200.0,
)


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
    ],
    ids=["none", "utm", "south-up", "rotated", "antimeridian", "gcps", "rpcs"],
)
def test_georeferencing_is_that_of_the_scene(tmp_path: Path, grid: Grid) -> None:
    with Raster(write(tmp_path / "map.tif", classes(60, 40), grid)) as raster:
        found = raster.grid
    assert (found.height, found.width, found.crs) == (grid.height, grid.width, grid.crs)
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


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_map_and_nothing_else(tmp_path: Path, kind: type[BaseException]) -> None:
    old = write(tmp_path / "map.tif", classes(60, 40)).read_bytes()

    def interrupted() -> None:
        with open_map(tmp_path / "map.tif", Grid(900, 40), LEGEND, False, "m") as writer:
            writer.write(classes(600, 40))
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]
    assert (tmp_path / "map.tif").read_bytes() == old


def test_a_map_replaces_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "map.tif", classes(60, 40))
    with rasterio.open(write(tmp_path / "map.tif", classes(30, 20))) as file:
        assert file.shape == (30, 20)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "map.tif", classes(20, 20))


def test_a_full_disk_is_noticed_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match=r"^the disk is full while writing .*map\.tif; free some space"):
        write(tmp_path / "map.tif", classes(600, 40))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []

    def fail(self: MapWriter, rows: NDArray[np.uint8]) -> None:
        passed.append(rows.shape[1])
        if len(passed) == 3:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(MapWriter, "write", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "map.tif", classes(600, 40))
    assert list(tmp_path.iterdir()) == []


FILL = """
import sys, resource
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_writer import classes, write
from geodistill.errors import OutputError
if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
folder, height = Path(sys.argv[1]), int(sys.argv[2])
try:
    write(folder / "map.tif", classes(height, 2048))
    print("written")
except OutputError as error:
    print(error)
print(len(list(folder.iterdir())), "left")
"""


def fill(folder: Path, height: int, before: str = "", *more: str) -> tuple[list[str], str]:
    """Write a map in a process of its own; give its output lines and what it printed as errors."""
    command = f'{before} exec "$0" -c "$1" "$2" {height} "$3" {" ".join(more)}'
    arguments = ["sh", "-c", command, sys.executable, FILL, str(folder), str(Path(__file__).parent)]
    if before:
        arguments = ["unshare", "--user", "--map-root-user", "--mount", *arguments]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if before and "written" not in done.stdout and "map.tif" not in done.stdout:
        pytest.skip(f"no file system of one's own can be mounted here ({done.stderr.strip()[-200:]})")
    return done.stdout.splitlines(), done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
@pytest.mark.parametrize(("height", "full"), [(900, False), (4300, True), (9000, True)])
def test_a_disk_that_really_fills_up(tmp_path: Path, height: int, full: bool) -> None:
    lines, errors = fill(tmp_path, height, 'mount -t tmpfs -o size=5000k none "$2" &&')
    if full:
        assert lines[0].startswith("the disk is full while writing"), lines
        assert lines[1] == "0 left"
    else:
        assert lines == ["written", "1 left"]
    assert errors == ""


@pytest.mark.parametrize("limit", [300_000, 1_900_000])
def test_a_file_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    lines, _ = fill(tmp_path, 3000, "", str(limit))
    assert "map.tif cannot be written" in lines[0]
    assert lines[1] == "0 left"
