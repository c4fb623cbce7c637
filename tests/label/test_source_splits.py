"""Splits of a source survive: by its folders, by its lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detection_sets import contents, make_detection_set, read_coco, settings_of, write_boxes
from factories import truncate
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, GeodistillWarning, RecipeError, UnknownNameError
from geodistill.label.build_labels import build
from geodistill.label.presets import PRESETS


def moved(folder: Path) -> Path:
    """Put a made-up set's images into folders as DIOR has them: 6 of trainval, 4 of test."""
    source = make_detection_set(folder, 10, empty=0)
    data = read_coco(source)
    for at, entry in enumerate(data["images"]):
        place = "JPEGImages-trainval" if at < 6 else "JPEGImages-test"
        (source / "images" / place).mkdir(exist_ok=True)
        shutil.move(source / "images" / entry["file_name"], source / "images" / place)
        entry["file_name"] = f"{place}/{entry['file_name']}"
    write_boxes(source, data)
    return source


@pytest.mark.slow
def test_test_images_of_a_preset_never_reach_pre_training(tmp_path: Path) -> None:
    source, preset = moved(tmp_path / "set"), PRESETS["sior"]
    assert (preset.fractions, preset.split) == ((0.95, 0.05, 0.0), "source")
    build(settings_of(source, fractions=(0.8, 0.2, 0.0), split=preset.split, tile=48), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out/manifest.parquet")
    splits = {split: {row.group for row in manifest.rows(split)} for split in ("train", "val", "test")}
    assert {group.split("/")[0] for group in splits["test"]} == {"JPEGImages-test"}
    assert [len(splits[split]) for split in splits] == [5, 1, 4]
    assert len(manifest.entries) > 10, "tiles of an image share its split"


@pytest.mark.parametrize("regex", [None, r"\d+"])
def test_what_lies_in_no_split_folder_never_joins_the_test_images(regex: str | None, tmp_path: Path) -> None:
    source = moved(tmp_path / "set")
    build(settings_of(source, split="source", fractions=(0.4, 0.2, 0.4), group_regex=regex), tmp_path / "out")
    rows = Manifest.load(tmp_path / "out/manifest.parquet").entries
    splits = [(Path(row.image or "").parent.name, row.split) for row in rows]
    assert splits.count(("JPEGImages-test", "test")) == 4
    assert splits.count(("JPEGImages-trainval", "train")) == 4, "0.4 and 0.2 of six images are four and two"
    assert splits.count(("JPEGImages-trainval", "val")) == 2
    assert len(splits) == 10
    shutil.rmtree(source / "images/JPEGImages-trainval")
    account = build(settings_of(source, split="source", group_regex=regex), tmp_path / "test")
    assert account["manifest"]["splits"] == {"test": 4}, "nothing is left to divide"
    without = make_detection_set(tmp_path / "plain", 12, empty=0)
    account = build(settings_of(without, split="source", fractions=(0.5, 0.25, 0.25)), tmp_path / "fractions")
    assert set(account["manifest"]["splits"]) == {"train", "val", "test"}, "no folder says anything"
    with pytest.raises(DataError, match="a share of train or val"):
        build(settings_of(source, split="source", fractions=(0.0, 0.0, 1.0)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_lists_name_source_images(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 5, empty=0)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("scene_0\nscene_1\n")
    (lists / "val.txt").write_text("scene_2.png\n")
    account = build(settings_of(source, lists=lists, tile=48), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out/manifest.parquet")
    assert {row.group for row in manifest.rows("train")} == {"scene_0", "scene_1"}
    assert {row.group for row in manifest.rows("val")} == {"scene_2"}
    assert account["manifest"]["in_no_list"] == account["tiles"]["written"] - len(manifest.entries) > 0
    (lists / "val.txt").write_text("scene_9\n")
    with pytest.raises(DataError, match="names 'scene_9', which fits 0 images"):
        build(settings_of(source, lists=lists), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_list_may_name_images_that_got_no_label(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 4)
    truncate(source / "images/scene_2.png")
    (tmp_path / "train.txt").write_text("scene_0\nscene_1\n")
    (tmp_path / "val.txt").write_text("scene_2\nscene_3\n")
    account = build(settings_of(source, lists=tmp_path), tmp_path / "out", keep_going=True)
    assert account["manifest"]["splits"] == {"train": 2}
    (tmp_path / "train.txt").unlink()
    (tmp_path / "val.txt").write_text("scene_3\n")
    with pytest.raises(DataError, match="names an image with boxes"):
        build(settings_of(source, lists=tmp_path), tmp_path / "other")


def in_lists(folder: Path, train: str, val: str) -> Path:
    """Write the lists of two splits, a digit for each image."""
    folder.mkdir(exist_ok=True)
    for split, digits in (("train", train), ("val", val)):
        (folder / f"{split}.txt").write_text("".join(f"scene_{digit}\n" for digit in digits))
    return folder


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_goes_on_with_another_division(finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run in a new folder would be, and without labelling anything again."""
    source, out = make_detection_set(tmp_path / "set", 4, empty=0), tmp_path / "out"
    lists = in_lists(tmp_path / "lists", "01", "23")
    plans: list[dict[str, Any]] = [{"lists": lists}, {"fractions": (0.5, 0.5, 0.0), "seed": 3}, {"split": "source"}]
    plans += [{"group_regex": r"\d", "fractions": (0.8, 0.2, 0.0)}, {"lists": lists}]
    if not finished:  # the boxes of too few groups gave a label, say
        with monkeypatch.context() as patch:
            patch.setattr(
                "geodistill.label.assemble._write_manifest", lambda *_: (_ for _ in ()).throw(DataError("few"))
            )
            with pytest.raises(DataError, match="few"):
                build(settings_of(source), out)
    else:
        build(settings_of(source), out)
    for number, plan in enumerate(plans):
        if number == len(plans) - 1:
            in_lists(lists, "012", "3")
        fresh = tmp_path / f"fresh{number}"
        assert build(settings_of(source, **plan), fresh)["manifest"]["splits"]
        with monkeypatch.context() as patch:
            patch.setattr("geodistill.label.build_labels.Labeller.__call__", None)
            build(settings_of(source, **plan), out, resume=True)
        assert contents(out) == contents(fresh)


def test_changed_lists_are_followed_and_those_of_folders_of_before(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 4, empty=0), tmp_path / "out"
    settings = settings_of(source, lists=in_lists(tmp_path / "lists", "01", "23"))
    assert build(settings, out)["manifest"]["splits"] == {"train": 2, "val": 2}
    in_lists(tmp_path / "lists", "012", "3")
    assert build(settings, out, resume=True)["manifest"]["splits"] == {"train": 3, "val": 1}
    about = json.loads((out / "settings.json").read_text())
    del about["split_lists"]
    (out / "settings.json").write_text(json.dumps(about))
    in_lists(tmp_path / "lists", "0", "123")
    assert build(settings, out, resume=True)["manifest"]["splits"] == {"train": 1, "val": 3}
    (tmp_path / "lists/val.txt").rename(tmp_path / "lists/test.txt")
    assert build(settings, out, resume=True)["manifest"]["splits"] == {"train": 1, "test": 3}


def test_a_run_that_was_killed_before_it_was_divided_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = make_detection_set(tmp_path / "set", 4, empty=0), tmp_path / "out"
    build(settings_of(source), out)
    half = settings_of(source, fractions=(0.5, 0.5, 0.0))
    with monkeypatch.context() as patch:
        patch.setattr("geodistill.label.build_labels.still_done", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(half, out, resume=True)
    with pytest.warns(GeodistillWarning, match=r"label\.json is not as it was written"):
        assert build(half, out, resume=True)["manifest"]["splits"] == {"train": 2, "val": 2}


def test_ways_to_divide_that_do_not_go_together() -> None:
    with pytest.raises(RecipeError, match="lists beside"):
        settings_of(Path("set"), lists=Path("lists"), split="source")
    given = ["label", "build", "--images", "i", "--boxes", "b", "--format", "coco", "--out", "o", "--lists", "l"]
    assert main([*given, "--fractions", "0.5", "0.5", "0"]) == 2
    assert main([*given, "--split", "source"]) == 2
    with pytest.raises(UnknownNameError, match="split"):
        settings_of(Path("set"), split="folders")
