"""Vector tiles of polygons and objects, read back with GDAL: the polygons, where they lie, with their columns."""

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.transform import Affine, from_origin

from class_maps import ACROSS, LEGEND, blobs, mercator_centres, read, write_map
from factories import make_raster, noise
from geodistill.cli import main
from geodistill.errors import OutputError
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.tile_set import web_levels
from geodistill.inference.vector import write_vectors
from geodistill.inference.vector_tiles import write_vector_tiles
from tiny import tiny_networks, tiny_segmenter


def deepest(path: Path, level: int) -> geopandas.GeoDataFrame:
    """Return the features of one level; those that tiles cut come once for each tile."""
    return geopandas.read_file(path, ZOOM_LEVEL=level, CLIP="NO")


KINDS = [("gpkg", "pmtiles"), ("geojson", "pmtiles"), ("parquet", "pmtiles"), ("gpkg", "mbtiles")]


@pytest.mark.parametrize(("vector", "kind"), KINDS)
def test_tiles_hold_the_polygons(vector: str, kind: str, tmp_path: Path) -> None:
    classes = blobs().repeat(10, 0).repeat(10, 1)
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    polygons = write_vectors(made, vector).path
    last = web_levels(made)[1]
    before = {path.name for path in tmp_path.iterdir()}
    tiles = write_vector_tiles(made, polygons, "polygons", kind)
    assert {path.name for path in tmp_path.iterdir()} == before | {f"map_polygons.{kind}"}
    assert pyogrio.list_layers(tiles)[0][0] == "polygons"
    found, wanted = deepest(tiles, last - 2), read(polygons).to_crs(3857)
    assert found.crs.to_epsg() == 3857
    assert {"class", "name", "pixels", "area_m2"} <= set(found.columns)
    assert (found["name"] == np.array(LEGEND.names)[found["class"]]).all()
    # Each polygon is there once its pieces are joined: outlines moved by a step of the tile at most.
    joined = found.dissolve(by=["class", "pixels", "area_m2"])
    step = 2 * 20037508.34 / 2 ** (last - 2) / 4096
    for index in range(3):
        there, here = joined.loc[[index]].union_all(), wanted[wanted["class"] == index].union_all()
        assert there.symmetric_difference(here).area < 2 * step * here.length
    assert found["pixels"].drop_duplicates().sum() == wanted["pixels"].drop_duplicates().sum()
    again = tiles.read_bytes()
    if kind == "pmtiles":
        assert write_vector_tiles(made, polygons, "polygons", kind).read_bytes() == again


@pytest.mark.parametrize("vector", ["gpkg", "parquet", "geojson"])
@pytest.mark.parametrize(("crs", "place"), ACROSS)
def test_polygons_across_the_antimeridian_are_cut_in_two(vector: str, crs: str, place: Affine, tmp_path: Path) -> None:
    classes = blobs(8, 8, 3).repeat(10, 0).repeat(10, 1)
    made = write_map(tmp_path / "map.tif", classes, crs, place)
    tiles = write_vector_tiles(made, write_vectors(made, vector).path, "polygons", "mbtiles")
    shown = deepest(tiles, web_levels(made)[1] - 2)
    assert (shown.bounds["maxx"] - shown.bounds["minx"] < 2000).all()
    places, centres = mercator_centres(made, 10)
    for (row, col), centre in zip(places, centres, strict=True):
        holding = set(shown[shown.contains(shapely.Point(centre))]["class"])
        assert holding == {classes[row, col]} - {255}


def test_the_command_writes_them_beside_the_tiles_of_classes(tmp_path: Path) -> None:
    band = np.random.default_rng(0).integers(0, 3, (6, 7)).repeat(20, 0).repeat(20, 1)
    pixels = np.where(np.arange(3)[:, None, None] == band, 200, 20).astype(np.uint8)
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels, transform=from_origin(400_000, 3.3e6, 0.5, 0.5))
    flags = ["--input", str(scene), "--out", str(tmp_path / "map.tif"), "--vector", "fgb", "--objects", "c1"]
    with tiny_networks():
        tiny_segmenter().save(tmp_path / "model")
        command = ["predict", "--model", str(tmp_path / "model"), *flags, "--web-tiles", "pmtiles"]
        command += ["--stac", "--backend", "torch"]
        assert main(command) == 0
    names = ("map_tiles.pmtiles", "map_polygons.pmtiles", "map_objects.pmtiles")
    assert all((tmp_path / name).is_file() for name in names)
    assert set(deepest(tmp_path / names[2], web_levels(tmp_path / "map.tif")[1] - 2)["name"]) == {"c1"}
    item = (tmp_path / "map.json").read_text()
    assert all(f'"./{name}"' in item for name in names)


@pytest.mark.parametrize("kind", ["pmtiles", "mbtiles"])
def test_a_scene_without_an_object_has_no_tiles_of_objects(tmp_path: Path, kind: str) -> None:
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 60, 70)), transform=from_origin(4e5, 3.3e6, 0.5, 0.5))
    options = PredictOptions(vector="gpkg", objects=("c0",), web_tiles=kind, min_area=1e9, backend="torch", stac=True)
    old = tmp_path / f"map_objects.{kind}"
    old.write_bytes(b"of an earlier map")
    with tiny_networks():
        (made,) = predict(tiny_segmenter(), [scene], tmp_path / "map.tif", options)
    assert (made.polygon_tiles, made.object_tiles) == (None, None)
    assert made.tiles is not None
    assert not old.exists()
    assert "objects_tiles" not in (tmp_path / "map.json").read_text()


def test_a_disk_that_is_full_is_said_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    polygons = write_vectors(made, "gpkg").path
    before = set(tmp_path.iterdir())

    def full(*_: object, **__: object) -> None:
        raise pyogrio.errors.DataSourceError("no space")

    monkeypatch.setattr(pyogrio, "write_arrow", full)
    with pytest.raises(OutputError, match="PMTiles: no space"):
        write_vector_tiles(made, polygons, "polygons", "pmtiles")
    assert set(tmp_path.iterdir()) == before
