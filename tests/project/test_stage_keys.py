"""What a stage's key is made of: a file from outside counts with every file that its content rests on."""

import json
from pathlib import Path

import pytest
import rasterio

from factories import make_raster
from geodistill.data.manifest import Manifest, Row
from geodistill.project.fingerprints import Fingerprints
from geodistill.project.project_file import read_project
from geodistill.project.run_project import run_project
from geodistill.project.stage_keys import KeyParts, key_parts
from geodistill.project.wiring import wire
from geodistill.raster import Window
from projects import StubStages, write_town

LABEL = "label: {{images: images, boxes: {}, format: geojson}}\n"
SCAN = "scan: {images: images, masks: images}\n"
PREDICT = "scan: {images: images, masks: images}\nteacher: {recipe: supervised-folder}\n"
PREDICT += "predict: {scenes: scene.tif, aoi: area.shp}\n"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> StubStages:
    return StubStages(monkeypatch)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def plan(town: Path) -> dict[str, tuple[str, str]]:
    plans = run_project(town, dry=True, say=lambda line: None)
    return {name: (each["state"], each["reason"]) for name, each in plans.items()}


def run(town: Path) -> None:
    run_project(town, say=lambda line: None)


@pytest.mark.parametrize(
    ("text", "main", "part", "stage", "place"),
    [
        (LABEL.format("poly.shp"), "poly.shp", "poly.dbf", "label", "poly.shp"),
        (LABEL.format("poly.SHP"), "poly.SHP", "poly.CPG", "label", "poly.SHP"),
        (LABEL.format("poly.tab"), "poly.tab", "poly.dat", "label", "poly.tab"),
        (LABEL.format("poly.gpkg"), "poly.gpkg", "poly.gpkg-wal", "label", "poly.gpkg"),
        (LABEL.format("boxes.json"), "images/c.vrt", "raw/c.tif", "label", "images"),
        (SCAN, "images/c.vrt", "raw/c.tif", "scan", "images"),
        (PREDICT, "area.shp", "area.prj", "predict", "area.shp"),
        ("scan: {images: images}\n", "masks/c.vrt", "raw/c.tif", "scan", "masks beside the images"),
    ],
)
def test_the_files_that_a_file_rests_on_count(
    tmp_path: Path, stages: StubStages, text: str, main: str, part: str, stage: str, place: str
) -> None:
    town = write_town(tmp_path, text)
    write(tmp_path / main, "<VRTDataset><SourceFilename relativeToVRT='1'>../raw/c.tif</SourceFilename></VRTDataset>")
    write(tmp_path / part, "before")
    run(town)
    assert {state for state, _ in plan(town).values()} == {"unchanged"}
    write(tmp_path / part, "after")
    assert plan(town)[stage] == ("runs", f"{place} has changed")


def test_the_images_of_a_manifest_count_with_what_they_rest_on(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, "evaluate: {data: set.parquet, model: owner/name}\n")
    row = Row(tmp_path / "images" / "a.tif", None, "test", Window(0, 0, 8, 8))
    Manifest((row,), ("red",)).save(tmp_path / "set.parquet")
    run(town)
    write(tmp_path / "images" / "a.tfw", "1 0 0 -1 0 0")
    assert plan(town)["evaluate"] == ("runs", "set.parquet has changed")


def test_statistics_that_viewers_write_beside_an_image_alter_nothing(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, "evaluate: {data: set.parquet, model: owner/name}\n")
    image, side = tmp_path / "images" / "a.tif", tmp_path / "images" / "a.tif.aux.xml"
    make_raster(image, crs=None)
    Manifest((Row(image, None, "test", Window(0, 0, 8, 8)),), ("red",)).save(tmp_path / "set.parquet")
    run(town)
    measure(image)
    assert "STATISTICS_MEAN" in side.read_text(encoding="utf-8")
    assert plan(town)["evaluate"][0] == "unchanged"
    text = "<PAMDataset>{}<PAMRasterBand band='1'><Histograms>\n<HistItem/></Histograms></PAMRasterBand>\n</PAMDataset>"
    write(side, text.format(""))
    assert plan(town)["evaluate"][0] == "unchanged"
    place = "\n  <GeoTransform> 0, 1, 0, 0, 0, -1</GeoTransform>"
    write(side, f"<PAMDataset>{place}\n</PAMDataset>\n")
    assert plan(town)["evaluate"] == ("runs", "set.parquet has changed")
    run(town)
    write(side, text.format(place) + "\n")
    assert plan(town)["evaluate"][0] == "unchanged"
    write(side, text.format(place.replace("1", "2")) + "\n")
    assert plan(town)["evaluate"] == ("runs", "set.parquet has changed")


def measure(image: Path) -> None:
    """Have GDAL measure an image and write that beside it, as viewers do."""
    with rasterio.open(image) as file:
        file.statistics(1)


def test_an_index_a_style_or_a_neighbour_of_the_same_name_alters_nothing(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, LABEL.format("poly.shp"))
    write(tmp_path / "poly.shp", "shapes")
    run(town)
    for end in (".qix", ".sbn", ".qmd", ".qml", ".shp.machine.1.2.sr.lock", ".tif"):
        write(tmp_path / f"poly{end}", "other")
    assert plan(town)["label"][0] == "unchanged"


def test_plain_files_and_folders_have_the_fingerprint_of_their_content(tmp_path: Path) -> None:
    town = write_town(tmp_path / "project", LABEL.format("../project/boxes.json"))
    project, fingerprints = read_project(town), Fingerprints(tmp_path / "memo.json")
    parts = key_parts(project, wire(project)["label"], {}, fingerprints)
    places = {"images": town.parent / "images", "../project/boxes.json": town.parent / "boxes.json"}
    assert parts.files == {name: fingerprints.of_path(place) for name, place in places.items()}


def test_a_result_of_before_they_counted_stays_and_is_watched_from_now_on(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, LABEL.format("poly.shp"))
    write(tmp_path / "poly.shp", "shapes")
    write(tmp_path / "poly.dbf", "classes")
    run(town)
    done = tmp_path / "town" / "done" / "label.json"
    record = json.loads(done.read_text(encoding="utf-8"))
    alone = Fingerprints(tmp_path / "memo.json").of_path(tmp_path / "poly.shp")
    assert record["parts"]["files"]["poly.shp"] != alone
    record["parts"]["files"]["poly.shp"] = alone  # as the versions before wrote it
    del record["besides"]
    record["key"] = KeyParts(**record["parts"]).key
    done.write_text(json.dumps(record), encoding="utf-8")
    run(town)
    assert stages.taken() == ["label"]
    write(tmp_path / "poly.dbf", "other classes")
    run(town)
    assert stages.taken() == ["label"]
