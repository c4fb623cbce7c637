"""The output folder: whose it is, who is at work in it, and what is left where nothing came out."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detection_sets import contents, hold, make_detection_set, read_coco, settings_of, write_boxes
from forked import begin
from geodistill.cli import main
from geodistill.errors import BusyError, DataError, GeodistillError, OutputError, RecipeError
from geodistill.files import atomic_path
from geodistill.folders import MARKER, foreign_files, hold_folder
from geodistill.label.build_labels import WorkerOptions, build


def test_two_at_once(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    with hold_folder(out, "label build"), pytest.raises(BusyError, match=r"'geodistill label build' \(process \d+"):
        build(settings_of(source), out)
    build(settings_of(source), out)


@pytest.mark.slow
def test_a_crash_frees_the_folder(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    build(settings_of(source), tmp_path / "whole")
    other = begin(hold, out, tmp_path / "held")
    while not (tmp_path / "held").exists():
        assert other.is_alive()
        time.sleep(0.005)
    with pytest.raises(BusyError, match=f"process {other.pid}"):
        build(settings_of(source), out)
    other.kill()
    other.join()
    build(settings_of(source), out)
    assert contents(out) == contents(tmp_path / "whole")


def test_the_folder_is_marked_and_no_other_verb_replaces_it(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    build(settings_of(source, tile=48), out)
    assert foreign_files(out) == []
    assert json.loads((out / MARKER).read_text())["kind"] == "label set"
    with pytest.raises(OutputError, match="holds a label set"), atomic_path(out) as part:
        part.mkdir()
    assert (out / "label.json").is_file()


@pytest.mark.parametrize("place", ["set/images", "set/images/deep", "set", "set/boxes.json"])
def test_results_do_not_lie_among_the_inputs(place: str, tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    before = contents(source)
    with pytest.raises(OutputError, match="which is read"):
        build(settings_of(source), tmp_path / place)
    assert contents(source) == before


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    build(settings_of(source), out)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/scene_0.png").write_text("mine")
    for path in (out / "gray").iterdir():
        path.unlink()
    (out / "gray").rmdir()
    (out / "gray").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="is a link"):
        build(settings_of(source), out, resume=True)
    assert (tmp_path / "precious/scene_0.png").read_text() == "mine"


def test_links_deep_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    build(settings_of(source), out)
    (tmp_path / "mine.png").write_text("mine")
    tile = next((out / "gray").iterdir())
    tile.unlink()
    tile.symlink_to(tmp_path / "mine.png")
    with pytest.raises(OutputError, match="is a link"):
        build(settings_of(source), out, resume=True)
    assert (tmp_path / "mine.png").read_text() == "mine"


def run(source: Path, *more: str) -> int:
    where = ["--images", str(source / "images"), "--boxes", str(source / "boxes.json"), "--format", "coco"]
    return main(["label", "build", *where, "--segmenter", "box", "--out", str(source / "../out"), *more])


def test_no_annotated_image_is_status_2_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 2, objects=0)
    assert run(source) == 2
    assert "no box in" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_no_usable_box_is_status_2_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    assert run(source, "--classes", "house", "--keep-going") == 2
    assert "4 read, none of use: unknown class 4" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


@pytest.mark.parametrize("empty", ["drop", "keep"])
def test_where_no_box_gives_a_label_only_the_account_stays(empty: str, tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2, height=64, width=64, objects=0)
    data = read_coco(source)
    box = {"id": 1, "image_id": 0, "category_id": 0, "bbox": [20, 5, 24, 10], "iscrowd": 0}
    data["annotations"] = [box]
    write_boxes(source, data)
    settings = settings_of(source, tile=32, share=0.9, empty=empty, background="ground")
    for resume in (False, True):
        with pytest.raises(DataError, match=r"not one of 1 boxes gave a label \(in no tile 1\).*label\.json"):
            build(settings, tmp_path / "out", resume=resume, keep_going=True)
        kept = {path.name for path in (tmp_path / "out").iterdir()}
        assert kept == {"label.json", "settings.json", ".journal.jsonl", MARKER}
    account = json.loads((tmp_path / "out/label.json").read_text())
    assert account["boxes"] == {"in": 1, "labelled": 0, "dropped": {"in no tile": 1}}


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"segmenter": "sam"}, {}, "unknown segmenter 'sam'"),
    ({"segmenter": "sam:/nope"}, {}, "/nope is no directory"),
    ({"segmenter": "sam:/nope"}, {"workers": 2}, "/nope is no directory"),
    ({"format": "nope"}, {}, "unknown format of boxes 'nope'"),
    ({"boxes": Path("nope.json")}, {}, "nope.json"),
    ({"images": Path("nope")}, {}, "nope"),
    ({"classes": ("plane",)}, {}, "no box"),
    ({"classes": ("ship", "ship")}, {}, "ship"),
    ({"background": "ship"}, {}, "background 'ship'"),
    ({"bands": (1, 2, 7)}, {}, "of images of 3 bands"),
    ({"fractions": (0.5, 0.5, 0.5)}, {}, "split fractions"),
    ({"group_regex": "("}, {}, "group pattern"),
    ({"group_regex": "zzz"}, {}, "finds no group for 1 image such"),
    ({"group_regex": "scene"}, {}, "1 group for the splits train, val, test"),
    ({"lists": Path("nope")}, {}, "no list in nope"),
    ({}, {"workers": 0}, "0 workers"),
    ({}, {"batch": 0}, "batches of 0 tiles"),
]


@pytest.mark.parametrize(("changes", "work", "message"), MISTAKES, ids=str)
def test_a_mistake_leaves_no_folder(
    changes: dict[str, Any], work: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    wrong = replace(settings_of(source), **changes)
    with pytest.raises(GeodistillError, match=re.escape(message)):
        build(wrong, out, work=WorkerOptions(device="cpu", **work))
    assert not out.exists()


def test_without_ray_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.engine.tasks.find_spec", lambda name: None)
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    with pytest.raises(RecipeError, match=r"not installed.*geodistill\[ray\]"):
        build(settings_of(source), out, work=WorkerOptions(engine="ray"))
    assert not out.exists()
