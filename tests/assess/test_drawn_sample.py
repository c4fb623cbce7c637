"""Points of a map: as many as asked for, even over the land, none where the model was trained, ready for QGIS."""

import sqlite3
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy.ndimage import maximum_filter, minimum_filter

from class_maps import LEGEND, blobs, write_map
from factories import make_dataset, make_raster
from geodistill.assess.draw import StratumSampler, allocate
from geodistill.assess.drawn_sample import DrawnSample, SampleOptions, draw_sample
from geodistill.assess.strata import StratumStrip, near_another
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, OutputError, RecipeError
from geodistill.raster import Window
from geodistill.spec import IGNORE_INDEX, Legend

PLACE = from_origin(500_000, 40_000, 0.5, 0.5)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_map(tmp_path / "map.tif", blobs(200, 240), "EPSG:32636", PLACE)


def draw(classes: Path, **options: object) -> tuple[DrawnSample, geopandas.GeoDataFrame]:
    sample = draw_sample(classes, classes.with_name("points.gpkg"), SampleOptions(**{"points": 300, **options}))  # type: ignore[arg-type]
    return sample, geopandas.read_file(sample.path, layer="points")


def test_points_lie_in_pixels_of_their_class(classes: Path) -> None:
    sample, points = draw(classes)
    assert list(points.columns) == ["id", "reference", "note", "stratum", "class", "row", "col", "geometry"]
    with rasterio.open(classes) as file:
        values = [int(value[0]) for value in file.sample(zip(points.geometry.x, points.geometry.y, strict=True))]
    assert points["class"].tolist() == points["stratum"].tolist() == values
    assert IGNORE_INDEX not in values
    assert len(points) == sum(sample.strata.values()) == 300
    assert not points.duplicated(["row", "col"]).any()
    assert points["reference"].isna().all()
    assert points["class"].iloc[:60].nunique() == 3  # mixed
    squares = geopandas.read_file(sample.path, layer="pixels")
    assert squares.contains(points.geometry).all()
    assert squares.area.to_numpy() == pytest.approx(0.25)
    strata = pyogrio.read_dataframe(sample.path, layer="strata", read_geometry=False)
    counts = np.bincount(blobs(200, 240).ravel(), minlength=3)[:3]
    assert strata["pixels"].tolist() == counts.tolist()
    assert strata["area_m2"].to_numpy() == pytest.approx(counts / 4)


def test_the_same_seed_draws_the_same_points_and_writes_the_same_bytes(classes: Path) -> None:
    first = draw(classes)[0].path.read_bytes()
    assert draw(classes)[0].path.read_bytes() == first
    assert draw(classes, seed=1)[0].path.read_bytes() != first


def test_a_boundary_stratum_holds_what_is_beside_another_class(classes: Path) -> None:
    sample, points = draw(classes, boundary=2)
    pixels = blobs(200, 240).astype(np.int64)
    least = minimum_filter(np.where(pixels == IGNORE_INDEX, 999, pixels), 5, mode="nearest")
    most = maximum_filter(np.where(pixels == IGNORE_INDEX, -1, pixels), 5, mode="nearest")
    beside = (least != most) & (pixels != IGNORE_INDEX)
    assert (near_another(pixels.astype(np.uint8), 2) == beside).all()
    at = beside[points["row"], points["col"]]
    assert (points["stratum"] == np.where(at, 3, points["class"])).all()
    assert sample.strata["boundary"] == at.sum() >= 50
    assert points["class"][at].nunique() == 3
    strata = pyogrio.read_dataframe(sample.path, layer="strata", read_geometry=False)
    assert strata["pixels"][strata["stratum"] == 3].sum() == beside.sum()


def test_strips_of_a_boundary_stratum_join(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(classes, boundary=3)
    whole = pyogrio.read_dataframe(classes.with_name("points.gpkg"), layer="strata", read_geometry=False)
    monkeypatch.setattr("geodistill.inference.any_map.STRIP", 7)
    draw(classes, boundary=3)
    strips = pyogrio.read_dataframe(classes.with_name("points.gpkg"), layer="strata", read_geometry=False)
    assert whole.equals(strips)


def test_what_a_person_entered_is_not_drawn_over(classes: Path) -> None:
    sample, points = draw(classes)
    for column, text in (("reference", "field"), ("note", "clouds")):
        pyogrio.write_dataframe(points.assign(**{column: [text, "", *[None] * 298]}), sample.path, layer="points")
        with pytest.raises(OutputError, match=r"points\.gpkg holds 1 interpreted point; expected a new file"):
            draw(classes)
    pyogrio.write_dataframe(points.drop(columns="geometry"), sample.path, layer="mine", append=True)
    with pytest.raises(OutputError, match="is no file that 'assess sample' wrote"):
        draw(classes)
    sample.path.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is no file that 'assess sample' wrote"):
        draw(classes)
    assert sample.path.read_text(encoding="utf-8") == "mine"


def strip(pixels: NDArray[np.uint8], areas: NDArray[np.float64]) -> StratumStrip:
    return StratumStrip(0, pixels, pixels, areas)


@pytest.mark.slow
def test_every_pixel_is_as_likely_as_its_area() -> None:
    pixels = np.zeros((3, 4), np.uint8)
    areas = np.array([[1.0], [2.0], [3.0]])
    hits = np.zeros((3, 4))
    for seed in range(3000):
        sampler = StratumSampler(1, 1, seed)
        sampler.add(strip(pixels, areas))
        drawn = sampler.drawn(0, 1)
        hits[drawn.rows, drawn.cols] += 1
    expected = np.broadcast_to(areas / (4 * areas.sum()), (3, 4)) * 3000
    assert ((hits - expected) ** 2 / expected).sum() < 31.3  # chi square of 11 degrees at 0.001


def test_points_are_allocated() -> None:
    assert allocate([20, 15, 320, 645], [10**6] * 4, 640, 75) == [82, 80, 184, 294]
    assert allocate([1, 1, 0, 98], [3, 1000, 0, 98000], 100, 10) == [3, 11, 0, 86]
    assert allocate([1, 1], [3, 4], 100, 2) == [3, 4]
    with pytest.raises(RecipeError, match="at least 20"):
        allocate([1, 1], [100, 100], 19, 10)
    assert SampleOptions(standard_error=0.01, expected=0.9).total == 900


def test_many_classes_get_the_points_that_they_need_where_no_number_is_asked_for(tmp_path: Path) -> None:
    bands = np.repeat(np.arange(8, dtype=np.uint8), 20)[:, None] * np.ones((1, 100), np.uint8)
    bands[:1] = 8  # 100 pixels of a ninth class
    made = write_map(tmp_path / "map.tif", bands, "EPSG:32636", PLACE, legend=Legend(tuple("abcdefghi")))
    sample, points = draw(made, points=None, least=200)
    assert set(sample.strata.values()) == {100, 200}
    assert len(points) == 1700
    assert len(draw(made, points=None, least=20)[1]) == SampleOptions().total == 319
    with pytest.raises(RecipeError, match="at least 1700 points"):
        draw(made, points=320, least=200)


def test_pixels_off_the_earth_get_no_points(tmp_path: Path) -> None:
    """A world map whose corners have a class."""
    full = np.zeros((90, 180), np.uint8)
    full[:, 90:] = 1
    made = write_map(tmp_path / "map.tif", full, "ESRI:54009", from_origin(-18_041_000, 9_021_000, 200_456, 200_456))
    strata = pyogrio.read_dataframe(draw(made)[0].path, layer="strata", read_geometry=False)
    assert strata["area_m2"].sum() == pytest.approx(5.1e14, rel=0.01)
    assert strata["pixels"].sum() == pytest.approx(full.size * np.pi / 4, rel=0.02)
    assert len(draw(made, points=12_500)[1]) == 12_500


def test_training_places_get_no_points(classes: Path, tmp_path: Path) -> None:
    """The second image lies in UTM zone 35, a corner of the third is validation data, the fourth is for tests."""
    make_raster(tmp_path / "a.tif", height=60, width=80, transform=PLACE @ PLACE.translation(20, 30))
    rows = [Row(tmp_path / "a.tif", None, "train", Window(0, 0, 60, 80))]
    make_raster(tmp_path / "b.tif", height=50, width=50, transform=PLACE @ PLACE.translation(150, 100))
    rows += [Row(tmp_path / "b.tif", None, "val", Window(10, 10, 20, 20))]
    rows += [Row(tmp_path / "b.tif", None, "test", Window(30, 30, 20, 20))]
    manifest = Manifest(tuple(rows), ("band1", "band2", "band3")).save(tmp_path / "manifest.parquet")
    sample, points = draw(classes, manifest=manifest.path, points=3000)
    used = np.zeros((200, 240), bool)
    used[30:90, 20:100] = used[110:130, 160:180] = True
    assert not used[points["row"], points["col"]].any()
    known = blobs(200, 240) != IGNORE_INDEX
    assert sample.left_out == pytest.approx((used & known).sum() / known.sum(), rel=0.05)
    assert "training places" in str(sample)
    strata = pyogrio.read_dataframe(sample.path, layer="strata", read_geometry=False)
    assert strata["pixels"].sum() == pytest.approx((known & ~used).sum(), rel=0.01)


def test_a_place_in_another_crs_is_where_it_is(classes: Path, tmp_path: Path) -> None:
    with rasterio.open(classes) as file:
        crs, box = file.crs, rasterio.transform.array_bounds(60, 80, PLACE @ PLACE.translation(20, 30))
    degrees = rasterio.warp.transform_bounds(crs, "EPSG:4326", *box)
    place = rasterio.transform.from_bounds(*degrees, 80, 60)
    make_raster(tmp_path / "a.tif", height=60, width=80, crs="EPSG:4326", transform=place)
    row = Row(tmp_path / "a.tif", None, "train", Window(0, 0, 60, 80))
    _, points = draw(classes, manifest=Manifest((row,), ("b",)), points=3000)
    inside = points["row"].between(31, 88) & points["col"].between(21, 98)
    assert not inside.any()
    assert (points["row"].between(26, 93) & points["col"].between(16, 103)).any()


def test_what_cannot_be_sampled_is_refused(classes: Path, tmp_path: Path) -> None:
    make_raster(tmp_path / "photo.tif", crs=None)
    photo = Manifest((Row(tmp_path / "photo.tif", None, "train", Window(0, 0, 40, 50)),), ("b",))
    with pytest.raises(DataError, match=r"photo\.tif, an image of the manifest, is not georeferenced"):
        draw(classes, manifest=photo)
    whole = make_raster(tmp_path / "all.tif", height=200, width=240, transform=PLACE)
    trained = Manifest((Row(whole, None, "train", Window(0, 0, 200, 240)),), ("b",))
    with pytest.raises(DataError, match="no pixel that a point may lie on"):
        draw(classes, manifest=trained)
    with pytest.raises(OutputError, match=r"ends in \.gpkg"):
        draw_sample(classes, tmp_path / "points.shp")
    with pytest.raises(DataError, match="3 bands of uint8; expected a map of classes"):
        draw_sample(whole, tmp_path / "points.gpkg")
    with pytest.raises(RecipeError, match="150 points"):
        draw(classes, points=140)
    odd = write_map(tmp_path / "odd.tif", np.full((10, 10), 7, np.uint8), "EPSG:32636", PLACE)
    with pytest.raises(DataError, match="pixels of value 7"):
        draw_sample(odd, tmp_path / "points.gpkg")


def test_qgis_gets_a_form_that_hides_the_map_s_class(classes: Path) -> None:
    sample, points = draw(classes)
    with sqlite3.connect(sample.path) as file:
        ((layer, geometry, text),) = file.execute("SELECT f_table_name, f_geometry_column, styleQML FROM layer_styles")
        columns = {row[1] for row in file.execute("PRAGMA table_info(points)")}
    assert layer == "points"
    assert {geometry, *points.columns} - {"geometry"} <= columns
    style = ElementTree.fromstring(text)
    widgets = {field.get("name"): field.find("editWidget") for field in style.iter("field") if len(field)}
    kinds = {name: widget.get("type") for name, widget in widgets.items() if widget is not None}
    assert kinds["reference"] == "ValueMap"
    assert {name for name, kind in kinds.items() if kind == "Hidden"} == {"stratum", "class", "row", "col"}
    named = [o.get("value") for o in style.iter("Option") if o.get("value")]
    assert named == list(LEGEND.names)


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = []
    for height in (1024, 8192):
        made = write_map(tmp_path / f"{height}.tif", blobs(height, 300), "EPSG:32636", PLACE, tiled=True)
        tracemalloc.start()
        draw(made, boundary=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_command_line_draws_and_refuses(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path / "set", 2)
    assert main(["assess", "sample", str(classes), "--out", str(tmp_path / "p.gpkg"), "--points", "200"]) == 0
    assert "200 points (field " in capsys.readouterr().out
    assert main(["assess", "sample", str(classes), "--out", str(classes)]) == 2
    assert "expected a name that ends in .gpkg" in capsys.readouterr().err


def test_a_map_of_another_maker(tmp_path: Path, classes: Path) -> None:
    with rasterio.open(classes) as file, rasterio.open(tmp_path / "cover.tif", "w", **file.profile) as plain:
        plain.write(np.where(file.read(1) < 3, file.read(1) * 10 + 10, 0).astype(np.uint8), 1)
    legend = tmp_path / "cover.yaml"
    legend.write_text("classes:\n  field: 10\n  road: 20\n  house: 30\nignore: [0]\n", encoding="utf-8")
    out = tmp_path / "cover.gpkg"
    command = ["assess", "sample", str(tmp_path / "cover.tif"), "--out", str(out), "--points", "300"]
    assert main(command) == 2
    assert main([*command, "--legend", str(legend)]) == 0
    _, ours = draw(classes)
    theirs = geopandas.read_file(out, layer="points")
    assert theirs["class"].tolist() == ours["class"].tolist()
    assert (theirs.geometry == ours.geometry).all()
