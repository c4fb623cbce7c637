from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from pycocotools.coco import COCO

from detection_sets import contents, make_detection_set, read_coco, settings_of, write_boxes
from geodistill.cli import main
from geodistill.errors import DataError, OutputError, UnknownNameError
from geodistill.folders import foreign_files
from geodistill.label.build_labels import build
from geodistill.label.export import export_labels, outline
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs


def filled(
    ring: np.ndarray[tuple[int, ...], np.dtype[np.float64]], height: int, width: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What ultralytics makes of an outline: whole pixels, filled with the border."""
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [ring.astype(np.int32)], 1)


@pytest.mark.parametrize("seed", range(8))
def test_an_outline_gives_the_mask_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), np.uint8)
    for _ in range(3):
        x, y = rng.integers(14, 30, 2).tolist()
        cv2.ellipse(mask, (x, y), (int(rng.integers(3, 11)), int(rng.integers(3, 11))), 30.0 * seed, 0, 360, 1, -1)
    mask = (cv2.connectedComponents(mask)[1] == 1).astype(np.uint8)
    ring = outline(Runs.of(mask.astype(bool), 0, 0, 40, 50))
    assert (filled(ring, 40, 50) == mask).all()


def test_holes_and_pieces_belong_to_one_outline() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:30, 5:30] = 1
    mask[12:20, 12:22] = 0
    ring = outline(Runs.of(mask.astype(bool), 0, 0, 40, 60))
    assert (filled(ring, 40, 60) == mask).all()
    mask[10:20, 40:50] = 1
    found = filled(outline(Runs.of(mask.astype(bool), 0, 0, 40, 60)), 40, 60)
    assert (found >= mask).all()
    assert found.sum() - mask.sum() <= 10, "no more than the way between them"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1)])
def test_thin_objects_have_four_corners(shape: tuple[int, int]) -> None:
    ring = outline(Runs.of(np.ones(shape, bool), 3, 4, 20, 20))
    assert ring.tolist() == [[4, 3], [4 + shape[1], 3], [4 + shape[1], 3 + shape[0]], [4, 3 + shape[0]]]


def nested(folder: Path) -> Path:
    """A set of which two images have one name, with a background."""
    source = make_detection_set(folder, 8)
    data = read_coco(source)
    for i, name in enumerate(("a/1.png", "b/1.png")):
        (source / "images" / name).parent.mkdir()
        (source / f"images/scene_{i}.png").rename(source / "images" / name)
        data["images"][i]["file_name"] = name
    write_boxes(source, data)
    return source


def test_a_diagonal_is_no_square() -> None:
    runs = Runs.of(np.eye(10, dtype=bool), 5, 5, 40, 40)
    filled = np.zeros((40, 40), np.uint8)
    cv2.fillPoly(filled, [np.floor(outline(runs)).astype(np.int32)], 1)
    expected = np.zeros_like(filled)
    expected[5:15, 5:15] = np.eye(10)
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_set_of_one_split_is_a_data_set_for_yolo(tmp_path: Path, split: str) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / f"{split}.txt").write_text("scene_0\n")
    build(replace(settings_of(source), lists=lists), tmp_path / "out")
    export_labels(tmp_path / "out", "yolo-seg", tmp_path / "yolo")
    about = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert about["train"] == about["val"] == f"images/{split}"
    assert (tmp_path / "yolo" / about["train"]).is_dir()


@pytest.mark.parametrize("tile", [None, 48])
def test_yolo(tile: int | None, tmp_path: Path) -> None:
    source, out = nested(tmp_path / "set"), tmp_path / "yolo"
    account = build(settings_of(source, background="ground", tile=tile), tmp_path / "out")
    told = export_labels(tmp_path / "out", "yolo-seg", out)
    assert told.objects == account["instances"]
    assert told.images == {split: account["manifest"]["splits"][split] for split in ("test", "train", "val")}
    about = yaml.safe_load((out / "data.yaml").read_text())
    assert about["names"] == {0: "ship", 1: "dock"}, "the background is no class of YOLO's"
    assert foreign_files(out) == []
    coco = COCO(tmp_path / "out/instances.json")
    count = 0
    for image in coco.imgs.values():
        name = Path(image["mask"]).with_suffix("").as_posix().removeprefix("gray/").replace("/", "_")
        (path,) = (out / "images").glob(f"*/{name}.png")
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1, "a copy: programs that mend images in place must not reach the source"
        lines = (out / "labels" / path.parent.name / f"{name}.txt").read_text().splitlines()
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert len(lines) == len(annotations)
        for line, annotation in zip(lines, annotations, strict=True):
            number, *shares = line.split()
            assert coco.cats[annotation["category_id"]]["name"] == about["names"][int(number)]
            ring = np.array(shares, float).reshape(-1, 2)
            assert len(ring) >= 3, "two points would be read as a box"
            assert ((ring >= 0) & (ring <= 1)).all()
            found = filled(ring * (image["width"], image["height"]), image["height"], image["width"])
            assert (found == coco.annToMask(annotation)).all()
            count += 1
    assert count == account["instances"]
    for split in told.images:
        found_boxes = read_boxes("yolo", out / "labels" / split, out / "images" / split, categories=None)
        assert sum(len(image.boxes) for image in found_boxes.images) > 0


def test_samrs(tmp_path: Path) -> None:
    source, out = nested(tmp_path / "set"), tmp_path / "samrs"
    picture = Image.open(source / "images/scene_2.png").convert("RGBA")
    picture.save(source / "images/scene_2.png")
    account = build(settings_of(source), tmp_path / "out")
    told = export_labels(tmp_path / "out", "samrs", out)
    names = {name: (out / name).read_text().split() for name in ("train.txt", "valid.txt", "test.txt")}
    assert [len(names[name]) for name in names] == [told.images[split] for split in ("train", "val", "test")]
    everything = sorted(name for listed in names.values() for name in listed)
    assert everything == ["a_1", "b_1", *(f"scene_{i}" for i in range(2, 7))]
    for name in everything:
        image, gray, colour = (Image.open(out / folder / f"{name}.png") for folder in ("images", "gray", "color"))
        assert (image.mode, gray.mode, colour.mode) == ("RGB", "P", "RGB")
        assert image.size == gray.size == colour.size
        original = tmp_path / "out/gray" / f"{name.replace('_1', '/1') if name[1] == '_' else name}.png"
        assert (np.asarray(gray) == np.asarray(Image.open(original))).all()
    assert account["instances"] == told.objects


def test_a_georeferenced_set_becomes_pictures_for_samrs(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, georeferenced=True)
    build(settings_of(source), tmp_path / "out")
    export_labels(tmp_path / "out", "samrs", tmp_path / "samrs")
    mask = np.asarray(Image.open(tmp_path / "samrs/gray/scene_0.png"))
    assert set(np.unique(mask)) == {0, 1, 255}
    assert (tmp_path / "samrs/valid.txt").read_text() == "", "one image cannot be parted"


def test_samrs_gets_the_bands_that_the_segmenter_saw(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, georeferenced=True)
    settings = replace(settings_of(source), bands=(3, 1, 2))
    build(settings, tmp_path / "out")
    export_labels(tmp_path / "out", "samrs", tmp_path / "samrs")
    with rasterio.open(settings.images / "scene_0.tif") as file:
        expected = file.read((3, 1, 2)).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samrs/images/scene_0.png")), expected)


def test_nothing_foreign_and_no_source_is_replaced(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    build(settings_of(source), tmp_path / "out")
    before = contents(tmp_path / "out")
    for place in ("out", "out/yolo", "set", "set/images"):
        with pytest.raises(OutputError):
            export_labels(tmp_path / "out", "yolo-seg", tmp_path / place)
    assert contents(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        export_labels(tmp_path / "out", "yolo-seg", tmp_path / "mine")
    for _ in range(2):
        export_labels(tmp_path / "out", "yolo-seg", tmp_path / "yolo")  # an earlier export is replaced
    # A set made of an export's own images: exporting over them would remove its sources.
    data = read_coco(source) | {"annotations": []}
    names = {entry["file_name"]: entry["id"] for entry in data["images"]}
    (split,) = {path.parent.name for path in (tmp_path / "yolo/images").glob("*/scene_0.png")}
    data["annotations"] = [one for one in read_coco(source)["annotations"] if one["image_id"] == names["scene_0.png"]]
    write_boxes(source, data)
    from dataclasses import replace

    build(replace(settings_of(source), images=tmp_path / "yolo/images" / split), tmp_path / "second")
    with pytest.raises(OutputError, match="holds"):
        export_labels(tmp_path / "second", "yolo-seg", tmp_path / "yolo")


def test_what_is_no_set_is_one_line(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    with pytest.raises(DataError, match="no label set"):
        export_labels(source, "samrs", tmp_path / "x")
    with pytest.raises(UnknownNameError, match="yolo-seg"):
        export_labels(source, "yolo", tmp_path / "x")
    build(settings_of(source), tmp_path / "out")
    path = tmp_path / "out/instances.json"
    whole = path.read_text()
    for change in (
        lambda data: data["images"][0].pop("mask"),
        lambda data: data["images"][0].update(id=[1]),
        lambda data: data["images"][0].update(width=9),
        lambda data: data["annotations"][0].update(mask_value=77),
        lambda data: data["annotations"][0].update(segmentation={"size": [1, 1], "counts": "x"}),
    ):
        data = json.loads(whole)
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(DataError):
            export_labels(tmp_path / "out", "yolo-seg", tmp_path / "x")
        assert not (tmp_path / "x").exists()
    path.write_text(whole)
    os.unlink(source / "images/scene_0.png")  # noqa: PTH108
    with pytest.raises(DataError, match="scene_0"):
        export_labels(tmp_path / "out", "yolo-seg", tmp_path / "x")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    build(settings_of(source), tmp_path / "out")
    given = ["label", "export", "--labels", str(tmp_path / "out"), "--out", str(tmp_path / "x")]
    assert main([*given, "--to", "yolo-seg"]) == 0
    assert "2 images copied (" in capsys.readouterr().out
    assert main([*given, "--to", "samrs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 8
    assert main([*given, "--to", "pascal"]) == 2
    assert "yolo-seg" in capsys.readouterr().err
