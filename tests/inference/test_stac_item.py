"""The STAC item beside a map."""

import json
import re
import sys
from pathlib import Path

import pystac
import pytest
import shapely
from pystac.validation.local_validator import LocalValidator
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from geodistill.errors import RecipeError
from geodistill.inference.options import VECTOR_FORMATS
from geodistill.inference.stac_item import VECTORS, footprint, require_pystac, write_item
from geodistill.raster import Grid
from geodistill.spec import Legend

LEGEND = Legend(("water", "roof"), colours=((0, 0, 250), (200, 10, 20)))
UTM = Grid(200, 300, CRS.from_epsg(32636), from_origin(5e5, 4e6, 0.5, 0.5))


def test_an_item_names_files_classes_and_place(tmp_path: Path) -> None:
    maps = {"classes": tmp_path / "town.tif", "probabilities": tmp_path / "town_probabilities.tif"}
    path = write_item(maps, UTM, LEGEND, "scene.tif", "a model", "2021-06-30")
    assert path == tmp_path / "town.json"
    found = pystac.Item.from_file(str(path))
    assert found.id == "town"
    assert found.datetime is not None
    assert found.datetime.isoformat() == "2021-06-30T00:00:00+00:00"
    assert found.assets["classes"].href == "./town.tif"
    assert found.assets["classes"].media_type == pystac.MediaType.COG
    assert found.assets["probabilities"].to_dict()["bands"][1]["name"] == "roof"
    classes = found.assets["classes"].extra_fields["classification:classes"]
    assert classes[1] == {
        "value": 1,
        "name": "roof",
        "title": "roof",
        "description": "roof",
        "color_hint": "C80A14",
    }
    assert classes[-1]["nodata"]
    assert found.properties["proj:code"] == "EPSG:32636"
    assert found.properties["proj:shape"] == [200, 300]
    assert found.properties["geodistill:source"] == "scene.tif"
    assert found.bbox is not None
    assert shapely.geometry.shape(found.geometry).bounds == pytest.approx(tuple(found.bbox))
    assert found.bbox[0] == pytest.approx(33.0, abs=1e-3)
    json.loads(path.read_text())
    assert [file.name for file in tmp_path.iterdir()] == ["town.json"]


@pytest.mark.parametrize("acquired", [None, "", "soon"])
def test_without_a_date_it_says_so_and_is_the_same_at_each_run(acquired: str | None, tmp_path: Path) -> None:
    path = write_item({"classes": tmp_path / "a.tif"}, UTM, LEGEND, "s", "m", acquired)
    data = json.loads(path.read_text())
    LocalValidator().item_validator().validate(data)
    assert data["properties"]["datetime"] is None
    assert data["properties"]["geodistill:acquired"] == "unknown"
    assert data["properties"]["start_datetime"] < data["properties"]["end_datetime"]
    before = path.read_bytes()
    assert write_item({"classes": tmp_path / "a.tif"}, UTM, LEGEND, "s", "m", acquired).read_bytes() == before


def test_names_of_classes_are_machine_readable_distinct_and_kept_as_titles(tmp_path: Path) -> None:
    names = ("low vegetation", "low-vegetation", "Straße", "道路", "nodata", "a&b", "a b", "\ud800", "x\x1by")
    path = write_item({"classes": tmp_path / "a.tif"}, UTM, Legend(names), "s", "m", None)
    classes = json.loads(path.read_text())["assets"]["classes"]["classification:classes"]
    slugs = [entry["name"] for entry in classes]
    assert all(re.fullmatch(r"[0-9A-Za-z-_]+", slug) for slug in slugs)
    assert len(set(slugs)) == len(slugs) == len(names) + 1
    assert slugs[0] == "low-vegetation"
    assert slugs[2] == "Strasse"
    assert [entry["title"] for entry in classes[:4]] == list(names[:4])
    assert [entry["title"] for entry in classes[7:9]] == ["\\ud800", "x\\x1by"]
    assert [entry["value"] for entry in classes] == [*range(len(names)), 255]


LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]')
MARS = CRS.from_wkt(
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447223612]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
)


@pytest.mark.parametrize("crs", [LOCAL, MARS, None])
def test_a_grid_that_lies_nowhere_on_earth(crs: CRS | None, tmp_path: Path) -> None:
    grid = Grid(20, 30, crs, from_origin(2, 1, 1e-3, 1e-3))
    data = json.loads(write_item({"classes": tmp_path / "a.tif"}, grid, LEGEND, "s", "m", None).read_text())
    LocalValidator().item_validator().validate(data)
    assert data["geometry"] is None
    assert "bbox" not in data or data["bbox"] is None
    if crs == LOCAL:
        # WKT2, as the extension says, and not WKT1.
        assert data["properties"]["proj:wkt2"].startswith("ENGCRS[")


@pytest.mark.parametrize(
    "transform",
    [
        from_origin(179.9, 2, 1e-3, 1e-3),
        from_origin(-180.1, 2, 1e-3, 1e-3),
        Affine(1e-3, 0, 179.9, 0, 1e-3, 1.8),
        Affine.translation(179.9, 2) * Affine.rotation(10) * Affine.scale(1e-3, -1e-3),
    ],
)
def test_across_the_antimeridian_it_is_cut_in_two(transform: Affine) -> None:
    geometry, bbox = footprint(Grid(200, 200, CRS.from_epsg(4326), transform))
    shape = shapely.geometry.shape(geometry)
    assert shape.geom_type == "MultiPolygon"
    assert shape.is_valid
    west, south, east, north = shape.bounds
    assert (west, east) == (-180, 180)
    assert shape.area == pytest.approx(0.04, rel=1e-6)
    assert bbox is not None
    assert bbox[0] > 179
    assert bbox[2] < -179
    assert (bbox[1], bbox[3]) == (south, north)


def test_control_points_say_where_it_lies() -> None:
    gcps = tuple(GroundControlPoint(r, c, 30 + c * 1e-4, 1 - r * 1e-4) for r, c in ((0, 0), (0, 90), (60, 0), (60, 90)))
    geometry, bbox = footprint(Grid(60, 90, gcps=gcps, gcps_crs=CRS.from_epsg(4326)))
    assert geometry is not None
    assert bbox == pytest.approx([30.0, 0.994, 30.009, 1.0], abs=1e-6)


def test_a_map_that_lies_nowhere() -> None:
    assert footprint(Grid(60, 90)) == (None, None)


@pytest.mark.parametrize("west", [0, -180, -0.5])
def test_all_around_the_earth_the_box_is_as_wide_as_it(west: float) -> None:
    geometry, bbox = footprint(Grid(70, 90, CRS.from_epsg(4326), from_origin(west, 70, 4, 2)))
    assert bbox == [-180, -70, 180, 70]
    assert shapely.geometry.shape(geometry).area == pytest.approx(360 * 140)


@pytest.mark.parametrize(("code", "south"), [(3413, False), (3031, True)])
@pytest.mark.parametrize(
    ("corners", "degrees"),
    [
        ([(0, 100), (100, 100), (100, 0), (0, 0)], 90),  # in pixels, where the pole lies
        ([(50, 100), (100, 50), (50, 0), (0, 50)], 180),
        ([(47, 100), (100, 47), (53, 0), (0, 53)], 180),  # between two points of the outline
    ],
)
def test_with_a_pole_on_its_edge_it_has_the_longitudes_of_one_side(
    corners: list[tuple[int, int]], degrees: float, code: int, south: bool
) -> None:
    areas = []
    for col, row in corners:
        place = from_origin(-10_000 * col, 10_000 * row, 10_000, 10_000)
        geometry, bbox = footprint(Grid(100, 100, CRS.from_epsg(code), place))
        outline = shapely.geometry.shape(geometry)
        assert outline.is_valid
        assert outline.geom_type in ("Polygon", "MultiPolygon")
        assert bbox is not None
        assert (bbox[2] - bbox[0]) % 360 == pytest.approx(degrees)
        assert bbox[1 if south else 3] == (-90 if south else 90)
        areas.append(outline.area)
    assert areas == pytest.approx([areas[0]] * 4)


def test_around_a_pole_it_reaches_the_pole() -> None:
    geometry, bbox = footprint(Grid(100, 100, CRS.from_epsg(3031), from_origin(-1_000_000, 1_000_000, 20_000, 20_000)))
    assert geometry is not None
    assert bbox == [-180, -90, 180, pytest.approx(-77, abs=0.1)]  # the corners are the furthest from the pole
    assert shapely.geometry.shape(geometry).is_valid
    assert shapely.geometry.shape(geometry).covers(shapely.points([[0, -89.9], [179, -89], [-90, -81]])).all()


@pytest.mark.parametrize("grid", [UTM, Grid(60, 90), Grid(60, 90, CRS.from_epsg(4326), from_origin(179.99, 2, 1, 1))])
def test_the_item_is_valid_by_the_schemas(grid: Grid, tmp_path: Path) -> None:
    maps = {"classes": tmp_path / "a.tif", "confidence": tmp_path / "a_confidence.tif", "polygons": tmp_path / "a.fgb"}
    data = json.loads(write_item(maps, grid, LEGEND, "s", "m", "2021-06-30").read_text())
    LocalValidator().item_validator().validate(data)
    assert data["assets"]["polygons"]["type"] == "application/vnd.flatgeobuf"
    assert set(VECTORS) == {f".{kind}" for kind in VECTOR_FORMATS}


def test_without_pystac_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(RecipeError, match=r"pip install 'geodistill\[export\]'"):
        require_pystac()
