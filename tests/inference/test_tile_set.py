"""Map tiles in one file and the preview: read with GDAL, SQLite and a reader of PMTiles told from its specification."""

import gzip
import io
import json
import sqlite3
import struct
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

from class_maps import ACROSS, LEGEND, blobs, mercator_centres, write_map
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError
from geodistill.inference.options import PredictOptions
from geodistill.inference.pmtiles import tile_id, write_pmtiles
from geodistill.inference.predict import predict
from geodistill.inference.tile_set import write_tile_set
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

EDGE = 20037508.342789244


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Fields of 50 x 50 pixels of half a metre in Egypt, one corner without data."""
    band = np.random.default_rng(0).integers(0, 3, (12, 14)).repeat(50, 0).repeat(50, 1)
    pixels = np.where(np.arange(3)[:, None, None] == band, 200, 20).astype(np.uint8)
    pixels[:, :100, :100] = 0
    return make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=0, transform=from_origin(400_000, 3.3e6, 0.5, 0.5))


def read_pmtiles(path: Path) -> tuple[dict[tuple[int, int, int], bytes], dict[str, object], tuple[int, ...]]:
    """Every tile of an archive, its metadata, and bounds in degrees x 1e7: the specification, line by line."""
    data = path.read_bytes()
    assert data[:8] == b"PMTiles\x03"
    root, root_size, about, about_size, leaves, _, tiles_at, _ = struct.unpack_from("<8Q", data, 8)
    addressed, _, _ = struct.unpack_from("<3Q", data, 72)
    assert tuple(data[96:100]) == (1, 2, 1, 2)
    found: dict[int, bytes] = {}

    def directory(at: int, size: int) -> None:
        raw = iter(gzip.decompress(data[at : at + size]))

        def number() -> int:
            value = shift = 0
            for byte in raw:
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
            raise AssertionError

        count = number()
        ids = np.cumsum([number() for _ in range(count)])
        runs, lengths = [number() for _ in range(count)], [number() for _ in range(count)]
        offset = 0
        for at_, (tile, run, length) in enumerate(zip(ids, runs, lengths, strict=True)):
            given = number()
            offset = offset + lengths[at_ - 1] if given == 0 and at_ else given - 1
            if not run:
                directory(leaves + offset, length)
            for step in range(run):
                found[int(tile) + step] = data[tiles_at + offset : tiles_at + offset + length]

    directory(root, root_size)
    assert len(found) == addressed
    low, high = data[100], data[101]
    by_place = {}
    for zoom in range(low, high + 1):
        side = 1 << zoom
        if side <= 1024:
            by_place |= {tile_id(zoom, x, y): (zoom, x, y) for x in range(side) for y in range(side)}
    metadata = json.loads(gzip.decompress(data[about : about + about_size]))
    return (
        {by_place.get(key, (high, -1, key)): tile for key, tile in found.items()},
        metadata,
        struct.unpack_from("<4i", data, 102),
    )


def test_tile_ids_follow_hilberts_curve() -> None:
    """The numbers of the specification, and each step of the curve goes to a neighbour."""
    assert [tile_id(*at) for at in [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0), (2, 0, 0)]] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert tile_id(12, 3423, 1763) == 19078479
    path = sorted((tile_id(4, x, y), x, y) for x in range(16) for y in range(16))
    assert [number for number, _, _ in path] == list(range(path[0][0], path[0][0] + 256))
    assert all(abs(a[1] - b[1]) + abs(a[2] - b[2]) == 1 for a, b in pairwise(path))


def test_an_archive_of_many_tiles_has_directories_below_its_root(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tiles = {(8, x, y): bytes([x % 3]) * 9 if (x + y) % 5 else rng.bytes(30) for x in range(180) for y in range(180)}
    given = ((*at, data) for at, data in tiles.items())
    count = write_pmtiles(tmp_path / "a.pmtiles", given, (1, 2, 3, 4), {"name": "x"})
    found, metadata, bounds = read_pmtiles(tmp_path / "a.pmtiles")
    assert (count, found, metadata) == (len(tiles), tiles, {"name": "x"})
    assert bounds == (10_000_000, 20_000_000, 30_000_000, 40_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mbtiles", pytest.param("pmtiles", marks=pytest.mark.slow)])
def test_tiles_show_the_classes_where_they_lie(kind: str, scene: Path, tmp_path: Path) -> None:
    model = tiny_segmenter()
    (made,) = predict(model, [scene], tmp_path / "map.tif", PredictOptions(backend="torch", web_tiles=kind))
    assert made.tiles == tmp_path / f"map_tiles.{kind}"
    if kind == "mbtiles":
        with closing(sqlite3.connect(made.tiles)) as file:
            rows = file.execute("SELECT * FROM tiles").fetchall()
            about = dict(file.execute("SELECT * FROM metadata").fetchall())
        tiles = {(z, x, (1 << z) - 1 - y): data for z, x, y, data in rows}
        assert about["minzoom"] == "0"
        with rasterio.open(made.tiles) as opened:  # as GDAL sees it
            assert opened.driver == "MBTiles"
            assert opened.crs.to_epsg() == 3857
    else:
        tiles, about, _ = read_pmtiles(made.tiles)
    legend = about["legend"] if kind == "pmtiles" else json.loads(about["legend"])
    assert legend == {
        name: "#{:02x}{:02x}{:02x}".format(*colour)
        for name, colour in zip(("c0", "c1", "c2"), model.spec.legend.colours, strict=True)
    }
    deepest = max(z for z, _, _ in tiles)
    # Of pixels far from borders of fields, each shows the colour of its class, and none where there is no data.
    with rasterio.open(made.path) as file:
        values = file.read(1)
        for row in range(25, 600, 50):
            for col in range(25, 700, 50):
                x, y = (v[0] for v in transform(file.crs, "EPSG:3857", *[[v] for v in file.xy(row, col)]))
                side = 2 * EDGE / (1 << deepest)
                place = (int((x + EDGE) / side), int((EDGE - y) / side))
                numbered = (deepest, -1, tile_id(deepest, *place))  # as `read_pmtiles` names those of deep levels
                data = tiles.get((deepest, *place)) or tiles.get(numbered)
                inside = (int((x + EDGE) % side / side * 256), int((EDGE - y) % side / side * 256))
                pixel = (0, 0, 0, 0) if data is None else Image.open(io.BytesIO(data)).convert("RGBA").getpixel(inside)
                if values[row, col] == 255:
                    assert pixel[3] == 0
                else:
                    assert pixel == (*model.spec.legend.colours[values[row, col]], 255)


@pytest.mark.parametrize(("crs", "place"), ACROSS)
def test_a_map_across_the_antimeridian_has_tiles_at_both_ends_of_the_world(
    crs: str, place: Affine, tmp_path: Path
) -> None:
    classes = blobs(8, 8, 3).repeat(10, 0).repeat(10, 1)
    made = write_map(tmp_path / "map.tif", classes, crs, place)
    with closing(sqlite3.connect(write_tile_set(made, "mbtiles", LEGEND))) as file:
        tiles = {(z, x, (1 << z) - 1 - y): data for z, x, y, data in file.execute("SELECT * FROM tiles")}
        about = dict(file.execute("SELECT * FROM metadata").fetchall())
    deepest = max(z for z, _, _ in tiles)
    assert {x for z, x, _ in tiles if z == deepest} == {0, (1 << deepest) - 1}
    assert len([z for z, _, _ in tiles if not z]) == 1
    west, south, east, north = map(float, about["bounds"].split(","))
    assert (west, east) == (-180, 180)
    assert -17.1 < south < north < -16.9
    side = 2 * EDGE / (1 << deepest)
    places, centres = mercator_centres(made, 10)
    for (row, col), (x, y) in zip(places, centres, strict=True):
        data = tiles.get((deepest, int((x + EDGE) / side), int((EDGE - y) / side)))
        inside = (int((x + EDGE) % side / side * 256), int((EDGE - y) % side / side * 256))
        pixel = (0, 0, 0, 0) if data is None else Image.open(io.BytesIO(data)).convert("RGBA").getpixel(inside)
        index = int(classes[row, col])
        assert pixel[3] == 0 if index == 255 else pixel == (*LEGEND.colours[index], 255)


@pytest.mark.parametrize(("west", "size"), [(200, 1e-4), (355, 0.1), (-190, 0.1)])
def test_degrees_beyond_180_have_the_tiles_of_those_within(west: float, size: float, tmp_path: Path) -> None:
    tiles = []
    for start in (west, (west + 180) % 360 - 180):
        made = write_map(tmp_path / f"{start}.tif", blobs(), "EPSG:4326", from_origin(start, 10, size, size))
        with closing(sqlite3.connect(write_tile_set(made, "mbtiles", LEGEND))) as file:
            found = file.execute("SELECT * FROM tiles").fetchall()
            bounds = file.execute("SELECT value FROM metadata WHERE name = 'bounds'").fetchall()
        tiles.append((found, bounds))
    assert tiles[0] == tiles[1]


@pytest.mark.parametrize("west", [30.0, 179.997])
def test_a_map_with_control_points_has_the_tiles_of_one_with_a_transform(west: float, tmp_path: Path) -> None:
    classes = blobs(8, 8, 3).repeat(10, 0).repeat(10, 1)
    place = from_origin(west, -17, 1e-4, 1e-4)
    placed = write_map(tmp_path / "placed.tif", classes, "EPSG:4326", place)
    corners = [(row, col, place @ (col, row)) for row in (0, 80) for col in (0, 80)]
    points = [GroundControlPoint(row, col, (x + 180) % 360 - 180, y) for row, col, (x, y) in corners]
    pointed = write_map(tmp_path / "pointed.tif", classes, "EPSG:4326", gcps=points)
    tiles = []
    for made in (placed, pointed):
        with closing(sqlite3.connect(write_tile_set(made, "mbtiles", LEGEND))) as file:
            tiles.append(
                dict(file.execute("SELECT zoom_level || ' ' || tile_column || ' ' || tile_row, tile_data FROM tiles"))
            )
    assert tiles[0].keys() == tiles[1].keys()
    pixels = [[np.asarray(Image.open(io.BytesIO(each[key])).convert("RGBA")) for key in tiles[0]] for each in tiles]
    # At the borders of fields a rounding may decide.
    assert (np.stack(pixels[0]) == np.stack(pixels[1])).all(-1).mean() > 0.995


def seen_at_level_0(classes: Path) -> NDArray[np.bool_]:
    with closing(sqlite3.connect(write_tile_set(classes, "mbtiles", LEGEND))) as file:
        ((data,),) = file.execute("SELECT tile_data FROM tiles WHERE zoom_level = 0").fetchall()
    seen: NDArray[np.bool_] = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] > 0
    return seen


def test_degrees_from_0_to_360_are_the_whole_world(tmp_path: Path) -> None:
    ones = np.ones((80, 120), np.uint8)
    seen = seen_at_level_0(write_map(tmp_path / "map.tif", ones, "EPSG:4326", from_origin(0, 80, 3, 2)))
    assert seen[128].all()
    up_to_80 = np.log(np.tan(np.radians(45 + 80 / 2))) / np.pi  # of Mercator's square, by the projection's formula
    assert seen.mean() == pytest.approx(up_to_80, abs=0.01)


def test_a_map_around_a_pole_is_along_the_whole_edge(tmp_path: Path) -> None:
    ones = np.ones((100, 100), np.uint8)
    seen = seen_at_level_0(write_map(tmp_path / "map.tif", ones, "EPSG:3413", from_origin(-1e6, 1e6, 2e4, 2e4)))
    assert seen[0].all()
    assert not seen[128:].any()


@pytest.mark.slow
def test_a_preview_is_a_small_picture_in_the_legends_colours(scene: Path, tmp_path: Path) -> None:
    tiny_segmenter().save(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--input", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main(["predict", *flags, "--preview", "--stac"]) == 0
    with Image.open(tmp_path / "map_preview.png") as picture, rasterio.open(tmp_path / "map.tif") as file:
        assert picture.size == (file.width, file.height)
        pixels, values = np.asarray(picture.convert("RGBA")), file.read(1)
    colours = np.array(tiny_segmenter().spec.legend.colours)
    valid = values != 255
    np.testing.assert_array_equal(pixels[valid][:, :3], colours[values[valid]])
    assert not pixels[~valid][:, 3].any()
    assert json.loads((tmp_path / "map.json").read_text())["assets"]["thumbnail"]["roles"] == ["thumbnail"]


def test_a_map_from_nowhere_has_no_tiles(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif", crs=None)
    with pytest.raises(DataError, match="for --web-tiles"):
        predict(tiny_segmenter(), [scene], tmp_path / "map.tif", PredictOptions(backend="torch", web_tiles="pmtiles"))
    assert list(tmp_path.iterdir()) == [scene]  # refused before any work


def test_a_scene_beyond_mercator_is_refused_before_any_work(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif", crs="EPSG:3031", transform=from_origin(-3000, 3000, 60, 60))
    with pytest.raises(DataError, match=r"beyond Web Mercator, which ends at 85\.05 degrees"):
        predict(tiny_segmenter(), [scene], tmp_path / "map.tif", PredictOptions(backend="torch", web_tiles="pmtiles"))
    assert list(tmp_path.iterdir()) == [scene]


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1)])
@pytest.mark.parametrize(("crs", "side"), [("EPSG:32633", 0.3), ("EPSG:4326", 1e-5)])
def test_a_map_one_pixel_wide_has_tiles(shape: tuple[int, int], crs: str, side: float, tmp_path: Path) -> None:
    for shift in np.arange(0, 10, 0.7):
        corner = (13 + shift * side, 60) if crs == "EPSG:4326" else (500_000 + shift * side, 5_000_000)
        classes = write_map(tmp_path / "map.tif", np.ones(shape, np.uint8), crs, from_origin(*corner, side, side))
        assert write_tile_set(classes, "mbtiles", LEGEND).exists()
