"""From interpreted points to hectares: what was drawn and interpreted is read back, and what is amiss is refused."""

import json
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin

from class_maps import LEGEND, blobs, hide, write_map
from factories import make_raster
from geodistill.assess.drawn_sample import SampleOptions, draw_sample
from geodistill.assess.estimate import estimate_areas
from geodistill.cli import main
from geodistill.errors import DataError
from geodistill.spec import IGNORE_INDEX, Legend

PLACE = from_origin(500_000, 40_000, 10, 10)


def interpret(points: Path, truth: NDArray[np.uint8], known: int | None = None) -> None:
    """Fill the column reference as a person would, in place."""
    frame = geopandas.read_file(points, layer="points")
    names = np.array([*LEGEND.names, *["?"] * 253], object)[truth[frame["row"], frame["col"]]]
    frame["reference"] = pd.Series(names, dtype="object")
    if known is not None:
        frame.loc[known:, "reference"] = None
    pyogrio.write_dataframe(frame, points, layer="points")


def disturbed(share: float) -> NDArray[np.uint8]:
    """What is on the ground where a share of the map is wrong at random."""
    rng, mapped = np.random.default_rng(8), blobs(300, 400)
    return np.where(rng.random(mapped.shape) < share, rng.integers(0, 3, mapped.shape), mapped).astype(np.uint8)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    made = write_map(tmp_path / "map.tif", blobs(300, 400), "EPSG:32636", PLACE)
    draw_sample(made, tmp_path / "points.gpkg", SampleOptions(points=900, boundary=1, seed=5))
    return tmp_path / "points.gpkg"


def test_a_right_map_has_its_own_areas(points: Path) -> None:
    mapped = blobs(300, 400)
    interpret(points, mapped)
    estimate = estimate_areas(points)
    assert estimate.unit == "m2"
    assert estimate.estimates.overall.value == 1
    pixels = np.bincount(mapped[mapped < 3])
    assert estimate.mapped == pytest.approx(pixels * 100)
    assert estimate.area == pytest.approx(pixels.sum() * 100)
    for row, count in zip(estimate.rows(), pixels, strict=True):
        # The boundary stratum holds all classes, whose shares of it are estimated.
        assert row["area_low"] <= count * 100 <= row["area_high"]
        assert row["user"] == row["producer"] == 1


def test_a_wrong_map_has_areas_within_their_intervals(points: Path) -> None:
    truth = disturbed(0.3)
    known = blobs(300, 400) < 3
    interpret(points, truth)
    estimate = estimate_areas(points)
    for index, row in enumerate(estimate.rows()):
        true = (truth[known] == index).sum() * 100
        assert abs(row["area"] - true) < 3 * row["area_se"]
    overall = (truth == blobs(300, 400))[known].mean()
    assert estimate.estimates.overall.value == pytest.approx(overall, abs=0.05)


def test_another_map_is_assessed_by_the_same_points(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = disturbed(0.3)
    interpret(points, truth)
    other = write_map(tmp_path / "other.tif", truth, "EPSG:32636", PLACE)
    estimate = estimate_areas(points, other_map=other)
    assert estimate.estimates.overall.value == 1
    assert np.isnan(estimate.mapped).all()
    assert "-" in str(estimate)
    foreign, legend = tmp_path / "cover.tif", tmp_path / "cover.yaml"
    with rasterio.open(other) as file:
        profile = file.profile
    with rasterio.open(foreign, "w", **profile) as plain:
        plain.write(np.where(truth < 3, truth * 10 + 10, 0).astype(np.uint8), 1)
    legend.write_text("classes:\n  field: 10\n  road: 20\n  house: 30\nignore: [0]\n", encoding="utf-8")
    command = ["assess", "estimate", str(points), "--legend", str(legend), "--json"]
    capsys.readouterr()
    assert main([*command, "--map", str(foreign)]) == 0
    assert json.loads(capsys.readouterr().out) == estimate.to_dict()
    assert main(command) == 2, "a legend without a map"
    elsewhere = write_map(tmp_path / "far.tif", truth, "EPSG:32636", from_origin(900_000, 40_000, 10, 10))
    with pytest.raises(DataError, match=r"900 points lie where .*far\.tif has no data"):
        estimate_areas(points, other_map=elsewhere)


def test_beyond_a_turned_map_there_is_no_class(points: Path, tmp_path: Path) -> None:
    interpret(points, blobs(300, 400))
    turned = write_map(tmp_path / "turned.tif", blobs(300, 400) % 3, "EPSG:32636", PLACE @ Affine.rotation(30))
    frame = geopandas.read_file(points, layer="points")
    # Both have one corner; from there its upper edge, 4 km long, runs down by 30 degrees.
    east, south, angle = frame.geometry.x - 500_000, 40_000 - frame.geometry.y, np.pi / 6
    above, behind = south < east * np.tan(angle), east * np.cos(angle) + south * np.sin(angle) > 4000
    beyond = int((above | behind).sum())
    assert 0 < beyond < 900
    with pytest.raises(DataError, match=rf"{beyond} points lie where .*turned\.tif has no data"):
        estimate_areas(points, other_map=turned)


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_mask_hides_has_no_points_and_no_class(points: Path, tmp_path: Path, inside: bool) -> None:
    hidden = np.zeros((300, 400), bool)
    hidden[:150, 100:] = True
    shown = hide(write_map(tmp_path / "shown.tif", blobs(300, 400), "EPSG:32636", PLACE), hidden, inside=inside)
    frame = geopandas.read_file(points, layer="points")
    interpret(points, blobs(300, 400))
    lost = int(hidden[frame["row"], frame["col"]].sum())
    with pytest.raises(DataError, match=rf"{lost} points lie where .*shown\.tif has no data"):
        estimate_areas(points, other_map=shown)
    draw_sample(shown, tmp_path / "fewer.gpkg", SampleOptions(points=300))
    fewer = geopandas.read_file(tmp_path / "fewer.gpkg", layer="points")
    assert not hidden[fewer["row"], fewer["col"]].any()
    interpret(tmp_path / "fewer.gpkg", blobs(300, 400))
    counts = np.bincount(blobs(300, 400)[~hidden], minlength=256)[:3]
    assert estimate_areas(tmp_path / "fewer.gpkg").mapped == pytest.approx(counts * 100)


def test_another_map_may_number_its_classes_otherwise(points: Path, tmp_path: Path) -> None:
    truth = disturbed(0.3)
    interpret(points, blobs(300, 400))
    other = write_map(tmp_path / "other.tif", truth, "EPSG:32636", PLACE)
    order = np.array([2, 0, 1, *[IGNORE_INDEX] * 253], np.uint8)[truth]
    legend = Legend(("road", "house", "field"))
    turned = write_map(tmp_path / "turned.tif", order, "EPSG:32636", PLACE, legend=legend)
    expected = estimate_areas(points, other_map=other)
    assert estimate_areas(points, other_map=turned).to_dict() == expected.to_dict()
    strange = write_map(tmp_path / "strange.tif", truth, "EPSG:32636", PLACE, legend=Legend(("road", "house", "sea")))
    with pytest.raises(DataError, match="has the classes road, house, sea"):
        estimate_areas(points, other_map=strange)


def test_points_that_are_left_out_may_lie_outside_another_map(points: Path, tmp_path: Path) -> None:
    interpret(points, blobs(300, 400), known=700)
    frame = geopandas.read_file(points, layer="points").iloc[700:]
    part = blobs(300, 400)
    part[frame["row"], frame["col"]] = IGNORE_INDEX
    other = write_map(tmp_path / "other.tif", part, "EPSG:32636", PLACE)
    estimate = estimate_areas(points, other_map=other, partial=True)
    assert (estimate.points, estimate.estimates.overall.value) == (700, 1)


def test_points_must_be_interpreted(points: Path) -> None:
    with pytest.raises(DataError, match=r"900 of 900 points .* are not interpreted"):
        estimate_areas(points)
    interpret(points, blobs(300, 400), known=700)
    with pytest.raises(DataError, match="200 of 900 points"):
        estimate_areas(points)
    assert estimate_areas(points, partial=True).points == 700
    interpret(points, blobs(300, 400), known=3)
    with pytest.raises(DataError, match="interpreted points; expected two or more"):
        estimate_areas(points, partial=True)
    interpret(points, np.full((300, 400), 9, np.uint8))
    with pytest.raises(DataError, match=r"reference \?"):
        estimate_areas(points)


def test_the_names_that_the_form_offers_are_the_classes(tmp_path: Path) -> None:
    mapped = blobs(300, 400)
    legend = Legend(("bare  soil", "forest ", "water\x07"))
    made = write_map(tmp_path / "map.tif", mapped, "EPSG:32636", PLACE, legend=legend)
    points = tmp_path / "points.gpkg"
    draw_sample(made, points, SampleOptions(points=300))
    frame = geopandas.read_file(points, layer="points")
    with sqlite3.connect(points) as file:
        ((style,),) = file.execute("SELECT styleQML FROM layer_styles")
    offered = [option.get("value") for option in ElementTree.fromstring(style).iter("Option") if option.get("value")]
    for names in (offered, legend.names):
        frame["reference"] = np.array(names, object)[frame["class"]]
        pyogrio.write_dataframe(frame, points, layer="points")
        assert estimate_areas(points).estimates.overall.value == 1
    alike = write_map(tmp_path / "alike.tif", mapped, "EPSG:32636", PLACE, legend=Legend(("a b", "a  b", "c")))
    with pytest.raises(DataError, match="two classes that are shown as 'a b'"):
        draw_sample(alike, tmp_path / "alike.gpkg")


def test_what_is_no_sample_is_refused(points: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a sample"):
        estimate_areas(tmp_path / "none.gpkg")
    with pytest.raises(DataError, match="cannot be read as a sample"):
        estimate_areas(make_raster(tmp_path / "photo.tif"))
    frame = geopandas.read_file(points, layer="points")
    pyogrio.write_dataframe(frame.drop(columns="stratum"), points, layer="points")
    with pytest.raises(DataError, match="no column stratum"):
        estimate_areas(points)
    frame.loc[5, "class"] = 40
    pyogrio.write_dataframe(frame, points, layer="points")
    with pytest.raises(DataError, match="beyond its 3 classes"):
        estimate_areas(points)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_map_without_a_place_is_counted_in_pixels(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(300, 400))
    draw_sample(made, tmp_path / "points.gpkg", SampleOptions(points=400))
    interpret(tmp_path / "points.gpkg", blobs(300, 400))
    estimate = estimate_areas(tmp_path / "points.gpkg")
    assert estimate.unit == "pixels"
    assert estimate.area == (blobs(300, 400) < 3).sum()
    assert "area pixels" in str(estimate)


def test_degrees_are_weighed_by_their_ground(tmp_path: Path) -> None:
    """A class in the north of a map in degrees has smaller pixels: its share is that of the ground."""
    classes = np.zeros((300, 300), np.uint8)
    classes[150:] = 1
    made = write_map(tmp_path / "map.tif", classes, "EPSG:4326", from_origin(10, 80, 0.1, 0.1))
    draw_sample(made, tmp_path / "points.gpkg", SampleOptions(points=400))
    interpret(tmp_path / "points.gpkg", classes)
    estimate = estimate_areas(tmp_path / "points.gpkg")
    south, middle, north = np.sin(np.radians([50, 65, 80]))
    assert estimate.estimates.area.value[0] == pytest.approx((north - middle) / (north - south), rel=3e-3)


def test_the_command_line_prints_and_writes(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interpret(points, disturbed(0.2))
    csv = tmp_path / "areas.csv"
    assert main(["assess", "estimate", str(points), "--csv", str(csv)]) == 0
    text = capsys.readouterr().out
    assert "overall accuracy 0.8" in text
    assert "area ha ± 95 %" in text
    table = pd.read_csv(csv)
    assert table["name"].tolist() == list(LEGEND.names)
    assert main(["assess", "estimate", str(points), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["classes"][0]["area"] == pytest.approx(table["area"][0])
    assert main(["assess", "estimate", str(points), "--csv", str(points)]) == 2
