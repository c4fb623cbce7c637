"""Objects of a map: their figures, the same bytes for any strips, flat memory, and the command that writes them."""

import json
import tracemalloc
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.transform import Affine, from_origin
from scipy.ndimage import label

from class_maps import LEGEND, blobs, read, write_map
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.inference.objects import parts
from geodistill.inference.objects.chosen import find_classes
from geodistill.inference.objects.parts import LARGE, TRACED
from geodistill.inference.objects.write_objects import write_objects
from geodistill.inference.options import VECTOR_FORMATS, PredictOptions
from geodistill.inference.predict import outputs_of
from geodistill.inference.vector import write_vectors
from geodistill.spec import IGNORE_INDEX, Legend
from tiny import tiny_networks, tiny_segmenter

PLACE = from_origin(500_000, 40_000, 0.5, 0.5)


def village(height: int = 300, width: int = 200, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return classes and confidence of houses in a field, a third of them two that touch at a doubtful wall."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((height, width), np.uint8)
    sure = np.full((height, width), 240, np.uint8)
    for top in range(6, height - 30, 30):
        for left in range(6, width - 50, 50):
            rows = slice(top + int(rng.integers(0, 4)), top + int(rng.integers(14, 22)))
            middle = left + int(rng.integers(14, 18))
            classes[rows, left:middle] = 2
            if rng.random() < 0.34:
                classes[rows, middle : middle + 15] = 2
                sure[rows, middle - 1 : middle + 1] = 120
    classes[rng.random(classes.shape) < 0.002] = 1
    classes[:3, :4], sure[:3, :4] = IGNORE_INDEX, IGNORE_INDEX
    return classes, sure


def write(folder: Path, crs: str | None = "EPSG:32636", place: Affine = PLACE, **more: object) -> tuple[Path, Path]:
    classes, sure = village(**more)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    made = write_map(folder / "map.tif", classes, crs, place if crs else None, tiled=True)
    return made, write_map(folder / "map_confidence.tif", sure, crs, place if crs else None, tiled=True)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_every_format_opens_with_the_figures_of_each_object(kind: str, tmp_path: Path) -> None:
    made, confidence = write(tmp_path)
    written = write_objects(made, ["house"], kind, confidence=confidence, min_area=2.0)
    frame = read(written.path)
    assert written.path == tmp_path / f"map_objects.{kind}"
    assert len(frame) == written.objects > label(village()[0] == 2)[1]
    columns = ["id", "class", "name", "pixels", "area_m2", "perimeter_m", "confidence", "confidence_min", "status"]
    assert list(frame.columns) == [*columns, "geometry"]
    assert sorted(frame["id"]) == list(range(1, len(frame) + 1))
    assert (frame["name"] == "house").all()
    ground = frame.to_crs(32636)
    assert ground.is_valid.all()
    assert frame["area_m2"].to_numpy() == pytest.approx(ground.area.to_numpy(), rel=1e-3)
    assert frame["area_m2"].to_numpy() == pytest.approx(frame["pixels"].to_numpy() / 4, rel=1e-6)
    assert frame["perimeter_m"].to_numpy() == pytest.approx(ground.length.to_numpy(), rel=1e-3)
    assert (frame["confidence_min"] <= frame["confidence"]).all()
    assert set(frame["confidence_min"].round(3)) <= {0.48, 0.96}
    assert (frame["area_m2"] >= 2).all()
    assert (frame["status"] == TRACED).all()


def test_figures_are_those_of_the_pixels_below(tmp_path: Path) -> None:
    made, confidence = write(tmp_path)
    frame = read(write_objects(made, ["house"], "parquet", confidence=confidence).path)
    classes, sure = village()
    covered = np.zeros(classes.shape, int)
    for _, one in frame.iterrows():
        outline = shapely.transform(one.geometry, lambda xy: (xy - [500_000, 40_000]) * [2, -2])
        inside = geometry_pixels(outline, classes.shape)
        covered += inside
        assert inside.sum() == one["pixels"]
        assert (classes[inside] == 2).mean() > 0.95  # holes of a pixel are filled
        assert one["confidence"] == pytest.approx(sure[inside].mean() / 250)
        assert one["confidence_min"] == pytest.approx(sure[inside].min() / 250)
    assert covered.max() == 1
    assert (covered[classes == 2] == 1).all()


def geometry_pixels(outline: shapely.Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return shapely.contains_xy(outline, cols + 0.5, rows + 0.5)


def test_objects_cut_by_strips_are_the_same_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for strip in (512, 64, 7):
        monkeypatch.setattr("geodistill.inference.map_file.STRIP", strip)
        made, confidence = write(tmp_path / str(strip))
        how = {"squared": ["house"], "min_area": 3.0, "confidence": confidence}
        files.append(write_objects(made, ["house", "road"], "gpkg", **how).path.read_bytes())  # type: ignore[arg-type]
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_an_object_at_the_limb_is_left_out_of_geojson_alone(kind: str, tmp_path: Path) -> None:
    full = "+proj=geos +h=35785831 +lon_0=0 +ellps=GRS80 +units=m"
    classes = np.zeros((30, 30), np.uint8)
    classes[14:16, 14:16] = classes[22:27, 22:28] = 2
    place = from_origin(-5_570_248, 5_570_248, 371_350, 371_350)
    written = write_objects(write_map(tmp_path / "map.tif", classes, full, place), ["house"], kind)
    held = 1 if kind == "geojson" else 2
    assert (written.objects, written.off_earth) == (held, 2 - held)
    assert np.isnan(read(written.path)["area_m2"]).sum() == held - 1


def test_right_angles_are_for_the_classes_named(tmp_path: Path) -> None:
    made, confidence = write(tmp_path)
    written = write_objects(made, ["house", "road"], squared=["house"], confidence=confidence, min_area=3.0)
    frame = geopandas.read_file(written.path, layer="map_objects")
    assert written.squared == (frame["status"] == "right angles").sum() > 0.8 * (frame["class"] == 2).sum()
    assert (frame["status"][frame["class"] == 1] == TRACED).all()
    with pytest.raises(UnknownNameError, match="unknown class 'hut'"):
        find_classes(LEGEND, ["hut"])
    with pytest.raises(RecipeError, match="right angles for road"):
        find_classes(LEGEND, ["house"], ["road"])


def test_a_boundary_class_parts_objects(tmp_path: Path) -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[5:30, 5:55] = 1
    classes[5:30, 29:31] = classes[5, 5:55] = 2
    legend = Legend(("ground", "field", "Boundary"))
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", PLACE, legend)
    frame = read(write_objects(made, ["field"], "fgb").path)
    assert len(frame) == 2
    assert frame["pixels"].sum() == (classes > 0).sum()
    assert (frame["name"] == "field").all()
    assert find_classes(legend, ["field", "Boundary"]).boundary is None


def test_holes_under_a_boundary_class_are_filled_too(tmp_path: Path) -> None:
    """A hole in one of two objects, another at their boundary nearer to the right one, and a third that is large."""
    classes = np.zeros((40, 60), np.uint8)
    classes[5:30, 5:55] = 1
    classes[5:30, 29] = 2
    classes[8:10, 10:13] = classes[16:18, 30:32] = classes[20:24, 40:45] = 0
    made = write_map(tmp_path / "map.tif", classes, None, None, Legend(("ground", "field", "boundary")))
    frame = read(write_objects(made, ["field"], "fgb", min_area=20).path)
    frame = frame.iloc[frame.bounds["minx"].argsort()]
    assert [len(one.interiors) for one in frame.geometry] == [0, 1]
    # Most of the boundary lies as near to both; its two pixels beside the hole at the right are the left one's.
    left, right = frame["pixels"]
    assert 24 * 25 + 2 <= left <= 25 * 25
    assert left + right == 25 * 50 - 20


def test_areas_and_lengths_in_degrees_are_those_of_the_ground(tmp_path: Path) -> None:
    place = from_origin(10, 60, 2e-5, 1e-5)
    made, _ = write(tmp_path, "EPSG:4326", place)
    frame = read(write_objects(made, ["house"], "parquet", min_area=2.0).path)
    geod = Geod(ellps="WGS84")
    for _, one in frame.head(5).iterrows():
        area, _ = geod.geometry_area_perimeter(one.geometry)
        assert one["area_m2"] == pytest.approx(abs(area))
        assert one["perimeter_m"] == pytest.approx(geod.geometry_length(one.geometry.boundary))
    assert frame["confidence"].isna().all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("side", [0.01, 0.1, 0.3, 0.5])
def test_an_object_of_exactly_the_least_area_stays(side: float, tmp_path: Path) -> None:
    classes = np.zeros((120, 120), np.uint8)
    corners = [(row, col) for row in range(10, 110, 30) for col in range(10, 110, 30)]
    for row, col in corners:
        classes[row : row + 10, col : col + 10] = 2
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32633", from_origin(412_345.6, 5_412_345.6, side, side))
    objects = write_objects(made, ["house"], min_area=100 * side**2)
    polygons = write_vectors(made, min_area=100 * side**2, skip=[0])
    assert (objects.objects, polygons.polygons) == (len(corners), len(corners))
    assert write_objects(made, ["house"], min_area=100.1 * side**2).objects == 0


def test_a_map_without_a_place_has_pixels(tmp_path: Path) -> None:
    made, confidence = write(tmp_path, None)
    frame = read(write_objects(made, ["house"], "fgb", confidence=confidence, min_area=9).path)
    assert frame["area_m2"].isna().all()
    assert frame["pixels"].min() >= 9


def test_a_region_too_large_to_look_into_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_PIXELS", 300)
    made, confidence = write(tmp_path)
    frame = read(write_objects(made, ["house"], "fgb", confidence=confidence).path)
    assert (frame["status"] == LARGE).any()
    assert (frame["status"] == TRACED).any()
    assert frame["confidence"].between(0, 1).all()


def test_a_large_region_with_boundaries_has_the_class_of_most_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each region is told by the labels of scipy; one of boundary alone is no object."""
    monkeypatch.setattr(parts, "MOST_PIXELS", 0)
    monkeypatch.setattr(parts, "STRIP", 7)
    classes = np.random.default_rng(4).choice(4, (60, 80), p=(0.4, 0.15, 0.2, 0.25)).astype(np.uint8)
    made = write_map(tmp_path / "map.tif", classes, "EPSG:32636", PLACE, Legend(("ground", "house", "tree", "edge")))
    frame = read(write_objects(made, ["house", "tree"], "fgb").path)
    regions, count = label(classes > 0)
    votes = [[((regions == number) & (classes == kind)).sum() for kind in (1, 2, 3)] for number in range(1, count + 1)]
    expected = [(1 if house >= tree else 2, house + tree + edge) for house, tree, edge in votes if house + tree]
    assert count > len(expected)
    assert {kind for kind, _ in expected} == {1, 2}
    assert sorted(zip(frame["class"], frame["pixels"], strict=True)) == sorted(expected)
    assert (frame["status"] == LARGE).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = []
    for height in (768, 3072):
        made, confidence = write(tmp_path / str(height), height=height)
        tracemalloc.start()
        write_objects(made, ["house"], "parquet", squared=["house"], confidence=confidence)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_corrupt_map_leaves_nothing(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(600, 600), "EPSG:32636", PLACE, tiled=True, compress="deflate")
    data = bytearray(made.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    made.write_bytes(data)
    with pytest.raises(DataError, match=r"map\.tif"):
        write_objects(made, ["house"])
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


@pytest.mark.slow
def test_predict_writes_them_and_knows_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_raster(tmp_path / "scene.tif")
    with tiny_networks():
        tiny_segmenter().save(tmp_path / "model")
        command = ["predict", str(scene), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "map.tif")]
        assert main([*command, "--vector", "fgb", "--objects", "c1", "--right-angles", "c1", "--json"]) == 0
        about = json.loads(capsys.readouterr().out)[0]
        frame = geopandas.read_file(about["objects"])
        assert f"{len(frame)} objects, " in about["chosen"]
        assert (frame["class"] == 1).all()
        assert main([*command, "--objects", "c1"]) == 2
        assert main([*command, "--vector", "gpkg", "--right-angles", "c1"]) == 2
        assert main([*command, "--vector", "gpkg", "--objects", "house"]) == 2
    written = {path.name for path in outputs_of(tmp_path / "map.tif", PredictOptions(vector="fgb", objects=("c1",)))}
    assert "map_distance.tif" in written  # of a model with a distance head
    assert written - {"map_distance.tif"} == {path.name for path in tmp_path.iterdir()} - {"scene.tif", "model"}
    with pytest.raises(RecipeError, match="objects without a vector format"):
        PredictOptions(objects=("c1",))
