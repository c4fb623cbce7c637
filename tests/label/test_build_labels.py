from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from detection_sets import contents, make_detection_set, read_coco, settings_of, write_boxes
from factories import make_picture, make_raster, truncate
from geodistill.data.manifest import Manifest, make_spec
from geodistill.errors import DataError, OutputError, RecipeError
from geodistill.label.build_labels import WorkerOptions, build, tiles_at_once
from geodistill.label.postprocess import NO_RULES
from geodistill.label.segmenters.promptable import BoxSegmenter, Embedding
from geodistill.label.tile_labeller import segmenter_of
from geodistill.spec import Legend


def gray(out: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(out / "gray" / name))


def test_boxes_become_masks(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set")
    account = build(settings_of(source), tmp_path / "out")
    data = read_coco(source)
    assert account["images"] == {"in": 4, "labelled": 3, "empty": 1, "failed": 0}
    assert account["boxes"] == {"in": 12, "labelled": 12, "dropped": {}}
    assert account["instances"] == 12
    assert json.loads((tmp_path / "out/label.json").read_text()) == account
    mask = gray(tmp_path / "out", "scene_0.png")
    expected = np.full((60, 80), 255, np.uint8)
    for entry in data["annotations"]:
        if entry["image_id"] == 0:
            left, top, width, height = (int(v) for v in entry["bbox"])
            # classes are in the order of the file's categories
            expected[top : top + height, left : left + width] = entry["category_id"]
    assert (mask == expected).all()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "gray",
        "color",
        "instances.json",
        "manifest.parquet",
        "legend.yaml",
        "label.json",
        "settings.json",
        ".geodistill.json",
        ".journal.jsonl",
    }
    assert {path.name for path in (tmp_path / "out/gray").iterdir()} == {f"scene_{i}.png" for i in range(3)}


def test_the_manifest_is_ready_for_training(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 6, georeferenced=True)
    build(settings_of(source, background="water"), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out/manifest.parquet")
    assert manifest.problems == ()
    assert {row.split for row in manifest.entries} == {"train", "val", "test"}
    spec = make_spec(manifest)
    assert spec.legend.names == ("water", "ship", "dock")
    assert spec.gsd == pytest.approx(0.5, abs=0.01)
    assert manifest.statistics is not None
    assert manifest.statistics.ignored_pixels["train"] == 0
    assert min(manifest.statistics.class_pixels["train"]) > 0
    assert Legend.load(tmp_path / "out/legend.yaml").names == spec.legend.names
    with (
        rasterio.open(tmp_path / "out/gray/scene_0.tif") as mask,
        rasterio.open(source / "images/scene_0.tif") as image,
    ):
        assert (mask.crs, mask.transform, mask.shape) == (image.crs, image.transform, image.shape)


def test_tiles_count_each_source_box_once(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3, height=100, width=120, objects=8)
    account = build(settings_of(source, tile=64, overlap=32, share=0.6), tmp_path / "out")
    assert account["boxes"]["in"] == 16 == len(read_coco(source)["annotations"])
    assert account["boxes"]["in"] == account["boxes"]["labelled"] + sum(account["boxes"]["dropped"].values())
    assert account["instances"] > account["boxes"]["labelled"]
    assert account["images"]["in"] == 3
    tiles = account["tiles"]
    assert tiles["in"] == 3 * 3 * 3 == tiles["labelled"] + tiles["empty"]
    assert tiles["written"] == tiles["labelled"]
    whole = np.asarray(Image.open(source / "images/scene_0.png"))
    for entry in json.loads((tmp_path / "out/instances.json").read_text())["images"]:
        if entry["source"] == "scene_0.png":
            tile = np.asarray(Image.open(tmp_path / "out" / entry["file_name"]))
            row, col = entry["source_row"], entry["source_col"]
            assert (tile == whole[row : row + 64, col : col + 64]).all()
    rows = Manifest.load(tmp_path / "out/manifest.parquet").entries
    splits = {key: {row.split for row in rows if row.group == key} for key in ("scene_0", "scene_1")}
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.slow
@pytest.mark.parametrize("tile", [None, 32])
def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int | None) -> None:
    source = make_detection_set(tmp_path / "set", 5, empty=2)
    settings = settings_of(source, tile=tile, empty="keep")
    build(settings, tmp_path / "one")
    sizes: list[int] = []
    embed = BoxSegmenter.embed

    def counted(self: BoxSegmenter, images: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> list[Embedding]:
        sizes.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(BoxSegmenter, "embed", counted)
    build(settings, tmp_path / "many", work=WorkerOptions(batch=3))
    assert max(sizes) == 3
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


@pytest.mark.slow
def test_networks_of_the_sam_family_label_tiles_in_batches(tmp_path: Path) -> None:
    from promptable import save_promptable

    source = make_detection_set(tmp_path / "set", 3)
    name = f"sam:{save_promptable('sam', tmp_path / 'weights')}"
    settings = settings_of(source, segmenter=name, prompt="hbox+hbox-mask", tile=48, overlap=16, rules=NO_RULES)
    one = build(settings, tmp_path / "one", work=WorkerOptions(device="cpu"))
    many = build(settings, tmp_path / "many", work=WorkerOptions(device="cpu", batch=3))
    assert one["boxes"]["in"] == 8 == one["boxes"]["labelled"] + sum(one["boxes"]["dropped"].values())
    assert one["images"]["failed"] == 0
    assert many["boxes"] == one["boxes"]


def test_a_continued_run_decodes_as_many_prompts_at_once_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodistill.label.segmenters import sam
    from promptable import save_promptable

    source = make_detection_set(tmp_path / "set", 2)
    name = f"sam:{save_promptable('sam', tmp_path / 'weights')}"
    settings = settings_of(source, segmenter=name, tile=48, rules=NO_RULES)
    image = source / "images/scene_1.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(sam, "choose_chunk", lambda *_: 2)
    with pytest.raises(DataError, match="1 of"):
        build(settings, tmp_path / "out", work=WorkerOptions(device="cpu"))
    image.write_bytes(whole)
    segmenter_of.cache_clear()
    monkeypatch.setattr(sam, "choose_chunk", lambda *_: pytest.fail("measured again"))
    assert build(settings, tmp_path / "out", work=WorkerOptions(device="cpu"), resume=True)["images"]["failed"] == 0
    names = {path.name for path in (tmp_path / "out").glob(".*")}
    assert names == {".chunk", ".geodistill.json", ".journal.jsonl"}


@pytest.mark.parametrize(
    ("segmenter", "work", "expected"),
    [
        ("grabcut", WorkerOptions(), 1),
        ("sam:DIR", WorkerOptions(device="cpu"), 1),
        ("sam:DIR", WorkerOptions(engine="ray", gpus=1), 8),
        ("box", WorkerOptions(batch=4), 4),
    ],
)
def test_batches_are_for_networks_on_a_gpu(segmenter: str, work: WorkerOptions, expected: int) -> None:
    assert tiles_at_once(segmenter, work, None) == expected
    assert tiles_at_once(segmenter, work, {"batch": 5}) == (4 if work.batch else 5), "a continued run keeps its own"


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(RecipeError, match="batches of 0"):
        tiles_at_once("grabcut", WorkerOptions(batch=0), None)


def test_bands_are_chosen(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 1, empty=0, georeferenced=True)
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    with rasterio.open(source / "images/scene_0.tif") as file:
        pixels = file.read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoxSegmenter, "embed", lambda self, images: seen.extend(images) or [Embedding(60, 80)])
        build(settings_of(source, bands=(3, 2, 1)), tmp_path / "out")
        build(settings_of(source, bands=(2,)), tmp_path / "grey")
    assert (seen[0] == np.moveaxis(pixels[::-1], 0, -1)).all()
    assert (seen[1] == pixels[1][..., None]).all()
    with pytest.raises(RecipeError, match=r"bands \[4\] of images of 3 bands; expected positions 1 to 3"):
        build(settings_of(source, bands=(4,)), tmp_path / "wrong")


def test_a_box_that_no_tile_holds_is_counted(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, height=64, width=64, objects=0)
    data = read_coco(source)
    data["annotations"] = [{"id": 1, "image_id": 0, "category_id": 0, "bbox": [20, 5, 24, 10], "iscrowd": 0}]
    write_boxes(source, data)
    data["annotations"].append(data["annotations"][0] | {"id": 2, "category_id": 1, "bbox": [4, 4, 10, 10]})
    write_boxes(source, data)
    account = build(settings_of(source, tile=32, share=0.9), tmp_path / "out")
    assert account["boxes"] == {"in": 2, "labelled": 1, "dropped": {"in no tile": 1}}
    assert account["images"] == {"in": 2, "labelled": 1, "empty": 1, "failed": 0}


def test_empty_tiles_are_kept_where_asked_for(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set")
    account = build(settings_of(source, empty="keep"), tmp_path / "out")
    assert account["tiles"] == {"in": 4, "labelled": 3, "empty": 1, "failed": 0, "written": 4}
    assert (gray(tmp_path / "out", "scene_3.png") == 255).all()


def test_what_no_box_touches_is_background_and_a_dropped_box_is_not(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, height=64, width=64, objects=0)
    data = read_coco(source)
    boxes = ([4, 4, 10, 10], [26, 40, 12, 12])
    data["annotations"] = [
        {"id": i, "image_id": 0, "category_id": 0, "bbox": box, "iscrowd": 0} for i, box in enumerate(boxes)
    ]
    write_boxes(source, data)
    build(settings_of(source, background="ground", tile=32, share=0.9, empty="drop"), tmp_path / "out")
    first = gray(tmp_path / "out", "scene_0_00000_00000.png")
    assert first[5, 5] == 1
    assert first[20, 20] == 0
    assert not (tmp_path / "out/gray/scene_0_00032_00000.png").exists()
    build(settings_of(source, background="ground", tile=32, share=0.9), tmp_path / "kept")
    below = gray(tmp_path / "kept", "scene_0_00032_00000.png")
    assert (below[8:20, 26:32] == 255).all()
    assert (below[:, :26] == 0).all()


def test_pixels_without_data_stay_unlabelled(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 1, objects=4, empty=0, georeferenced=True)
    with rasterio.open(source / "images/scene_0.tif", "r+") as file:
        file.nodata = 7
        pixels = file.read()
        pixels[:, :, :40] = 7
        file.write(pixels)
    build(settings_of(source, background="ground"), tmp_path / "out")
    with rasterio.open(tmp_path / "out/gray/scene_0.tif") as file:
        mask = file.read(1)
    assert (mask[:, :40] == 255).all()
    assert (mask[:, 40:] != 255).all()


@pytest.mark.parametrize("tile", [None, 40])
def test_grey_and_deep_images_are_shown_as_rgb(tmp_path: Path, tile: int | None) -> None:
    source = make_detection_set(tmp_path / "set", 3, empty=0)
    grey = np.asarray(Image.open(source / "images/scene_0.png").convert("L"))
    make_picture(source / "images/scene_0.png", grey)
    deep = np.asarray(Image.open(source / "images/scene_1.png")).astype(np.uint16) * 90
    (source / "images/scene_1.png").unlink()
    make_raster(source / "images/scene_1.tif", pixels=np.moveaxis(deep, -1, 0), crs=None)
    data = read_coco(source)
    data["images"][1]["file_name"] = "scene_1.tif"
    write_boxes(source, data)
    account = build(settings_of(source, tile=tile, overlap=20 if tile else 0, segmenter="grabcut"), tmp_path / "out")
    assert account["boxes"]["labelled"] >= 11
    entries = json.loads((tmp_path / "out/instances.json").read_text())["images"]
    kept = next(entry["file_name"] for entry in entries if entry["source"] == "scene_0.png")
    row, col = (0, 0) if tile is None else next((e["source_row"], e["source_col"]) for e in entries)
    picture = np.asarray(Image.open(tmp_path / "out" / kept))
    assert picture.shape[-1] == 3
    assert (picture[..., 0] == grey[row : row + picture.shape[0], col : col + picture.shape[1]]).all()
    manifest = Manifest.load(tmp_path / "out/manifest.parquet")
    assert manifest.bands == ("band1", "band2", "band3")
    if tile is not None:
        path = next(row.image for row in manifest.entries if "scene_1" in row.image.name)
        with rasterio.open(path) as file:
            assert (file.dtypes[0], path.suffix) == ("uint16", ".tif")


def test_images_with_other_bands_are_told(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 4, empty=0, georeferenced=True)
    make_raster(source / "images/scene_0.tif", height=60, width=80, channels=4)
    account = build(settings_of(source), tmp_path / "out")
    assert account["manifest"]["other_bands_left_out"] == 1
    assert len(Manifest.load(tmp_path / "out/manifest.parquet").entries) == 3


def test_an_image_that_does_not_decode_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 5)
    good = (source / "images/scene_1.png").read_bytes()
    truncate(source / "images/scene_1.png")
    with pytest.raises(DataError, match=r"1 of 5 images failed: .*scene_1.png.*truncated.*--resume.*--keep-going"):
        build(settings_of(source), tmp_path / "out")
    account = json.loads((tmp_path / "out/label.json").read_text())
    assert account["images"] == {"in": 5, "labelled": 3, "empty": 1, "failed": 1}
    assert account["boxes"] == {"in": 16, "labelled": 12, "dropped": {"unreadable image": 4}}
    assert build(settings_of(source), tmp_path / "accepted", keep_going=True) == account
    (source / "images/scene_1.png").write_bytes(good)
    mended = build(settings_of(source), tmp_path / "out", resume=True)
    assert mended["images"]["failed"] == 0
    build(settings_of(source), tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_file_that_breaks_off_fails_as_a_whole(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, height=160, width=160, objects=20, empty=0, georeferenced=True)
    path = source / "images/scene_0.tif"
    with rasterio.open(path) as file:
        pixels, profile = file.read(), file.profile
    profile |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "pixel"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    truncate(path, 0.7)
    account = build(settings_of(source, tile=64), tmp_path / "out", keep_going=True)
    assert account["images"] == {"in": 2, "labelled": 1, "empty": 0, "failed": 1}
    assert account["tiles"]["failed"] == 9
    assert account["boxes"]["dropped"]["unreadable image"] == 20
    assert not [name for name in contents(tmp_path / "out") if "scene_0" in name]


def test_annotations_without_image_are_listed(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 9, empty=0)
    for i in range(2, 9):
        (source / "images" / f"scene_{i}.png").unlink()
    account = build(settings_of(source), tmp_path / "out")
    assert account["annotations_without_image"]["count"] == 7
    assert len(account["annotations_without_image"]["first"]) == 5
    for i in range(2):
        (source / "images" / f"scene_{i}.png").rename(source / "images" / f"other_{i}.png")
    with pytest.raises(DataError, match=r"scene_0.*and 4 more"):
        build(settings_of(source), tmp_path / "none")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(OutputError, match="holds no run"):
            build(settings_of(source), tmp_path / "full", resume=resume)


def test_a_run_is_continued_however_its_inputs_are_spelled(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    plain, out = settings_of(source), tmp_path / "out"
    around = replace(plain, boxes=source / "images/../boxes.json")
    assert build(plain, out) == build(around, out, resume=True) == build(plain, out, resume=True)
    about = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps(about | {"boxes": str(around.boxes)}))  # as it was written before
    for settings in (plain, around):
        build(settings, out, resume=True)


def test_a_run_is_continued_with_its_own_settings_only(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    build(settings_of(source), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(OutputError, match=r"holds a run already.*--resume"):
        build(settings_of(source), tmp_path / "out")
    with pytest.raises(OutputError, match="prompt was 'auto', is 'cp'"):
        build(settings_of(source, prompt="cp"), tmp_path / "out", resume=True)
    build(settings_of(source), tmp_path / "out", resume=True)
    pictures = {path: time for path, time in before.items() if path.suffix == ".png"}
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    data = read_coco(source)
    data["annotations"].pop()
    write_boxes(source, data)
    with pytest.raises(OutputError, match="the annotation files or their classes are others"):
        build(settings_of(source), tmp_path / "out", resume=True)
