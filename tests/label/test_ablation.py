from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detection_sets import make_detection_set, read_coco, write_boxes
from factories import make_picture, truncate
from geodistill.cli import main
from geodistill.errors import DataError
from geodistill.label.ablation import FLOORS, PromptAblation, PromptScore, ablate, format_ablation, write_ablation
from geodistill.label.postprocess import NO_RULES, Rules
from geodistill.label.segmenters.promptable import COMBINATIONS
from geodistill.papers.registry import prompt_figures


def run(source: Path, **changes: object) -> dict[str, PromptScore]:
    question = PromptAblation(**{"segmenter": "box", "prompts": (("hbox",),), **changes})  # type: ignore[arg-type]
    found = ablate("coco", source / "boxes.json", source / "images", question)
    return {row.prompt: row for row in found.rows}


def test_filled_boxes_score_as_counted_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path, 3)
    rows = run(source)
    truth = COCO(source / "boxes.json")
    ratios, common, union = [], 0, 0
    for annotation in truth.anns.values():
        mask = truth.annToMask(annotation).astype(bool)
        left, top, width, height = (int(v) for v in annotation["bbox"])
        box = np.zeros_like(mask)
        box[top : top + height, left : left + width] = True
        ratios.append((mask & box).sum() / (mask | box).sum())
        common, union = common + (mask & box).sum(), union + (mask | box).sum()
    capsys.readouterr()
    row = rows[FLOORS[0]]
    assert row.instances == len(ratios)
    assert row.miou_i == pytest.approx(np.mean(ratios))
    assert row.miou_p == pytest.approx(common / union)


def test_a_perfect_segmenter_scores_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_detection_set(tmp_path, 2, empty=0)
    data = read_coco(source)
    for annotation in data["annotations"]:  # every object is its box
        left, top, width, height = annotation["bbox"]
        annotation["segmentation"] = [[left, top, left + width, top, left + width, top + height, left, top + height]]
    write_boxes(source, data)
    rows = run(source, prompts=COMBINATIONS)
    assert list(rows) == [*FLOORS, *("+".join(prompt) for prompt in COMBINATIONS)]
    assert {round(row.miou_i, 6) for row in rows.values()} == {1.0}
    assert {round(row.miou_p, 6) for row in rows.values()} == {1.0}


def test_oriented_boxes_are_taken_from_the_true_masks(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 1, objects=0, empty=0)
    corners = cv2.boxPoints(((40.0, 30.0), (50.0, 8.0), 30.0)).astype(float)
    data = read_coco(source)
    low, high = corners.min(axis=0), corners.max(axis=0)
    data["annotations"] = [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 0,
            "bbox": [*low, *(high - low)],
            "segmentation": [corners.ravel().tolist()],
            "iscrowd": 0,
        }
    ]
    write_boxes(source, data)
    rows = run(source, prompts=(("hbox",), ("rhbox",)))
    assert rows[FLOORS[0]].miou_i < 0.4
    assert rows[FLOORS[1]].miou_i > 0.8


def test_an_outline_that_is_the_true_mask_is_no_answer_to_a_prompt(tmp_path: Path) -> None:
    """An L fills a third of its box: a fall-back to the outline would be right whatever the prompt."""
    make_picture(tmp_path / "images/a.png", np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .1 .1 .9 .1 .9 .25 .25 .25 .25 .9 .1 .9\n")
    question = PromptAblation("box", (("hbox",),), rules=Rules(min_score=1.0))
    rows = {row.prompt: row for row in ablate("yolo", tmp_path / "labels", tmp_path / "images", question).rows}
    assert rows["hbox"].miou_i == rows[FLOORS[1]].miou_i < 0.5


def test_grabcut_beats_the_floor_and_rules_change_masks(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 3)
    rows = run(source, segmenter="grabcut", prompts=(("hbox",),))
    assert rows["hbox"].miou_i > rows[FLOORS[0]].miou_i + 0.05
    dropped = run(source, segmenter="box", rules=Rules(keep_component=False, fill_holes=False, max_outside=0.0))
    assert dropped["hbox"].miou_i == run(source, rules=NO_RULES)["hbox"].miou_i
    nothing = run(source, segmenter="grabcut", rules=Rules(max_outside=0.0), prompts=(("cp",),))
    assert nothing["cp"].instances == rows["hbox"].instances


def test_tiles_compare_each_box_once(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 2, height=100, width=120, objects=8, empty=0)
    rows = run(source, tile=64, overlap=32, share=1.0)
    assert 8 < rows["hbox"].instances <= 16
    whole = run(source)
    assert whole["hbox"].instances == 16


def test_masks_from_pictures_with_a_colour_an_instance(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 2, empty=0)
    expected = run(source)
    data = read_coco(source)
    for entry in data["images"]:
        picture = np.zeros((60, 80, 3), np.uint8)
        for n, annotation in enumerate(a for a in data["annotations"] if a["image_id"] == entry["id"]):
            runs = coco_mask.frPyObjects(annotation["segmentation"], 60, 80)
            picture[coco_mask.decode(coco_mask.merge(runs)) > 0] = (n + 1, 200, 7)
        make_picture(tmp_path / "masks" / f"{Path(entry['file_name']).stem}_instance_id_RGB.png", picture)
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    write_boxes(source, data)
    with pytest.raises(DataError, match=r"none of 8 boxes .* has a true mask"):
        run(source)
    assert run(source, instances=tmp_path / "masks") == expected


def test_an_image_that_does_not_decode_is_told(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 3, empty=0, georeferenced=True)
    truncate(source / "images/scene_1.tif", 0.5)
    question = PromptAblation("box", (("hbox",),))
    found = ablate("coco", source / "boxes.json", source / "images", question)
    assert len(found.failures) == 1
    assert "scene_1.tif" in format_ablation(found)
    write_ablation(tmp_path / "out", found)
    assert json.loads((tmp_path / "out/ablation.json").read_text())["images"] == 2
    lines = list(csv.DictReader((tmp_path / "out/ablation.csv").open()))
    assert [line["prompt"] for line in lines] == [*FLOORS, "hbox"]


def test_published_figures_stand_beside_ours_where_they_are_passed(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path, 1, empty=0)
    ours = ablate("coco", source / "boxes.json", source / "images", PromptAblation("box", (("cp",), ("hbox",))))
    assert "published" not in format_ablation(ours)
    text = format_ablation(ours, prompt_figures())
    assert "89.97 / 79.40" in text
    assert "16.14 / 2.72" in text
    assert set(prompt_figures()) == {"+".join(prompt) for prompt in COMBINATIONS}


@pytest.mark.parametrize("form", ["coco", "hrsc"])
def test_the_command_shows_published_figures_of_hrsc_only(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_detection_set(tmp_path, 1, empty=0)
    ours = ablate("coco", source / "boxes.json", source / "images", PromptAblation("box", (("cp",), ("hbox",))))
    monkeypatch.setattr("geodistill.label.ablation.ablate", lambda *_, **__: replace(ours, format=form))
    assert main(["label", "ablate", "--images", "i", "--boxes", "b", "--format", form]) == 0
    assert ("89.97 / 79.40" in capsys.readouterr().out) == (form == "hrsc")
