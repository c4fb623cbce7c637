"""Maps as polygon files: every format opens, lies where the map lies, and its areas are those of the pixels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from class_maps import LEGEND, blobs, hide, read, write_map
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError, OutputError, RecipeError, UnknownNameError
from geodistill.inference import map_file
from geodistill.inference.options import VECTOR_FORMATS, PredictOptions, check_vector
from geodistill.inference.predict import predict
from geodistill.inference.vector import write_vectors
from geodistill.spec import IGNORE_INDEX
from tiny import tiny_segmenter

ROTATED = Affine.translation(500_000, 40_000) @ Affine.rotation(33) @ Affine.scale(0.5, -0.5)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_every_format_opens_with_the_same_polygons(kind: str, tmp_path: Path) -> None:
    classes = blobs()
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", from_origin(500_000, 40_000, 0.5, 0.5))
    written = write_vectors(made, kind)
    frame = read(written.path)
    assert written.path == tmp_path / f"map.{kind}"
    assert written.polygons == len(frame) > 20
    assert list(frame.columns) == ["class", "name", "pixels", "area_m2", "confidence", "geometry"]
    assert frame.is_valid.all()
    assert frame.crs.to_epsg() == (4326 if kind == "geojson" else 32636)
    assert (frame["name"] == np.array(LEGEND.names)[frame["class"]]).all()
    for index in range(3):
        own = frame[frame["class"] == index]
        assert own["pixels"].sum() == (classes == index).sum()
        ground = own.to_crs(32636).area.sum()
        assert ground == pytest.approx(0.25 * (classes == index).sum(), rel=1e-3)
        assert own["area_m2"].sum() == pytest.approx(0.25 * (classes == index).sum(), rel=1e-6)
    assert frame["confidence"].isna().all()
    style = [] if kind == "gpkg" else ["map.qml"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["map.tif", f"map.{kind}", *style])


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    turn=st.floats(-180, 180),
    scale=st.tuples(st.floats(0.1, 50), st.sampled_from([-1, 1])),
    strip=st.integers(1, 50),
)
def test_areas_are_pixel_counts_for_any_transform(
    seed: int, turn: float, scale: tuple[float, int], strip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    size, direction = scale
    transform = Affine.translation(5e5, 4e6) @ Affine.rotation(turn) @ Affine.scale(size, direction * 1.5 * size)
    classes = blobs(seed=seed)
    made = write_map(tmp_path_factory.mktemp("map") / "map.tif", classes, "EPSG:32636", transform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_file, "STRIP", strip)
        frame = read(write_vectors(made, "parquet").path)
    pixel = abs(transform.determinant)
    assert frame.is_valid.all()
    for index in range(3):
        own = frame[frame["class"] == index]
        assert own.area.sum() / pixel == pytest.approx((classes == index).sum(), rel=1e-3)
        assert own["area_m2"].sum() / pixel == pytest.approx((classes == index).sum(), rel=1e-3)
    left, bottom, right, top = frame.total_bounds
    corners = [transform @ at for at in ((0, 0), (50, 0), (0, 40), (50, 40))]
    xs, ys = zip(*corners, strict=True)
    assert left >= min(xs) - 1e-6
    assert right <= max(xs) + 1e-6
    assert bottom >= min(ys) - 1e-6
    assert top <= max(ys) + 1e-6


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:4326", from_origin(30, 60, 1e-4, 1e-4)), ("EPSG:3857", from_origin(3e6, 8_399_738, 10, 10))],
)
def test_areas_are_on_the_ground_where_the_crs_distorts_them(crs: str, transform: Affine, tmp_path: Path) -> None:
    """At 60 degrees a Mercator metre is half a metre."""
    classes = np.zeros((30, 40), np.uint8)
    frame = read(write_vectors(write_map(tmp_path / "map.tif", classes, crs, transform)).path)
    outline = frame.to_crs(4326).geometry.iloc[0]
    assert frame["area_m2"].iloc[0] == pytest.approx(abs(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0]))
    if crs == "EPSG:3857":
        assert frame["area_m2"].iloc[0] == pytest.approx(classes.size * 100 / 4, rel=0.02)


@pytest.mark.parametrize("west", [200, 355, 176, -184])
def test_geojson_of_degrees_beyond_180_lies_within(west: float, tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(70, 90), "EPSG:4326", from_origin(west, 10, 0.1, 0.1))
    table = read(write_vectors(made, "geojson").path)
    assert not table.geometry.is_empty.any()
    assert table.geometry.area.sum() == pytest.approx((70 * 90 - 15) * 0.01)
    left, _, right, _ = table.total_bounds
    across = west in (176, -184)
    assert (left, right) == ((-180, 180) if across else pytest.approx((west - 360, west - 351)))


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_a_polygon_at_the_limb_of_a_full_disk_is_kept_without_an_area(kind: str, tmp_path: Path) -> None:
    """GeoJSON, which has longitudes and latitudes alone, has no place for it; beyond the limb there is none at all."""
    full = "+proj=geos +h=35785831 +lon_0=0 +ellps=GRS80 +units=m"
    classes = np.full((30, 30), IGNORE_INDEX, np.uint8)
    classes[10:20, 1:15], classes[14:16, 14:16], classes[:2, :2] = 0, 1, 2
    place = from_origin(-5_570_248, 5_570_248, 371_350, 371_350)
    made = write_map(tmp_path / "map.tif", classes, full, place)
    vectors = write_vectors(made, kind, min_area=1e6)
    held = 1 if kind == "geojson" else 2
    assert (vectors.polygons, vectors.left_out, vectors.off_earth) == (held, 0, 3 - held)
    areas = read(vectors.path).set_index("class")["area_m2"]
    assert areas.index.sort_values().to_list() == [0, 1][-held:]
    assert kind == "geojson" or np.isnan(areas[0])
    assert areas[1] == pytest.approx(4 * 371_350**2, rel=0.02)


def test_what_a_mask_hides_has_no_polygons(tmp_path: Path) -> None:
    classes, hidden = blobs(), np.zeros((40, 50), bool)
    hidden[10:30, 20:] = True
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", from_origin(500_000, 40_000, 0.5, 0.5))
    frame = read(write_vectors(hide(made, hidden)).path)
    counts = [frame.loc[frame["class"] == index, "pixels"].sum() for index in range(3)]
    assert counts == np.bincount(classes[~hidden], minlength=3)[:3].tolist()


def test_feet_become_square_metres(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", np.zeros((10, 10), np.uint8), "EPSG:2263", from_origin(9e5, 2e5, 1, 1))
    frame = read(write_vectors(made).path)
    assert frame["area_m2"].sum() == pytest.approx(100 * 0.3048006096**2)


def test_control_points_place_the_polygons(tmp_path: Path) -> None:
    corners = ((0, 0, 30.0, 50.0), (0, 50, 30.5, 50.0), (40, 0, 30.0, 49.6), (40, 50, 30.5, 49.6))
    points = [GroundControlPoint(row, col, x, y) for row, col, x, y in corners]
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:4326", gcps=points)
    frame = read(write_vectors(made).path)
    assert frame.crs.to_epsg() == 4326
    np.testing.assert_allclose(frame.total_bounds, [30.0, 49.6, 30.5, 50.0], atol=1e-6)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_that_lies_nowhere_has_pixels_and_no_square_metres(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs())
    frame = read(write_vectors(made, "fgb", min_area=20).path)
    assert frame.crs is None
    assert frame["area_m2"].isna().all()
    assert frame["pixels"].min() >= 20


def test_smaller_polygons_are_left_out_and_counted(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", ROTATED)
    whole = write_vectors(made)
    some = write_vectors(made, min_area=10.0)
    frame = read(some.path)
    assert frame["area_m2"].min() >= 10.0
    assert some.left_out > 0
    assert some.polygons + some.left_out == whole.polygons


def test_a_map_without_data_gives_an_empty_file(tmp_path: Path) -> None:
    classes = np.full((5, 6), IGNORE_INDEX, np.uint8)
    for kind in VECTOR_FORMATS:
        made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", ROTATED)
        assert len(read(write_vectors(made, kind).path)) == 0


def test_what_is_no_map_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no legend"):
        write_vectors(make_raster(tmp_path / "photo.tif"))
    with pytest.raises(UnknownNameError, match="unknown vector format 'shp'"):
        PredictOptions(vector="shp")
    with pytest.raises(RecipeError, match="simplify -1"):
        PredictOptions(vector="gpkg", simplify=-1)
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", ROTATED)
    with pytest.raises(OutputError):
        write_vectors(made, path=tmp_path / "photo.tif" / "out.gpkg")


@pytest.mark.parametrize("kind", ["gpkg", "parquet"])
def test_a_corrupt_map_is_told_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(600, 600), "EPSG:32636", ROTATED, tiled=True, compress="deflate")
    data = bytearray(made.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    made.write_bytes(data)
    with pytest.raises(DataError, match=r"map\.tif"):
        write_vectors(made, kind)
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


@pytest.mark.usefixtures("tiny_models")
def test_predict_writes_polygons_with_their_confidence(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif", height=60, width=70, nodata=0)
    made = predict(tiny_segmenter(), [scene], tmp_path / "map.tif", PredictOptions(vector="gpkg"))[0]
    assert made.vectors == tmp_path / "map.gpkg"
    frame = read(made.vectors)
    with rasterio.open(made.path) as file, rasterio.open(made.confidence) as sure:
        classes, confidence = file.read(1), sure.read(1)
    assert frame["confidence"].between(1 / 3, 1).all()
    for index in range(3):
        own = frame[frame["class"] == index]
        assert own["pixels"].sum() == (classes == index).sum()
        mean = np.average(own["confidence"], weights=own["pixels"])
        assert mean == pytest.approx(confidence[classes == index].mean() / 250)


@pytest.mark.usefixtures("tiny_models")
def test_the_command_line_writes_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_raster(tmp_path / "scene.tif")
    tiny_segmenter().save(tmp_path / "model")
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*command, "--vector", "geojson", "--min-area", "0.5", "--simplify", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)[0]
    frame = read(Path(told["vectors"]))
    assert len(frame) > 0
    assert pd.api.types.is_integer_dtype(frame["class"])
    assert f"{len(frame)} polygons" in told["chosen"]
    assert main([*command, "--simplify", "1"]) == 2
    assert "without --vector" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"min_area": -1.0}, {"min_area": float("nan")}, {"simplify": float("inf")}])
def test_a_number_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="at least 0"):
        check_vector("gpkg", **{"min_area": 0.0, "simplify": 0.0} | wrong)
