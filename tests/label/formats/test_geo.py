from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import Affine, from_origin
from shapely import MultiPolygon, Point, Polygon, box, transform

from factories import make_picture, make_raster
from geodistill.errors import DataError, GeodistillWarning, UnknownNameError
from geodistill.label.boxes import Box
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs
from geodistill.label.tiles import annotation_files

WIDTH, HEIGHT = 100, 80


def on_the_ground(image: Path, shape: Any, crs: str = "EPSG:4326") -> Any:
    """Bring a shape from pixels of an image to a CRS."""
    with rasterio.open(image) as file:
        to_crs = pyproj.Transformer.from_crs(file.crs.to_wkt(), crs, always_xy=True)
        affine = file.transform

    def place(xy: np.ndarray) -> np.ndarray:
        at = [affine @ (x, y) for x, y in xy.tolist()]
        return np.array([to_crs.transform(x, y) for x, y in at])

    return transform(shape, place)


def save(path: Path, shapes: list[Any], crs: str | None = "EPSG:4326", **columns: list[Any]) -> Path:
    table = geopandas.GeoDataFrame(columns or {"category": ["house"] * len(shapes)}, geometry=shapes, crs=crs)
    if path.suffix == ".gpkg":
        table.to_file(path, driver="GPKG")
    else:
        table.to_file(path, driver="GeoJSON", COORDINATE_PRECISION=15)
    return path


@pytest.mark.parametrize("image_crs", ["EPSG:32636", "EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("box_crs", ["EPSG:32636", "EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_boxes_come_back_to_the_pixel_from_any_crs(tmp_path: Path, image_crs: str, box_crs: str, suffix: str) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH, crs=image_crs)
    place = save(tmp_path / f"b{suffix}", [on_the_ground(image, box(20, 10, 60, 35), box_crs)], box_crs)
    before = image.read_bytes()
    (found,) = read_boxes("geojson", place, tmp_path / "i").images[0].boxes
    assert found.box == pytest.approx((20, 10, 60, 35), abs=0.01)
    assert found.kind in ("hbox", "rbox")
    assert found.kind == "hbox" or image_crs != box_crs
    assert image.read_bytes() == before


def test_images_turned_on_the_ground(tmp_path: Path) -> None:
    turned = Affine.translation(500_000, 40_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH, transform=turned)
    place = save(tmp_path / "b.geojson", [on_the_ground(image, box(20, 10, 60, 35))])
    (found,) = read_boxes("geojson", place, tmp_path / "i").images[0].boxes
    assert found.box == pytest.approx((20, 10, 60, 35), abs=0.01)


def test_an_object_belongs_to_every_image_it_touches(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "left.tif", height=HEIGHT, width=WIDTH)
    beside = from_origin(500_000 + WIDTH / 2, 40_000, 0.5, 0.5)
    make_raster(tmp_path / "i" / "right.tif", height=HEIGHT, width=WIDTH, transform=beside)
    other = from_origin(500_000, 41_000, 0.5, 0.5)
    make_raster(tmp_path / "i" / "web.tif", height=HEIGHT, width=WIDTH, crs="EPSG:3857", transform=other)
    shapes = [on_the_ground(image, box(90, 10, 120, 35)), on_the_ground(image, box(5000, 10, 5010, 35))]
    found = read_boxes("geojson", save(tmp_path / "b.geojson", shapes), tmp_path / "i")
    boxes: dict[str, tuple[Box, ...]] = {one.key: one.boxes for one in found.images}
    assert [len(boxes[key]) for key in ("left", "right", "web")] == [1, 1, 0]
    assert boxes["left"][0].box == pytest.approx((90, 10, 120, 35), abs=0.01)
    assert boxes["right"][0].box == pytest.approx((-10, 10, 20, 35), abs=0.01)
    assert boxes["left"][0].source == boxes["right"][0].source
    assert found.unmatched == (f"{tmp_path / 'b.geojson'}:object 2",)


def test_outlines_are_true_masks_with_their_holes(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    yard = Polygon(box(10, 10, 50, 50).exterior, [box(20, 20, 30, 30).exterior])
    ell = Polygon([(60, 10), (90, 10), (90, 20), (70, 20), (70, 40), (60, 40)])
    shapes = [on_the_ground(image, shape) for shape in (yard.difference(box(10, 10, 20, 20)), ell)]
    first, second = read_boxes("geojson", save(tmp_path / "b.gpkg", shapes), tmp_path / "i").images[0].boxes
    for found, area in ((first, 1600 - 100 - 100), (second, 300 + 200)):
        assert found.kind == "polygon"
        assert found.segmentation is not None
        assert Runs.from_coco(found.segmentation).area == area
    assert first.corners.shape == (4, 2)


def test_parts_and_missing_shapes_are_accounted_for(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    two = MultiPolygon([box(10, 10, 20, 20), box(30, 30, 44, 40)])
    place = save(tmp_path / "b.gpkg", [on_the_ground(image, two), None, Polygon()])
    found = read_boxes("geojson", place, tmp_path / "i")
    assert [b.source.rpartition(":")[2] for b in found.images[0].boxes] == ["object 1, part 1", "object 1, part 2"]
    assert [name.rpartition(":")[2] for name in found.unmatched] == ["object 2 (no geometry)", "object 3 (no geometry)"]


def test_coordinates_that_are_not_finite_or_not_on_earth(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    good = on_the_ground(image, box(20, 10, 60, 35))
    lost = Polygon([(1e9, 1e9), (2e9, 1e9), (2e9, 2e9)])
    broken = Polygon([(1, 1), (np.nan, 1), (2, 2)])
    endless = Polygon([(1, 1), (np.inf, 1), (2, 2)])
    found = read_boxes("geojson", save(tmp_path / "b.gpkg", [lost, good, broken, endless]), tmp_path / "i")
    assert len(found.images[0].boxes) == 1
    assert len(found.unmatched) == 3


@pytest.mark.parametrize(("word", "read"), [("Infinity", True), ("null", True), ("NaN", True), ("1e999", False)])
def test_numbers_that_json_may_hold(tmp_path: Path, word: str, read: bool) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    place = save(tmp_path / "b.geojson", [on_the_ground(image, box(20, 10, 60, 35))])
    ring = f"[[{word}, 0], [1, 0], [1, 1], [{word}, 0]]"
    odd = '{"type": "Feature", "properties": {"category": "a"}, "geometry": {"type": "Polygon", "coordinates": [RING]}}'
    first = '"features": ['
    place.write_text(place.read_text().replace(first, first + odd.replace("RING", ring) + ","))
    if read:
        found = read_boxes("geojson", place, tmp_path / "i")
        assert len(found.images[0].boxes) == 1
        assert len(found.unmatched) == 1
    else:
        with pytest.raises(DataError, match=r"b\.geojson cannot be read"):
            read_boxes("geojson", place, tmp_path / "i")


def test_where_the_class_stands(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    shape = on_the_ground(image, box(20, 10, 60, 35))

    def categories(columns: dict[str, list[Any]], **options: Any) -> list[str]:
        place = save(tmp_path / "b.geojson", [shape], **columns)
        return [b.category for b in read_boxes("geojson", place, tmp_path / "i", **options).images[0].boxes]

    assert categories({"name": ["High Street 1"], "label": ["house"]}) == ["house"]
    assert categories({"name": ["High Street 1"], "use": ["shed"]}, category_field="use") == ["shed"]
    assert categories({"osm_id": [5]}, categories=["building"]) == ["building"]
    assert categories({"class": ["tree"]}, categories=["building"]) == [], "a column of classes is believed"
    assert categories({"CLASS": ["tree"]}) == ["tree"], "as DBF files have it"
    assert categories({"CATEGORY": ["tree"], "class": ["oak"]}) == ["oak"], "the usual name itself goes first"
    for cells in ("tree", 1, None):
        assert categories({"Class": [cells]}, categories=["building"]) == ["building"], "a single class needs none"
    with pytest.raises(UnknownNameError, match=r"unknown column 'usage'.*use"):
        categories({"use": ["shed"]}, category_field="usage")
    with pytest.raises(DataError, match=r"has the columns osm_id.*--category-field \(category_field .*single class"):
        categories({"osm_id": [5]})
    with pytest.raises(DataError, match=r"b\.geojson:object 1 has no use"):
        categories({"use": [None], "n": [1]}, category_field="use")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".parquet"])
def test_a_class_that_is_a_number_has_one_name(suffix: str, tmp_path: Path) -> None:
    """One empty cell makes a column of whole numbers one of floats."""
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    shapes = [on_the_ground(image, box(left, 10, left + 20, 35)) for left in (5, 35, 65)]
    table = geopandas.GeoDataFrame({"class": [1, 2.5, None]}, geometry=shapes, crs="EPSG:4326")
    (table.to_parquet if suffix == ".parquet" else table.to_file)(tmp_path / f"b{suffix}")
    with pytest.warns(GeodistillWarning, match="object 3 has no class"):
        read = read_boxes("geojson", tmp_path / f"b{suffix}", tmp_path / "i")
    assert read.categories == ("1", "2.5")
    table.astype({"class": "float32"}).to_parquet(tmp_path / "c.parquet")
    with pytest.warns(GeodistillWarning, match="object 3 has no class"):
        read = read_boxes("geojson", tmp_path / "c.parquet", tmp_path / "i", categories=["1"])
    assert len(read.images[0].boxes) == 1


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [(("1.0", "2.0"), [1, 1]), (("1", "2"), [1, 1]), (("1", "2.0"), [1, 1]), (("2", "2.0"), [1, 0])],
)
def test_a_class_may_be_asked_for_as_the_number_is_written(
    wanted: tuple[str, str], counts: list[int], tmp_path: Path
) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    shapes = [on_the_ground(image, box(left, 10, left + 20, 35)) for left in (5, 35)]
    place = save(tmp_path / "b.gpkg", shapes, **{"class": [1.0, 2.0]})
    (labelled,) = read_boxes("geojson", place, tmp_path / "i", categories=wanted).images
    assert [sum(one.category == name for one in labelled.boxes) for name in wanted] == counts


def test_blank_text_is_no_class(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    shapes = [on_the_ground(image, box(left, 10, left + 20, 35)) for left in (5, 35, 65)]
    place = save(tmp_path / "b.gpkg", shapes, **{"class": ["house", "", "  "]})
    with pytest.warns(GeodistillWarning, match=r"2 boxes are dropped .*object 2 has no class"):
        read = read_boxes("geojson", place, tmp_path / "i")
    assert (read.categories, len(read.unmatched)) == (("house",), 2)


def test_images_and_files_that_cannot_be_used(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    shape = on_the_ground(image, box(20, 10, 60, 35))
    place = save(tmp_path / "b.gpkg", [shape])
    for number in range(7):
        make_picture(tmp_path / "plain" / f"{number}.png", np.zeros((9, 9, 3)))
    with pytest.raises(DataError, match=r"0\.png, 1\.png.* and 2 more in .* have no place on the ground"):
        read_boxes("geojson", place, tmp_path / "plain")
    geopandas.GeoDataFrame({"category": ["a"]}, geometry=[Point(1, 2)], crs=4326).to_file(place, layer="points")
    with pytest.raises(DataError, match="2 layers"):
        read_boxes("geojson", place, tmp_path / "i")
    with pytest.raises(DataError, match="has no CRS"):
        read_boxes("geojson", save(tmp_path / "c.gpkg", [shape], crs=None), tmp_path / "i")
    with pytest.raises(DataError, match=r"d\.geojson:object 1 is a Point"):
        read_boxes("geojson", save(tmp_path / "d.geojson", [Point(30, 1)]), tmp_path / "i")
    with pytest.raises(DataError, match="difficult '7'"):
        read_boxes("geojson", save(tmp_path / "e.gpkg", [shape], category=["a"], difficult=[7]), tmp_path / "i")


def test_metres_in_a_file_that_means_degrees(tmp_path: Path) -> None:
    make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    place = save(tmp_path / "b.geojson", [box(500_010, 39_970, 500_020, 39_990)], crs=None)
    with pytest.raises(DataError) as caught:
        read_boxes("geojson", place, tmp_path / "i")
    told = str(caught.value)
    assert "span x 500010 to 500020, y 39970 to 39990 in WGS 84" in told
    assert "images span x 500000 to 500050, y 39960 to 40000 in WGS 84 / UTM zone 36N" in told
    assert "these are no degrees" in told


def test_another_place_is_told_with_both_extents(tmp_path: Path) -> None:
    make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH, crs="EPSG:4326")
    place = save(tmp_path / "b.geojson", [box(5, 6, 7, 8), None, box(1, 2, 3, 4)])
    with pytest.raises(
        DataError, match=r"span x 1 to 7, y 2 to 8 in WGS 84, images span x 30 to 30\.001, y 0\.9992 to 1"
    ):
        read_boxes("geojson", place, tmp_path / "i")


@pytest.mark.parametrize("west", [179.9995, -180.0005])
def test_images_over_the_antimeridian(tmp_path: Path, west: float) -> None:
    """100 x 80 pixels of 1e-5 degrees, of which the 50th column begins at 180 degrees."""
    make_raster(
        tmp_path / "i" / "a.tif",
        height=HEIGHT,
        width=WIDTH,
        crs="EPSG:4326",
        transform=from_origin(west, 1, 1e-5, 1e-5),
    )
    shapes = [
        box(179.9996, 0.9998, 179.9998, 0.9999),  # columns 10 to 30, rows 10 to 20
        box(-179.9999, 0.9998, -179.9997, 0.9999),  # columns 60 to 80
        Polygon([(179.9999, 0.9996), (-179.9999, 0.9996), (-179.9999, 0.9997), (179.9999, 0.9997)]),  # 40 to 60
    ]
    found = read_boxes("geojson", save(tmp_path / "b.geojson", shapes), tmp_path / "i").images[0]
    boxes = sorted(one.box for one in found.boxes)
    assert boxes == [pytest.approx(b, abs=0.01) for b in ((10, 10, 30, 20), (40, 30, 60, 40), (60, 10, 80, 20))]


@pytest.mark.parametrize("suffix", [".shp", ".fgb", ".parquet", ".geojson", ".gpkg"])
@pytest.mark.parametrize("by_name", [True, False])
def test_files_of_vectors_by_name_and_in_folders(tmp_path: Path, suffix: str, by_name: bool) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    table = geopandas.GeoDataFrame(
        {"class": ["house"]}, geometry=[on_the_ground(image, box(20, 10, 60, 35), "EPSG:3857")], crs="EPSG:3857"
    )
    place = tmp_path / "v" / f"b{suffix}"
    place.parent.mkdir()
    table.to_parquet(place) if suffix == ".parquet" else table.to_file(place)
    (found,) = read_boxes("geojson", place if by_name else place.parent, tmp_path / "i").images[0].boxes
    assert (found.category, found.box) == ("house", pytest.approx((20, 10, 60, 35), abs=0.01))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet"])
def test_parquet_that_is_none(tmp_path: Path, content: bytes) -> None:
    make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.parquet cannot be read"):
        read_boxes("geojson", tmp_path / "b.parquet", tmp_path / "i")


LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'


def test_crs_without_a_way_between_them(tmp_path: Path) -> None:
    make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH, crs=LOCAL, transform=from_origin(0, 40, 0.5, 0.5))
    with pytest.raises(DataError, match=r"the CRS of .*b\.geojson \(WGS 84\) cannot be brought to that of the images"):
        read_boxes("geojson", save(tmp_path / "b.geojson", [box(0, 0, 1, 1)]), tmp_path / "i")


def test_one_odd_feature_is_told_and_counted(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    good = on_the_ground(image, box(20, 10, 60, 35))
    line = good.exterior
    place = save(tmp_path / "b.gpkg", [good, line, good], **{"class": ["a", "a", None]})
    with pytest.warns(GeodistillWarning, match=r"2 boxes are dropped .*object 2 is a LineString"):
        found = read_boxes("geojson", place, tmp_path / "i")
    assert len(found.images[0].boxes) == 1
    assert [name.rpartition(":")[2] for name in found.unmatched] == [
        "object 2 is a LineString (cannot be used)",
        "object 3 has no class (cannot be used)",
    ]


def test_a_shapefile_is_all_its_files(tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    table = geopandas.GeoDataFrame(
        {"category": ["house"]}, geometry=[on_the_ground(image, box(20, 10, 60, 35))], crs="EPSG:4326"
    )
    (tmp_path / "b").mkdir()
    table.to_file(tmp_path / "b" / "boxes.shp")
    found = read_boxes("geojson", tmp_path / "b" / "boxes.shp", tmp_path / "i")
    before = annotation_files(found)
    for suffix in (".shp", ".dbf", ".prj", ".shx"):
        file = tmp_path / "b" / f"boxes{suffix}"
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert annotation_files(found) != before, suffix
        file.write_bytes(content)
    assert annotation_files(found) == before


@pytest.mark.parametrize(
    "outer", [[(10, 10), (50, 10), (60, 30), (50, 50), (10, 50)], [(10, 10), (58, 10), (58, 50), (10, 50)]]
)
@pytest.mark.parametrize("tile", [None, 32])
def test_a_hole_is_no_part_of_the_object(outer: list[tuple[int, int]], tile: int | None, tmp_path: Path) -> None:
    """Also where it is cut by a tile, and where the outline around it is a rectangle."""
    image = make_raster(tmp_path / "i" / "a.tif", height=HEIGHT, width=WIDTH)
    hole = [(20, 20), (20, 40), (40, 40), (40, 20)]
    place = save(tmp_path / "b.gpkg", [on_the_ground(image, Polygon(outer, [hole]), "EPSG:32636")], "EPSG:32636")
    settings = LabelSettings(
        tmp_path / "i", place, "geojson", segmenter="box", background="ground", tile=tile, share=0.01
    )
    build(settings, tmp_path / "out")
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    right = 60 - np.abs(rows - 30) / 2 if len(outer) == 5 else 58
    expected = (columns > 10) & (columns < right) & (rows > 10) & (rows < 50)
    expected &= ~((columns > 20) & (columns < 40) & (rows > 20) & (rows < 40))
    painted = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mask in (tmp_path / "out/gray").iterdir():
        top, left = map(int, mask.stem.split("_")[1:]) if tile else (0, 0)
        with rasterio.open(mask) as file:
            pixels = file.read(1)
        painted[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
    assert np.array_equal(painted == 1, expected)
    objects = json.loads((tmp_path / "out/instances.json").read_text())["annotations"]
    assert [one["changed"] for one in objects] == [[]] * len(objects)
