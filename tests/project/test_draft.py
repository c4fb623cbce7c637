"""`init`: what a folder holds becomes a project file that can be read; nothing is written over."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import yaml
from rasterio.crs import CRS
from rasterio.transform import from_origin

from detection_sets import make_detection_set
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError, OutputError
from geodistill.project.draft import draft_project
from geodistill.project.project_file import read_project
from geodistill.project.wiring import wire
from geodistill.raster import Grid, Window
from geodistill.review.next_files import write_next
from geodistill.review.next_tiles import NextTile


def test_boxes_and_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_detection_set(tmp_path / "town", count=2)
    make_raster(tmp_path / "town" / "scene" / "city.tif", height=1500, width=1500)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "town"]) == 0
    said = capsys.readouterr().out
    assert "boxes: town/boxes.json (coco), images: town/images" in said
    assert "scenes: town/scene/city.tif" in said
    text = (tmp_path / "project.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 30
    assert all("#" in line for line in text.splitlines())
    data = yaml.safe_load(text)
    assert data["label"]["images"] == "town/images"
    assert data["predict"]["scenes"] == ["town/scene/city.tif"]
    assert list(wire(read_project("project.yaml"))) == [
        *("label", "check", "teacher", "distil", "evaluate", "predict", "export", "report")
    ]
    assert main(["init", "town"]) == 2
    assert "project.yaml is there already" in capsys.readouterr().err
    # The file is called as the folder: its results go beside what it reads.
    assert main(["init", "town", "--out", "town.yaml"]) == 0
    assert main(["run", "town.yaml", "--dry"]) == 0
    assert "town-results" in (tmp_path / "town.yaml").read_text(encoding="utf-8")


def test_masks_go_before_boxes_and_unlabelled_images_are_used(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "town", count=3)
    for image in sorted((tmp_path / "town" / "images").iterdir()):
        make_raster(tmp_path / "town" / "masks" / f"{image.stem}.tif", channels=1)
        make_raster(tmp_path / "more" / image.name)
    (tmp_path / "legend.yaml").write_text("classes: [a, b]\n", encoding="utf-8")
    draft = draft_project(tmp_path, tmp_path / "all.yaml")
    data = yaml.safe_load((tmp_path / "all.yaml").read_text(encoding="utf-8"))
    assert data["scan"]["masks"] == ["town/masks"]
    assert data["scan"]["legend"] == "legend.yaml"
    assert data["scan-unlabelled"]["images"] == ["more"]
    assert data["adapt"]["data.unlabelled"] == "$scan-unlabelled"
    assert any(line.startswith("left out: boxes") for line in draft.chosen)
    wire(read_project(tmp_path / "all.yaml"))


def test_tiles_below_a_scene_are_the_labelled_images_and_nothing_else(tmp_path: Path) -> None:
    for number in range(3):
        make_raster(tmp_path / "town" / "tiles" / f"{number}.tif")
    make_raster(tmp_path / "town" / "city.tif", height=1500, width=1500)
    square = shapely.box(500_000, 39_990, 500_010, 40_000)
    geopandas.GeoDataFrame({"class": ["a"]}, geometry=[square], crs=32636).to_file(tmp_path / "town" / "b.gpkg")
    draft_project(tmp_path / "town", tmp_path / "p.yaml")
    data = yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    assert data["label"]["images"] == "town/tiles"
    assert data["predict"]["scenes"] == ["town/city.tif"]
    assert "scan-unlabelled" not in data
    make_raster(tmp_path / "town" / "tiles" / "below" / "a.tif")  # read with the labelled ones
    draft_project(tmp_path / "town", tmp_path / "q.yaml")
    assert "scan-unlabelled" not in read_project(tmp_path / "q.yaml").stages


def test_results_lie_beside_a_folder_that_holds_images_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    town = make_detection_set(tmp_path / "town", count=3)
    for image in (town / "images").iterdir():
        image.rename(town / image.name)
    make_raster(town / "city.tif", height=1500, width=1500)
    monkeypatch.chdir(town)
    assert main(["init", "."]) == 0
    assert "labelled too: city.tif; move it out of . where it has no boxes" in capsys.readouterr().out
    project = read_project("project.yaml")
    assert project.stages["label"].settings["images"] == "."
    assert project.out.resolve() == tmp_path / "town-results"
    (town / "city.tif").unlink()
    assert main(["run", "project.yaml", "--until", "label"]) == 0


def test_of_many_small_images_beside_labelled_ones_a_few_are_named(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "town", count=2)
    for number in range(9):
        make_raster(tmp_path / "town" / f"{number}.tif")
    draft = draft_project(tmp_path / "town", tmp_path / "p.yaml")
    data = yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    assert data["scan-unlabelled"]["images"] == [f"town/{number}.tif" for number in range(9)]
    said = [line for line in draft.chosen if line.startswith("unlabelled")]
    assert len(said) == 6
    assert said[-1] == "unlabelled images: 4 more files"


def test_a_small_image_beside_labelled_ones_is_taken_by_itself(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "town", count=2)
    make_raster(tmp_path / "town" / "city.tif")
    draft = draft_project(tmp_path / "town", tmp_path / "p.yaml")
    data = yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    assert data["scan-unlabelled"]["images"] == ["town/city.tif"]
    assert any("city.tif (from 2.1 megapixels it would be a scene" in line for line in draft.chosen)


def test_a_folder_of_nothing_and_one_of_images_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in"):
        draft_project(tmp_path, tmp_path / "p.yaml")
    make_raster(tmp_path / "images" / "a.tif")
    with pytest.raises(DataError, match="neither labels nor a model"):
        draft_project(tmp_path, tmp_path / "p.yaml")
    with pytest.raises(DataError, match="no folder"):
        draft_project(tmp_path / "none", tmp_path / "p.yaml")
    (tmp_path / "p.yaml").touch()
    with pytest.raises(OutputError, match="is there already"):
        draft_project(tmp_path, tmp_path / "p.yaml")


@pytest.mark.slow
def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--schema", "project"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    good = {
        "seed": 1,
        "label": {"images": "i", "boxes": "b", "format": "coco", "rules": {"max_outside": 0.4}},
        "check": None,
        "teacher": "runs/big",
        "distil": {"recipe": "distil-folder", "trainer.max_steps": 5, "data": {"crop": 64}, "losses.weights.kd": 1},
        "evaluate-south": {"split": "val"},
        "predict": {"scenes": ["a.tif"], "max_memory": "2GB", "bands": [4, 3, 2]},
    }
    assert [error.message for error in check.iter_errors(good)] == []
    for bad in ({"labl": {}}, {"distil": {"recipe": "x", "trainer.max_step": 5}}, {"predict": {"scene": "a"}}):
        assert list(check.iter_errors(bad)), bad
    crop = schema["$defs"]["stage-distil"]["anyOf"][0]["properties"]["data.crop"]
    assert crop["description"].startswith("Side of training crops")
    assert main(["init", "--schema", "recipe"]) == 0
    recipe = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    assert list(recipe.iter_errors({"method": "ktda", "data": {"crop": 64}})) == []
    assert list(recipe.iter_errors({"method": "ktda", "nettwork": {}}))
    assert list(recipe.iter_errors({"method": "ktda", "data": {"croop": 64}}))


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
def test_polygons_of_every_format_are_labels_and_those_of_maps_are_none(tmp_path: Path, suffix: str) -> None:
    def write(stem: str, shape: shapely.Geometry, count: int = 2, **columns: object) -> None:
        rows = {key: [value] * count for key, value in columns.items()}
        frame = geopandas.GeoDataFrame(rows, geometry=[shape] * count, crs=32636)
        file = tmp_path / f"{stem}{suffix}"
        frame.to_parquet(file) if suffix == ".parquet" else frame.to_file(file)

    make_raster(tmp_path / "images" / "a.tif")
    square = shapely.box(500_000, 39_990, 500_010, 40_000)
    write("a_map", square, **{"class": 1, "name": "road", "pixels": 5, "area_m2": 7.5, "confidence": 0.5})
    if suffix != ".geojson":  # of text only the beginning is looked at
        write("an_area", square, number=1)
        write("a_named_area", square, count=1, name="area of interest")
        write("an_index", square, location="images/a.tif", src_srs="EPSG:32636")
        write("points", square.centroid, kind="road")
    with pytest.raises(DataError, match="neither labels nor a model"):
        draft_project(tmp_path, tmp_path / "p.yaml")
    write("roads", square, **{"Klasse 1": "road", "width": 5.5})
    draft_project(tmp_path, tmp_path / "p.yaml")
    label = read_project(tmp_path / "p.yaml").stages["label"].settings
    assert (label["boxes"], label["format"], label["images"]) == (f"roads{suffix}", "geojson", "images")
    assert label["category_field"] == "Klasse 1"
    assert main(["run", str(tmp_path / "p.yaml"), "--until", "label"]) == 0


@pytest.mark.parametrize(
    ("columns", "line", "said"),
    [
        ({"CLASS": ["a"], "name": ["b"]}, "", ""),
        ({"width": [5.5]}, "# classes: [NAME]", "no column holds text"),
        ({"use": ["a"], "name": ["b"]}, "# category_field: COLUMN", "among use, name"),
        ({"osm_id": ["1", "2", "3"]}, "# category_field: COLUMN", "among osm_id"),
        ({"use": ["a", "b", "a"]}, "category_field: use", ""),
    ],
)
def test_a_column_that_must_be_chosen_is_said(
    tmp_path: Path, columns: dict[str, list[object]], line: str, said: str
) -> None:
    make_raster(tmp_path / "images" / "a.tif")
    square = shapely.box(500_000, 39_990, 500_010, 40_000)
    squares = [square] * len(next(iter(columns.values())))
    geopandas.GeoDataFrame(columns, geometry=squares, crs=32636).to_file(tmp_path / "b.geojson")
    draft = draft_project(tmp_path, tmp_path / "p.yaml")
    written = [text for text, _ in draft.lines if "category_field" in text or "classes" in text]
    assert [text.strip() for text in written] == [line] * bool(line)
    assert any(said in each for each in draft.chosen)
    assert ("category_field" in read_project(tmp_path / "p.yaml").stages["label"].settings) == line.startswith(
        "category"
    )


def test_a_single_polygon_of_a_known_column_of_classes_is_a_label(tmp_path: Path) -> None:
    make_raster(tmp_path / "images" / "a.tif")
    square = shapely.box(500_000, 39_990, 500_010, 40_000)
    frame = geopandas.GeoDataFrame({"label": ["road"], "location": ["north"]}, geometry=[square], crs=32636)
    frame.to_file(tmp_path / "road.gpkg")
    draft_project(tmp_path, tmp_path / "p.yaml")
    assert read_project(tmp_path / "p.yaml").stages["label"].settings["boxes"] == "road.gpkg"


def test_a_single_polygon_that_is_passed_over_is_named(tmp_path: Path) -> None:
    make_raster(tmp_path / "images" / "a.tif")
    frame = geopandas.GeoDataFrame(
        {"kind": ["pool"]}, geometry=[shapely.box(500_000, 39_990, 500_010, 40_000)], crs=32636
    )
    frame.to_file(tmp_path / "pool.gpkg")
    with pytest.raises(DataError, match=r"neither labels nor .*pool\.gpkg is passed over: a lone polygon"):
        draft_project(tmp_path, tmp_path / "p.yaml")
    make_detection_set(tmp_path / "town", count=2)
    chosen = draft_project(tmp_path, tmp_path / "p.yaml").chosen
    assert any(line.startswith(f"left out: {tmp_path / 'pool.gpkg'}, a lone polygon") for line in chosen)


def test_boxes_go_before_other_polygons_and_a_list_of_tiles_is_no_label(tmp_path: Path) -> None:
    make_raster(tmp_path / "images" / "a.tif")
    square = shapely.box(500_000, 39_990, 500_010, 40_000)
    grid = Grid(64, 64, CRS.from_epsg(32636), from_origin(500_000, 40_000, 1, 1))
    tile = NextTile(Path("images/a.tif"), Window(0, 0, 8, 8), grid, 0.5, 0.1, np.ones(4, np.float32))
    write_next([tile, tile], tmp_path / "next.csv")
    with pytest.raises(DataError, match="neither labels nor a model"):
        draft_project(tmp_path, tmp_path / "p.yaml")
    frame = geopandas.GeoDataFrame({"district": ["north", "south"]}, geometry=[square] * 2, crs=32636)
    frame.to_file(tmp_path / "districts.gpkg")
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    draft_project(tmp_path, tmp_path / "p.yaml")
    assert read_project(tmp_path / "p.yaml").stages["label"].settings["boxes"] == "labels/boxes.json"


def test_a_scene_with_a_mask_is_mapped_and_not_learnt_from(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "town", count=2)
    make_raster(tmp_path / "city" / "images" / "city.tif", height=1500, width=1500)
    make_raster(tmp_path / "city" / "masks" / "city.tif", height=1500, width=1500, channels=1)
    draft_project(tmp_path, tmp_path / "p.yaml")
    data = yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))
    assert data["label"]["boxes"] == "town/boxes.json"
    assert data["predict"]["scenes"] == ["city/images/city.tif"]
    assert "scan" not in data


def test_folders_behind_links_are_found_and_circles_are_not_followed(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "elsewhere", count=1, empty=0)
    (tmp_path / "town").mkdir()
    (tmp_path / "town" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "images" / "circle").symlink_to(tmp_path / "elsewhere")
    draft_project(tmp_path / "town", tmp_path / "p.yaml")
    assert yaml.safe_load((tmp_path / "p.yaml").read_text(encoding="utf-8"))["label"]["images"] == "town/linked/images"


@pytest.mark.parametrize("name", ["../my town #2", "../a, b", "town #2", "NO", "on", "1.5", "$a", "~a", "[a]", "plain"])
def test_paths_mean_what_they_name(tmp_path: Path, name: str) -> None:
    out = tmp_path / "here" / "p #1.yaml"
    (tmp_path / "here" / "p #1").mkdir(parents=True)
    town = make_detection_set(out.parent / name, count=2)
    draft_project(town, out)
    project = read_project(out)
    assert project.out.name == "p #1-results"
    named = project.resolve(project.stages["label"].settings["images"])
    assert Path(named).resolve() == (town / "images").resolve()
    assert wire(project)["label"].needs == ()


def test_boxes_of_yolo_are_found_behind_class_names_and_images_without_objects(tmp_path: Path) -> None:
    make_raster(tmp_path / "images" / "b.tif")
    (tmp_path / "labels").mkdir()
    for name, text in {"a.txt": "", "b.txt": "0 0.5 0.5 0.1 0.1\n", "classes.txt": "1 2 3 4 5\n"}.items():
        (tmp_path / "labels" / name).write_text(text, encoding="utf-8")
    draft_project(tmp_path, tmp_path / "p.yaml")
    label = read_project(tmp_path / "p.yaml").stages["label"].settings
    assert (label["boxes"], label["format"]) == ("labels", "yolo")
    for name in ("a.txt", "b.txt"):
        (tmp_path / "labels" / name).unlink()
    with pytest.raises(DataError, match="neither labels nor a model"):
        draft_project(tmp_path, tmp_path / "q.yaml")


@pytest.mark.parametrize(
    ("images", "boxes", "whole"),
    [
        ("images/{}", "labels/{}/{}.txt", ("images", "labels")),
        ("{}/images", "{}/labels/{}.txt", (".", ".")),
        ("images/{}", "annotations/instances_{}.json", ("images", "annotations")),
        ("{}", "{}/_annotations.coco.json", (".", ".")),
    ],
)
def test_train_val_and_test_are_one_set(tmp_path: Path, images: str, boxes: str, whole: tuple[str, str]) -> None:
    for split in ("train", "val", "test"):
        make_raster(tmp_path / "set" / images.format(split) / f"{split}.tif")
        file = tmp_path / "set" / boxes.format(split, split)
        file.parent.mkdir(parents=True, exist_ok=True)
        coco = json.dumps({"images": [], "annotations": [], "categories": []})
        file.write_text("0 0.5 0.5 0.1 0.1\n" if file.suffix == ".txt" else coco, encoding="utf-8")
    draft = draft_project(tmp_path / "set", tmp_path / "set" / "p.yaml")
    data = yaml.safe_load(draft.text)
    assert (data["label"]["images"], data["label"]["boxes"], data["label"]["split"]) == (*whole, "source")
    assert "scan-unlabelled" not in data
    make_raster(tmp_path / "set" / images.format("more") / "more.tif")  # no images of the set
    data = yaml.safe_load(draft_project(tmp_path / "set", tmp_path / "set" / "q.yaml").text)
    assert "split" not in data["label"]
    assert "train" in data["label"]["images"] + data["label"]["boxes"]


@pytest.mark.parametrize("images", ["{}2017", "{}/images"])
def test_of_two_splits_it_is_said_that_they_are_drawn_anew(tmp_path: Path, images: str) -> None:
    for split in ("train", "val"):
        make_raster(tmp_path / "set" / images.format(split) / f"{split}.tif")
        file = tmp_path / "set" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": [], "annotations": [], "categories": []}), encoding="utf-8")
    draft = draft_project(tmp_path / "set", tmp_path / "p.yaml")
    label = read_project(tmp_path / "p.yaml").stages["label"].settings
    assert (label["images"], label["boxes"], label["split"]) == ("set", "set/annotations", "random")
    assert any(line.startswith("split: drawn anew, not as the folders of train and val say") for line in draft.chosen)


def test_results_of_a_project_are_no_imagery(tmp_path: Path) -> None:
    make_detection_set(tmp_path / "town", count=2)
    make_raster(tmp_path / "p" / "predict" / "map.tif")
    (tmp_path / "p" / "done").mkdir()
    (tmp_path / "p" / "done" / "memo.json").write_text("{}", encoding="utf-8")
    draft_project(tmp_path, tmp_path / "q.yaml")
    assert "scan-unlabelled" not in read_project(tmp_path / "q.yaml").stages
