"""The part of a scene that a vector file outlines: maps, work and reading stay inside."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.features import geometry_mask

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.errors import DataError, GeodistillWarning
from geodistill.inference.aoi import outline_on
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import Grid, Raster, Window
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def place(grid: Grid, *rings: list[tuple[float, float]]) -> list[shapely.Polygon]:
    """Rings of columns and rows as polygons in the grid's CRS."""
    return [shapely.Polygon([grid.transform @ at for at in ring]) for ring in rings]


def write(path: Path, shapes: list[Any], crs: Any, onto: Any = None) -> Path:
    table = geopandas.GeoDataFrame(geometry=shapes, crs=crs)
    (table.to_crs(onto) if onto else table).to_file(path)
    return path


BLOCK = [(30.3, 20.4), (61.3, 22.0), (69.6, 54.6), (33.0, 49.0)]
FAR = [(200.4, 100.4), (214.6, 100.4), (214.6, 117.6)]


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "fgb"])
def test_the_map_and_the_work_lie_inside(suffix: str, tmp_path: Path) -> None:
    pixels = noise((3, 160, 260))
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels)
    with Raster(scene) as raster:
        grid = raster.grid
    shapes = place(grid, BLOCK, FAR)
    # What has no shape covers nothing; FlatGeobuf has an index, and nothing of that kind.
    rows = shapes if suffix == "fgb" else [shapes[0], None, shapely.Polygon(), *shapes[1:]]
    aoi = write(tmp_path / f"area.{suffix}", rows, grid.crs.to_wkt(), "EPSG:4326" if suffix == "geojson" else None)
    options = PredictOptions(backend="torch", aoi=str(aoi), overlap=0)
    (made,) = predict(tiny_segmenter(tile=16), [scene], tmp_path / "map.tif", options)
    with rasterio.open(made.path) as file:
        top, left = (round(v) for v in (~grid.transform @ (file.transform.c, file.transform.f))[::-1])
        found = file.read(1)
    inside = ~geometry_mask(shapes, (160, 260), grid.transform)
    expected = np.where(inside, pixels.argmax(0), 255)
    expected = expected[top : top + found.shape[0], left : left + found.shape[1]]
    # GeoJSON's seven decimals are a centimetre, and a pixel's centre may lie as near to a border.
    assert (found != expected).sum() <= (1 if suffix == "geojson" else 0)
    # A quarter of a window around, and nothing inside is cut off.
    assert (top, left) == (20 - 4, 30 - 4)
    assert inside.sum() == (expected != 255).sum()
    # Windows that see a pixel of it, and no others: they lie side by side here.
    tops = [round(i * (found.shape[0] - 16) / (-(-found.shape[0] // 16) - 1)) for i in range(-(-found.shape[0] // 16))]
    lefts = [round(i * (found.shape[1] - 16) / (-(-found.shape[1] // 16) - 1)) for i in range(-(-found.shape[1] // 16))]
    touched = sum((found[a : a + 16, b : b + 16] != 255).any() for a in tops for b in lefts)
    assert made.windows == touched < len(tops) * len(lefts) / 3


def test_an_edge_along_the_scenes_adds_no_pixels(tmp_path: Path) -> None:
    grid = Grid(100, 100, rasterio.CRS.from_epsg(32636), rasterio.Affine(1, 0, 500_000, 0, -1, 40_000))
    corner = [(10, -50), (110, -50), (110, 0), (30, 0), (30, 30), (10, 30)]  # an arm that ends at the northern edge
    outline = outline_on(grid, write(tmp_path / "a.gpkg", place(grid, corner), grid.crs.to_wkt()), "scene")
    assert outline.window == Window(0, 10, 30, 20)
    expected = np.zeros((100, 100), bool)
    expected[:30, 10:30] = True
    np.testing.assert_array_equal(outline.mask(grid.whole), expected)


def test_blocks_and_a_resumed_run_give_the_same_map(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 200, 260)))
    with Raster(scene) as raster:
        aoi = write(tmp_path / "a.gpkg", place(raster.grid, BLOCK, FAR), raster.grid.crs.to_wkt())
    model = tiny_segmenter("context", tile=16)
    model.save(tmp_path / "model")
    whole = predict(model, [scene], tmp_path / "a.tif", PredictOptions(backend="torch", aoi=str(aoi)))[0].path
    blocks = PredictOptions(backend="torch", aoi=str(aoi), blocks=3, batch=1, max_memory=4_500_000)
    again = predict(str(tmp_path / "model"), [scene], tmp_path / "b.tif", blocks)[0].path
    with rasterio.open(whole) as one, rasterio.open(again) as other:
        np.testing.assert_array_equal(one.read(), other.read())
    options = PredictOptions(backend="torch", aoi=str(aoi), resume=True)
    assert predict(model, [scene], tmp_path / "a.tif", options)[0].finished_before
    with Raster(scene) as raster:
        write(aoi, place(raster.grid, BLOCK), raster.grid.crs.to_wkt())
    assert not predict(model, [scene], tmp_path / "a.tif", options)[0].finished_before


def test_of_several_scenes_those_outside_are_left_out(tmp_path: Path) -> None:
    corners = [rasterio.transform.from_origin(5e5 + 1e4 * i, 4e4, 0.5, 0.5) for i in (0, 1)]
    scenes = [make_raster(tmp_path / f"{i}.tif", height=80, width=80, transform=corners[i]) for i in (0, 1)]
    with Raster(scenes[1]) as raster:
        aoi = write(tmp_path / "a.gpkg", place(raster.grid, BLOCK), raster.grid.crs.to_wkt())
    with pytest.warns(GeodistillWarning, match="1 of 2 scenes lie outside"):
        made = predict(tiny_segmenter(), scenes, tmp_path / "maps", PredictOptions(backend="torch", aoi=str(aoi)))
    assert [each.path.name for each in made] == ["1.tif"]
    with pytest.raises(DataError, match="do not overlap"):
        predict(tiny_segmenter(), scenes[:1], tmp_path / "maps", PredictOptions(backend="torch", aoi=str(aoi)))


def test_masks_do_not_depend_on_how_they_are_cut() -> None:
    grid = Grid(300, 700, rasterio.crs.CRS.from_epsg(32636), rasterio.transform.from_origin(5e5, 4e6, 0.5, 0.5))
    rng = np.random.default_rng(0)
    rings = [[(x, y), (x + 40, y + 3), (x + 17, y + 55)] for x, y in rng.uniform(0, 600, (2, 2)) / (1, 3)]
    outline = outline_on(grid, _saved(grid, rings), "scene")
    whole = outline.mask(grid.whole)
    assert whole.any()
    for row in range(0, 300, 37):
        for col in range(0, 700, 91):
            part = Window(row, col, 37, 91).common(grid.whole)
            np.testing.assert_array_equal(outline.mask(part), whole[part.slices])
    near = np.zeros(whole.shape, bool)
    for piece in outline.pieces(grid.whole, 10):
        near[piece.slices] = True
    assert near[whole].all()
    assert not near.all(0).all()


EDGE = 20037508.342789244

UTM = (rasterio.crs.CRS.from_epsg(32636), rasterio.transform.from_origin(5e5, 4e6, 10, 10))
FIJI = (rasterio.crs.CRS.from_epsg(32760), rasterio.transform.from_origin(818_000, 8_119_000, 10, 10))
POLE = (rasterio.crs.CRS.from_epsg(3413), rasterio.transform.from_origin(-1.5e6, 1.2e6, 20_000, 20_000))
MERCATOR = (rasterio.crs.CRS.from_epsg(3857), rasterio.transform.from_origin(-EDGE, 2e7, 3e5, 4e5))


@pytest.mark.parametrize("place", [UTM, FIJI, POLE, MERCATOR], ids=["utm", "antimeridian", "pole", "mercator"])
@pytest.mark.parametrize(
    ("box", "crs"),
    [
        ((-180, -90, 180, 90), 4326),
        ((-180, -60, 180, 88), 4326),
        ((0, -90, 360, 90), 4326),
        ((-EDGE, -EDGE, EDGE, EDGE), 3857),
    ],
)
def test_an_area_far_larger_than_the_scene_holds_it(
    place: tuple[Any, Any], box: tuple[float, ...], crs: int, tmp_path: Path
) -> None:
    """It has a hole. Each pixel's centre lies in it by its longitude and latitude alone."""
    grid = Grid(100, 120, *place)
    cols, rows = np.meshgrid(np.arange(120) + 0.5, np.arange(100) + 0.5)
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True).transform(*(grid.transform @ (cols, rows)))
    if (crs == 3857 and place is FIJI) or (box[2] == 360 and place is MERCATOR):
        pytest.skip("metres of Mercator do not come round")
    west, east = np.quantile(lon[lon > 0], [0.2, 0.5])
    south, north = np.quantile(lat, [0.3, 0.6])
    to_file = Transformer.from_crs(4326, crs, always_xy=True)
    hole = [to_file.transform(x, y) for x, y in ((west, south), (west, north), (east, north), (east, south))]
    outer = shapely.box(*box).exterior
    path = tmp_path / "area.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.Polygon(outer, [hole])], crs=crs).to_file(path)
    limits = np.array(box)[[1, 3]] if crs == 4326 else np.array([-85.0511, 85.0511])
    expected = (lat > limits[0]) & (lat < limits[1])
    expected &= ~((lon > west) & (lon < east) & (lat > south) & (lat < north))
    mask = outline_on(grid, path, "scene").mask(grid.whole)
    assert 0.4 < expected.mean() < 1
    # A hole's edge of the file is straight in degrees, and a pixel's centre may lie as near.
    assert (mask != expected).mean() < 0.004


def _saved(grid: Grid, rings: list[list[tuple[float, float]]]) -> Path:
    import tempfile

    return write(Path(tempfile.mkdtemp()) / "a.fgb", place(grid, *rings), grid.crs.to_wkt())


@pytest.mark.parametrize(
    ("shapes", "crs", "says"),
    [
        ([shapely.Point(0, 0)], "EPSG:4326", "no polygons"),
        ([shapely.box(0, 0, 1, 1)], None, "no CRS"),
        ([], "EPSG:4326", "no polygons"),
        ([None, shapely.Polygon()], "EPSG:4326", "has no polygons"),
        ([None, shapely.box(0, 0, 1, 1), shapely.Point(0, 0)], "EPSG:4326", "1 features that are no polygons"),
    ],
)
def test_files_that_outline_nothing(
    shapes: list[Any], crs: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 20, 20)))
    tiny_segmenter().save(tmp_path / "model")
    geopandas.GeoDataFrame(geometry=shapes, crs=crs).to_file(tmp_path / "a.gpkg")
    argv = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*argv, "--aoi", str(tmp_path / "a.gpkg")]) == 2
    assert says in capsys.readouterr().err
    assert main([*argv, "--aoi", str(tmp_path / "none.gpkg")]) == 2
    (tmp_path / "text.gpkg").write_text("no package")
    assert main([*argv, "--aoi", str(tmp_path / "text.gpkg")]) == 2
    assert main([*argv, "--zoom", "3"]) == 2
    assert "without a web map" in capsys.readouterr().err
