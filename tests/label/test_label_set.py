"""The COCO file that ``label build`` writes, as COCO's own reader and ours read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO

from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from geodistill.errors import DataError
from geodistill.label.build_labels import build
from geodistill.label.formats.detection import read_boxes
from geodistill.label.label_set import read_instances
from geodistill.label.stats import stats


def test_instances_are_a_coco_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set")
    build(settings_of(source), tmp_path / "out")
    coco = COCO(tmp_path / "out/instances.json")
    coco.info()
    assert coco.dataset["info"]["version"] == "2"
    assert coco.getCatIds() == [1, 2], "0 is background to COCO's readers"
    kinds = coco.loadCats([1, 2])
    assert [(kind["name"], kind["mask_value"]) for kind in kinds] == [("ship", 0), ("dock", 1)]
    wanted = read_coco(source)["annotations"]
    for number, annotation in coco.anns.items():
        image = coco.imgs[annotation["image_id"]]
        mask = coco.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == annotation["area"]
        assert annotation["annotated_bbox"] == wanted[number - 1]["bbox"]
        assert annotation["bbox"] == masks.toBbox(annotation["segmentation"]).tolist()
        left, top, width, height = annotation["bbox"]
        rbox = np.array(annotation["rbox"]).reshape(4, 2)
        assert (rbox.min(axis=0).tolist(), rbox.max(axis=0).tolist()) == ([left, top], [left + width, top + height])
        assert annotation["score"] == 1
        indices = np.asarray(Image.open(tmp_path / "out" / image["mask"]))
        assert set(indices[mask > 0]) == {annotation["mask_value"]}
        assert coco.cats[annotation["category_id"]]["mask_value"] == annotation["mask_value"]
    capsys.readouterr()


def nested(folder: Path) -> Path:
    """A set with ``a/1.png`` and ``b/1.png``."""
    source = make_detection_set(folder, 3)
    data = read_coco(source)
    for i, name in enumerate(("a/1.png", "b/1.png")):
        (source / "images" / name).parent.mkdir()
        (source / f"images/scene_{i}.png").rename(source / "images" / name)
        data["images"][i]["file_name"] = name
    write_boxes(source, data)
    return source


@pytest.mark.parametrize("tile", [None, 48])
def test_file_names_are_paths_and_are_read_back(tile: int | None, tmp_path: Path) -> None:
    source = nested(tmp_path / "set")
    account = build(settings_of(source, tile=tile), tmp_path / "out")
    data = json.loads((tmp_path / "out/instances.json").read_text())
    names = [image["file_name"] for image in data["images"]]
    assert len(set(names)) == len(names)
    assert {image["source"] for image in data["images"]} == {"a/1.png", "b/1.png"}
    root = source / "images" if tile is None else tmp_path / "out"
    assert all((root / name).is_file() for name in names)
    images = root if tile is None else root / "images"
    found = read_boxes("coco", tmp_path / "out/instances.json", images)
    assert found.categories == ("ship", "dock")
    assert sum(len(image.boxes) for image in found.images) == account["instances"]
    assert found.unmatched == ()
    again = settings_of(source, tile=None)
    changed = type(again)(**vars(again) | {"images": images, "boxes": tmp_path / "out/instances.json"})
    assert build(changed, tmp_path / "again")["instances"] == account["instances"]


def test_files_of_earlier_versions_are_read_back(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set")
    build(settings_of(source), tmp_path / "out")
    new = stats(tmp_path / "out").to_dict()
    path = tmp_path / "out/instances.json"
    lines = path.read_text().splitlines()

    def older(entry: dict[str, Any]) -> dict[str, Any]:
        if "category_id" in entry:
            entry["category_id"] = entry.pop("mask_value")
        elif "mask_value" in entry:
            entry["id"] = entry.pop("mask_value")
        return entry

    text = [
        json.dumps(older(json.loads(line.removesuffix(",")))) + ("," if line.endswith(",") else "")
        if line.startswith('{"id"')
        else line
        for line in lines
        if not line.startswith('"licenses"')
    ]
    path.write_text("\n".join([*text[:-2], "]}"]) + "\n")
    assert [kind["id"] for kind in json.loads(path.read_text())["categories"]] == [0, 1]
    assert stats(tmp_path / "out").to_dict() == new
    found = read_boxes("coco", path, source / "images")
    assert found.categories == ("ship", "dock")
    assert {box.category for image in found.images for box in image.boxes} == {"ship", "dock"}


def test_no_object_has_pixels_without_data(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 1, objects=6, empty=0, georeferenced=True)
    boxes = [entry["bbox"] for entry in read_coco(source)["annotations"]]
    with rasterio.open(source / "images/scene_0.tif", "r+") as file:
        file.nodata = 7
        pixels = file.read()
        pixels[:, :, :40] = 7
        file.write(pixels)
    account = build(settings_of(source), tmp_path / "out")
    gone = sum(x + width <= 40 for x, _, width, _ in boxes)
    assert gone
    assert account["boxes"]["dropped"] == {"empty mask": gone}
    coco = COCO(tmp_path / "out/instances.json")
    with rasterio.open(tmp_path / "out/gray/scene_0.tif") as file:
        indices = file.read(1)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation) > 0
        assert not mask[:, :40].any()
        assert mask.any()
        assert (indices[mask] == annotation["mask_value"]).all()


def test_masks_are_palette_pictures_with_the_legends_colours(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    account = build(settings_of(source), tmp_path / "out")
    picture = Image.open(tmp_path / "out/gray/scene_0.png")
    assert picture.mode == "P"
    indices = np.asarray(picture)
    shown = np.asarray(picture.convert("RGBA"))
    for value, colour in enumerate(account["legend"]["colours"]):
        assert (shown[indices == value] == [*colour, 255]).all()
    assert (shown[indices == 255, 3] == 0).all(), "unlabelled is transparent"
    assert set(np.unique(indices)) == {0, 1, 255}


@pytest.mark.parametrize("text", ["", "5", "[]", "{", '{"annotations": 5}', '{"annotations": [\n', "[" * 100_000])
def test_what_is_no_coco_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_instances(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"cannot be read"):
        read_instances(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["images"][0].update(height=float("inf")),
        lambda data: data["images"][0].update(mask=5),
        lambda data: data["annotations"][0].update(category_id=[1]),
        lambda data: data["categories"].append(5),
        lambda data: data.update(images=5),
    ],
)
def test_odd_values_are_one_line_for_stats(change: Any, tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    build(settings_of(source), tmp_path / "out")
    path = tmp_path / "out/instances.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError):
        stats(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
