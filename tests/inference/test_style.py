"""Names and colours of classes, in the forms that QGIS and GDAL read, independent readers of XML and SQL saying so."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from class_maps import blobs, read, write_map
from geodistill.inference.options import VECTOR_FORMATS
from geodistill.inference.style import plain_name, style_files, write_style
from geodistill.inference.vector import write_vectors
from geodistill.spec import Legend

LEGEND = Legend(
    ("low vegetation", 'Straße & <b>"Weg"</b>', "a\x1b]0;x\x07\ud800\ufffe"), ((1, 2, 3), (250, 0, 9), (5, 6, 7))
)
NAMES = ["low vegetation", 'Straße & <b>"Weg"</b>', "a\\x1b]0;x\\x07\\ud800?"]
COLOURS = ["#010203", "#fa0009", "#050607"]


def entries(text: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Value, name and colour of each class as a style gives them to rasters and to polygons."""
    root = ElementTree.fromstring(text)
    palette = root.find("pipe/rasterrenderer[@type='paletted'][@band='1']/colorPalette")
    vector = root.find("renderer-v2[@type='categorizedSymbol'][@attr='class']")
    assert palette is not None
    assert vector is not None
    raster = [(entry.attrib["value"], entry.attrib["label"], entry.attrib["color"]) for entry in palette]
    polygons = []
    for category in vector.iterfind("categories/category"):
        colour = vector.find(f"symbols/symbol[@name='{category.attrib['symbol']}']/layer/prop[@k='color']")
        assert colour is not None
        red, green, blue, alpha = map(int, colour.attrib["v"].split(","))
        assert alpha == 255
        polygons.append((category.attrib["value"], category.attrib["label"], f"#{red:02x}{green:02x}{blue:02x}"))
    return raster, polygons


def test_a_style_has_exactly_the_classes(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs())
    files = write_style(made, LEGEND)
    assert files == style_files(made) == (tmp_path / "map.qml", tmp_path / "map.tif.aux.xml")
    expected = [(str(i), name, colour) for i, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True))]
    assert entries(files[0].read_text(encoding="utf-8")) == (expected, expected)
    band = ElementTree.fromstring(files[1].read_text(encoding="utf-8")).find("PAMRasterBand")
    assert band is not None
    assert [category.text for category in band.iterfind("CategoryNames/Category")] == NAMES
    rows = [[cell.text for cell in row] for row in band.iterfind("GDALRasterAttributeTable/Row")]
    assert rows[1] == ["1", NAMES[1], "250", "0", "9"]
    with rasterio.open(made) as file:
        assert str(files[1]) in file.files


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_polygons_carry_it(kind: str, tmp_path: Path) -> None:
    place = from_origin(500_000, 40_000, 0.5, 0.5)
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", place, legend=LEGEND)
    written = write_vectors(made, kind).path
    assert set(read(written)["name"]) == set(NAMES)
    if kind != "gpkg":
        assert len(entries((tmp_path / "map.qml").read_text(encoding="utf-8"))[1]) == 3
        return
    with closing(sqlite3.connect(written)) as file:
        (row,) = file.execute("SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles")
        columns = file.execute("SELECT table_name, column_name FROM gpkg_geometry_columns").fetchall()
        assert columns == [row[:2]]  # else QGIS does not take it
        assert (row[0], row[2]) == ("map", 1)
        assert [entry[1] for entry in entries(row[3])[1]] == NAMES
        held = dict(file.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert held == {"map": "features", "layer_styles": "attributes"}
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_the_same_map_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 40_000, 0.5, 0.5))
    first, second = (write_vectors(made, kind).path.read_bytes() for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("simplify", [0.0, 1.0])
@pytest.mark.parametrize("kind", VECTOR_FORMATS)
@pytest.mark.parametrize("gsd", [0.005, 0.05, 0.3, 10.0])
def test_outlines_keep_their_areas_and_borders(kind: str, simplify: float, gsd: float, tmp_path: Path) -> None:
    """Areas recomputed from the file, on the plane of the map, against those of the pixels: within a thousandth."""
    made = write_map(tmp_path / "map.tif", blobs(60, 70), "EPSG:32636", from_origin(500_000, 4_000_000, gsd, gsd))
    frame = read(write_vectors(made, kind, simplify=simplify).path)
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    exteriors = shapely.get_exterior_ring(frame.geometry.to_numpy())
    assert shapely.is_ccw(exteriors).all() or not shapely.is_ccw(exteriors).any()
    plane = frame.to_crs(32636).area
    np.testing.assert_allclose(plane, frame["area_m2"], rtol=1e-3)
    if not simplify:
        np.testing.assert_allclose(plane, frame["pixels"] * gsd**2, rtol=1e-3)


LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
MARS = (
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447223612]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
@pytest.mark.parametrize(("crs", "pixel", "ground"), [(LOCAL, 0.5, 0.25), (MARS, 1e-3, (3.396e6 * 1.7453e-5) ** 2)])
def test_a_grid_that_lies_nowhere_on_earth(kind: str, crs: str, pixel: float, ground: float, tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), crs, from_origin(2, 1, pixel, pixel))
    frame = read(write_vectors(made, kind).path)
    assert frame["area_m2"].sum() == pytest.approx(frame["pixels"].sum() * ground, rel=0.02)
    assert frame.total_bounds == pytest.approx([2, 1 - 40 * pixel, 2 + 50 * pixel, 1], abs=pixel / 100)


def test_the_parquet_file_says_where_it_lies(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 40_000, 0.5, 0.5))
    path = write_vectors(made, "parquet").path
    column = json.loads(pq.read_metadata(path).metadata[b"geo"])["columns"]["geometry"]
    assert column["bbox"] == pytest.approx([500_000, 40_000 - 20, 500_025, 40_000])
    assert column["orientation"] == "counterclockwise"
    assert shapely.is_ccw(shapely.get_exterior_ring(read(path).geometry.to_numpy())).all()


def test_names_that_no_file_of_text_can_hold() -> None:
    assert plain_name("a\nb\t c") == "a b c"
    assert plain_name("\u202eabc") == "\\u202eabc"
    assert plain_name(" ") == "?"


@pytest.mark.parametrize("name", ["(1) town", "-rf", "#4", "gpkg_town", "~x", "'quoted", "GPKG"])
def test_polygons_of_a_map_of_any_name(tmp_path: Path, name: str) -> None:
    made = write_map(tmp_path / f"{name}.tif", blobs())
    path = write_vectors(made, "gpkg").path
    with closing(sqlite3.connect(path)) as file:
        ((table,),) = file.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchall()
        assert file.execute("SELECT f_table_name FROM layer_styles").fetchall() == [(table,)]
    assert table == f"map_{name}"
