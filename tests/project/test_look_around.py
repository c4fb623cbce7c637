"""`look_around`: images with masks are those that `data scan` finds, and a draft of them runs."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from factories import make_raster
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.project.draft import draft_project
from geodistill.project.look_around import look_around

FILE = {"kind": "file"}
FOLDERS = {
    "kind": "group",
    "group_regex": "(?:^|/)(train|val|test)/",
    "groups": {"train": ["train"], "val": ["val"], "test": ["test"]},
}


def _pairs(folder: Path, image: str, mask: str) -> Path:
    """Write three images of each split, called as patterns say, and their masks of two classes."""
    classes = np.arange(40 * 50, dtype=np.uint8).reshape(1, 40, 50) % 2
    for seed, (split, number) in enumerate(product(("train", "val", "test"), range(3))):
        make_raster(folder / image.format(split, f"{split}-{number}", seed), crs=None, seed=seed)
        make_raster(folder / mask.format(split, f"{split}-{number}", seed), crs=None, pixels=classes)
    return folder


@pytest.mark.parametrize(
    ("image", "mask", "images", "masks", "split"),
    [
        ("tiles/{1}.tif", "masks/{1}.tif", ["tiles"], ["masks"], FILE),
        ("{1}.tif", "{1}_mask.tif", ["."], None, FILE),
        ("images/{0}/{1}.tif", "masks/{0}/{1}.tif", ["images"], ["masks"], FOLDERS),
        ("tiles/{0}/{1}.tif", "gt/{0}/{1}.tif", ["tiles"], ["gt"], FOLDERS),
        ("{0}/{1}.tif", "{0}/{1}_mask.tif", ["."], None, FOLDERS),
        ("a/{2}/image.tif", "a/{2}/image_mask.tif", ["a"], None, FILE),
        (
            "{0}/images/{1}.tif",
            "{0}/masks/{1}.tif",
            [f"{split}/images" for split in ("test", "train", "val")],
            [f"{split}/masks" for split in ("test", "train", "val")],
            FOLDERS,
        ),
    ],
)
def test_images_and_masks_as_scan_finds_them(
    tmp_path: Path, image: str, mask: str, images: list[str], masks: list[str] | None, split: dict[str, Any]
) -> None:
    town = _pairs(tmp_path / "town", image, mask)
    file = town / "town.yaml"
    draft = draft_project(town, file)
    data = yaml.safe_load(draft.text)
    assert (data["scan"]["images"], data["scan"].get("masks"), data["scan"]["split"]) == (images, masks, split)
    assert "scan-unlabelled" not in data
    assert main(["run", str(file), "--dry"]) == 0
    assert main(["run", str(file), "--until", "scan"]) == 0
    out = file.parent / data["out"] if "out" in data else file.with_suffix("")
    rows = Manifest.load(out / "scan" / "manifest.parquet").entries
    assert len(rows) == 9
    if split is FOLDERS:
        assert {(row.split, row.image.name.split("-")[0]) for row in rows} == {(s, s) for s in ("train", "val", "test")}
    else:
        assert Counter(row.split for row in rows).keys() == {"train", "val", "test"}


def test_unlabelled_images_and_scenes_below_images_with_masks_are_no_part_of_them(tmp_path: Path) -> None:
    town = _pairs(tmp_path / "town", "{1}.tif", "{1}_mask.tif")
    make_raster(town / "more" / "a.tif")
    make_raster(town / "scene" / "city.tif", height=1500, width=1500)
    contents = look_around(town)
    assert [(each.images, each.masks, each.count) for each in contents.masked] == [(town, None, 9)]
    assert contents.images == (town / "more",)
    assert contents.scenes == (town / "scene" / "city.tif",)


def test_masks_of_one_folder_are_of_one_folder_of_images_and_no_images_themselves(tmp_path: Path) -> None:
    town = _pairs(tmp_path / "town", "images/{1}.tif", "masks/{1}.tif")
    _pairs(town, "imgs/{1}.tif", "labels/{1}.tif")
    assert [(each.images.name, each.masks) for each in look_around(town).masked] == [("images", town / "masks")]
    two = _pairs(tmp_path / "two", "gt/{1}.tif", "masks/{1}.tif")  # which are the images, nobody knows
    assert look_around(two).masked == ()


def test_masks_without_images_of_their_names_are_no_labels(tmp_path: Path) -> None:
    _pairs(tmp_path, "images/{1}.tif", "masks/other-{1}.tif")
    assert look_around(tmp_path).masked == ()


_VOC = "<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"


def _coco(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"images": [], "annotations": [], "categories": []}', encoding="utf-8")


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_boxes_among_images_belong_to_these_and_not_to_more_images_below(tmp_path: Path, kind: str) -> None:
    make_raster(tmp_path / "a.tif")
    for number in range(3):
        make_raster(tmp_path / "unlabelled" / f"{number}.tif")
    if kind == "coco":
        _coco(tmp_path / "boxes.json")
    else:
        (tmp_path / "a.xml").write_text(_VOC, encoding="utf-8")
    contents = look_around(tmp_path)
    assert [(each.format, each.images) for each in contents.annotations] == [(kind, tmp_path)]
    assert tmp_path / "a.tif" not in contents.images


def test_only_the_images_nearest_to_boxes_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        make_raster(tmp_path / f"{number}" / "a.tif", height=8, width=8)
        (tmp_path / f"{number}" / "a.xml").write_text(_VOC, encoding="utf-8")
    compared: list[Path] = []
    monkeypatch.setattr("geodistill.project.look_around._nearness", lambda boxes, *_: compared.append(boxes) or 0)
    contents = look_around(tmp_path)
    assert all(each.images == each.boxes for each in contents.annotations)
    assert len(compared) == len(contents.annotations) == 20
