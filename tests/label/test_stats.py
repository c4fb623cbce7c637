from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from factories import make_dataset, make_picture, make_raster
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, RecipeError
from geodistill.label.masks import Runs
from geodistill.label.stats import EDGES, SMALL, stats
from geodistill.label.tables import (
    COMPARISON,
    PICTURES,
    SET_PICTURES,
    TABLES,
    format_comparison,
    format_statistics,
    write_statistics,
)
from geodistill.raster import Window
from geodistill.spec import Legend

NAMES = ("ship", "Häfen", "never seen")


def instance(image: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    runs = Runs.of(mask, 0, 0, *mask.shape)
    return {"image_id": image, "category_id": category, "segmentation": runs.to_coco(), "area": runs.area}


def square(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((200, 300), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def write_coco(path: Path, annotations: list[dict[str, Any]], images: int = 3, streamed: bool = False) -> Path:
    listed = [{"id": n, "file_name": f"{n}.png", "width": 300, "height": 200} for n in range(images)]
    categories = [{"id": n, "name": name, "color": [n * 90, 10, 20]} for n, name in enumerate(NAMES)]
    content = {"annotations": annotations, "images": listed, "categories": categories}
    text = json.dumps(content)
    if streamed:  # one annotation a line, as label build writes them
        lines = ",\n".join(json.dumps(annotation) for annotation in annotations)
        rest = json.dumps({"images": listed, "categories": categories})[1:]
        text = '{"annotations": [\n' + lines + "\n],\n" + rest + "\n"
    path.write_text(text)
    return path


ANNOTATIONS = [
    instance(0, 0, square(0, 0, 3, 3)),
    instance(0, 0, square(50, 50, 10, 10)),
    instance(0, 1, square(100, 0, 100, 100)),
    instance(1, 0, square(0, 0, 9, 11)),
    instance(1, 1, square(0, 0, 0, 0)),
]


@pytest.mark.parametrize("streamed", [False, True])
def test_classes_sizes_and_instances_per_image(tmp_path: Path, streamed: bool) -> None:
    found = stats(write_coco(tmp_path / "set.json", ANNOTATIONS, streamed=streamed))
    assert (found.name, found.images, found.classes) == ("set", 3, NAMES)
    assert found.colours == ((0, 10, 20), (90, 10, 20), (180, 10, 20))
    assert found.instances == (3, 1, 0)
    assert found.pixels == (9 + 100 + 99, 10_000, 0)
    assert found.empty_masks == 1
    assert found.per_image == {0: 1, 1: 1, 3: 1}
    assert found.sizes.sum(axis=1).tolist() == [3, 1, 0]
    bins = {(low, int(count)) for low, count in zip(EDGES, found.sizes[0], strict=True) if count}
    assert bins == {(0, 1), (90, 1), (SMALL, 1)}, "9, 99 and 100 pixels"
    assert found.sizes[1, EDGES.index(10_000)] == 1
    assert found.unlabelled is None


def test_masks_of_every_kind_and_crowds(tmp_path: Path) -> None:
    outline = {"image_id": 0, "category_id": 0, "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10], [1, 1]], "area": 1}
    told = {"image_id": 0, "category_id": 0, "area": 55.4}
    line = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 3, 3]], "area": 9}
    nothing = {"image_id": 1, "category_id": 1, "segmentation": [], "area": 4}
    crowd = instance(0, 0, square(0, 0, 50, 50)) | {"iscrowd": 1}
    found = stats(write_coco(tmp_path / "set.json", [outline, told, crowd, line, nothing]))
    assert found.pixels == (200 + 55, 9 + 4, 0)
    assert found.instances == (2, 2, 0)


def test_ids_and_crowds_are_read_as_label_build_reads_them(tmp_path: Path) -> None:
    as_text = [
        one | {"image_id": str(one["image_id"]), "category_id": float(one["category_id"])} for one in ANNOTATIONS
    ]
    counted = [one | {"iscrowd": "0"} for one in as_text]
    crowd = instance(0, 0, square(0, 0, 50, 50)) | {"iscrowd": "1"}
    found = stats(write_coco(tmp_path / "set.json", [*counted, crowd]))
    assert found.to_dict() == stats(write_coco(tmp_path / "set.json", ANNOTATIONS)).to_dict()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}, r"object 1 has no mask.*label build"),
        ({"image_id": 0, "category_id": 0, "segmentation": [[1, 1, 3, 3]]}, r"object 1 has no mask"),
        ({"image_id": 9, "category_id": 0, "area": 5}, "object 1 .*listed image"),
        ({"image_id": 0, "category_id": 8, "area": 5}, "object 1 .*listed image"),
        ({"image_id": 0, "category_id": 0, "segmentation": {"size": [9, 9], "counts": [81]}}, "object 1: run lengths"),
        ({"image_id": 0, "category_id": 0, "segmentation": [["x"] * 6]}, "object 1: segmentation"),
    ],
)
def test_annotations_that_cannot_be_counted(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    for streamed in (False, True):
        with pytest.raises(DataError, match=message):
            stats(write_coco(tmp_path / "set.json", [wrong], streamed=streamed))


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = write_coco(tmp_path / "set.json", ANNOTATIONS, streamed=True).read_text()
    for text, message in (
        (whole[: len(whole) // 4], "is not JSON"),
        (whole.replace('"area"', "area", 1), r"set\.json:2 is not JSON"),
        ('{"images": []}', "no COCO file"),
        ('{"annotations": [], "images": [{}], "categories": []}', "images or categories"),
    ):
        (tmp_path / "set.json").write_text(text)
        with pytest.raises(DataError, match=message):
            stats(tmp_path / "set.json")
    for place in (tmp_path, tmp_path / "none.json", tmp_path / "none.parquet"):
        with pytest.raises(DataError, match="no labelled set at"):
            stats(place)


def build_folder(folder: Path) -> Path:
    """What label build leaves: instances, class maps and a manifest."""
    file = write_coco((folder.mkdir(), folder)[1] / "instances.json", ANNOTATIONS, images=2, streamed=True)
    content = json.loads(file.read_text())
    rows = []
    for image in content["images"]:
        indices = np.full((200, 300), 255, np.uint8)
        indices[:10, :30] = image["id"]
        image["mask"] = f"gray/{image['id']}.png"
        mask = make_picture(folder / image["mask"], indices)
        picture = make_raster(folder / "images" / f"{image['id']}.tif", height=200, width=300, channels=4)
        rows.append(Row(picture, mask, "train", Window(0, 0, 200, 300), gsd=0.5 + image["id"]))
    file.write_text(json.dumps(content))
    Manifest(tuple(rows), ("red", "green", "blue", "nir"), Legend(NAMES)).save(folder / "manifest.parquet")
    return folder


def test_a_folder_of_label_build(tmp_path: Path) -> None:
    found = stats(build_folder(tmp_path / "town"))
    assert found.name == "town"
    assert found.pixels == (300, 300, 0), "as painted, not as the sum of the masks"
    assert found.mask_pixels == (208, 10_000, 0)
    assert found.unlabelled == 2 * 200 * 300 - 600
    assert found.channels == 4
    assert found.gsd is not None
    assert (found.gsd.minimum, found.gsd.maximum) == (0.5, 1.5)
    assert found.instances == (3, 1, 0)


def manifest_of(folder: Path) -> Path:
    make_dataset(folder, 2, classes=2)
    rows = [
        Row(folder / "images" / f"scene_{n}.tif", folder / "masks" / f"scene_{n}.tif", "train", Window(0, 0, 40, 50))
        for n in range(2)
    ]
    rows.append(Row(folder / "images" / "scene_0.tif", None, "unlabelled", Window(0, 0, 40, 50)))
    Manifest(tuple(rows), ("r", "g", "b"), Legend(("left", "right"))).save(folder / "manifest.parquet")
    return folder / "manifest.parquet"


def test_regions_of_a_set_that_has_instances_are_refused(tmp_path: Path) -> None:
    town = build_folder(tmp_path / "town")
    for place in (town, town / "instances.json", write_coco(tmp_path / "set.json", ANNOTATIONS)):
        with pytest.raises(RecipeError, match="which has instances; expected a manifest"):
            stats(place, regions=True)
    assert sum(stats(town / "manifest.parquet", regions=True).instances) == 2


def test_a_manifest_with_and_without_regions(tmp_path: Path) -> None:
    path = manifest_of(tmp_path / "set")
    found = stats(path)
    assert (found.images, found.pixels, found.unlabelled, found.instances) == (2, (2000, 2000), 0, ())
    assert "instances per image" not in format_statistics(found)
    counted = stats(path.parent, regions=True)
    assert counted.instances == (2, 2)
    assert counted.per_image == {2: 2}
    assert counted.sizes[:, EDGES.index(1000)].tolist() == [2, 2]
    Manifest(Manifest.load(path).entries, ("r", "g", "b")).save(path)
    with pytest.raises(DataError, match="no legend"):
        stats(path)


@pytest.mark.slow
def test_text_tables_and_pictures(tmp_path: Path) -> None:
    found = stats(build_folder(tmp_path / "town"))
    text = format_statistics(found)
    assert "town: 2 images of 300 x 200, 4 instances" in text
    assert "1 masks without a pixel are not counted" in text
    assert "instances per image: median 2, mean 2.0, most 3" in text
    assert json.loads(json.dumps(found.to_dict()))["instances"] == [3, 1, 0]
    written = write_statistics([found], tmp_path / "out")
    assert [path.name for path in written] == [*TABLES, *PICTURES]
    rows = read_csv(tmp_path / "out" / "classes.csv")
    assert rows[0] == ["class", "pixels", "instances", "mean_pixels", f"below_{SMALL}_pixels", "mask_pixels"]
    assert rows[1:3] == [["ship", "300", "3", "69.3", "2", "208"], ["Häfen", "300", "1", "10000.0", "0", "10000"]]
    sizes = read_csv(tmp_path / "out" / "sizes.csv")[1:]
    assert len(sizes) == len(NAMES) * len(EDGES)
    assert sum(int(row[3]) for row in sizes) == 4
    assert read_csv(tmp_path / "out" / "per_image.csv") == [["instances", "images"], ["1", "1"], ["3", "1"]]
    for name in PICTURES:
        with Image.open(tmp_path / "out" / name) as picture:
            assert len(set(picture.convert("RGB").resize((80, 60)).get_flattened_data())) > 3
            assert picture.width > 250


def test_pictures_of_few_images_have_bars_around_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr("geodistill.label.tables.write_figure", lambda path, figure: drawn.update({path.name: figure}))
    write_statistics([stats(build_folder(tmp_path / "town"))], tmp_path / "out")
    axes = drawn["per_image.png"].axes[0]
    bars = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axes.patches if bar.get_height()}  # type: ignore[attr-defined]
    assert bars == {1: 1, 3: 1}
    assert axes.get_yscale() == "linear"
    pixels, instances = drawn["classes.png"].axes
    assert pixels.get_yscale() == "symlog"
    assert [text.get_text() for text in instances.texts] == ["", "", "0"]


@pytest.mark.slow
def test_sets_side_by_side(tmp_path: Path) -> None:
    sets = [stats(build_folder(tmp_path / "town")), stats(manifest_of(tmp_path / "flat"), name="flat $et")]
    lines = format_comparison(sets).splitlines()
    assert " ".join(lines[0].split()) == "set images classes channels resolution (m) image size instances labelled"
    assert lines[1].split() == ["town", "2", "3", "4", "0.5-1.5", "300", "x", "200", "4", "0.5%"]
    assert lines[2].split() == ["flat", "$et", "2", "2", "3", "50", "x", "40", "100.0%"]
    write_statistics(sets, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["1-town", "2-flat $et", COMPARISON, *SET_PICTURES]
    )
    for name in SET_PICTURES:  # of the set with instances alone
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 300
            assert len(set(picture.convert("RGB").resize((80, 60)).get_flattened_data())) > 3
    assert sorted(path.name for path in (tmp_path / "out" / "2-flat $et").iterdir()) == ["classes.csv", "classes.png"]
    assert [row[0] for row in read_csv(tmp_path / "out" / COMPARISON)] == ["set", "town", "flat $et"]


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from geodistill.cli.label_sets import stats as run

    town, flat = build_folder(tmp_path / "town"), manifest_of(tmp_path / "flat")
    run(["--set", str(town), str(flat), "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "town: 2 images" in text
    assert "resolution (m)" in text
    assert (tmp_path / "out" / COMPARISON).is_file()
    run(["--set", str(town), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["pixels"] == [300, 300, 0]


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))
