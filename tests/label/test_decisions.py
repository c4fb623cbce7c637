"""Decisions of people in a label set: what they do to masks and accounts, and that no later run forgets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from PIL import Image
from rasterio.transform import from_origin

from detection_sets import contents, make_detection_set, settings_of
from factories import make_picture, make_raster
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label import decisions
from geodistill.label.accounts import format_account
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.decisions import Decision, read_decisions, read_review, write_decisions
from geodistill.label.masks import Mask, Runs
from geodistill.label.output_folder import DECISIONS, JOURNAL, Journal, altered_by_hand
from geodistill.label.postprocess import EMPTIED, Rules
from geodistill.label.share_of_good import GoodShare
from geodistill.label.tiles import TileId
from geodistill.review.open_labels import open_labels
from geodistill.review.review_labels import ReviewOptions, open_review
from geodistill.spec import IGNORE_INDEX
from reviewed import make_labels, make_unmasked_labels

FIRST = TileId("scene_0", 0, 0)


def made(labels: Path) -> dict[int, dict[str, Any]]:
    """Return the objects of the first image, by box."""
    with Journal(labels) as journal:
        return {one["box"]: one for one in journal.read(FIRST).instances}


def objects_of(labels: Path) -> list[tuple[TileId, dict[int, Any]]]:
    """Return what a review shows of every tile."""
    return list(open_labels(labels).objects())


def decision(labels: Path, box: int, verdict: Any, **about: Any) -> Decision:
    return Decision(FIRST, box, verdict, "Ada", "2026-01-02T03:04:05+00:00", made(labels)[box], **about)


def pixels(instance: dict[str, Any]) -> np.ndarray[Any, Any]:
    crop, full = Runs.from_coco(instance["segmentation"]).crop(), np.zeros((60, 80), bool)
    full[crop.place] = crop.pixels
    return full


def mask_file(labels: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(labels / "gray/scene_0.png"))


def test_each_verdict_does_to_the_masks_what_it_says(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path, segmenter="grabcut")
    untouched, before, was = contents(labels), mask_file(labels), made(labels)
    redrawn = np.zeros((60, 80), bool)
    redrawn[2:5, 3:9] = True
    mask = Runs.of(redrawn, 0, 0, 60, 80).to_coco()
    decided = [decision(labels, 0, "drop"), decision(labels, 1, "ignore"), decision(labels, 2, "box")]
    write_decisions(labels, [*decided, decision(labels, 3, "prompt", mask=mask, score=0.5)])
    account = build(settings, labels, resume=True)

    now = mask_file(labels)
    place = {box: pixels(one) for box, one in was.items()}
    assert (before[place[0]] != 0).all()
    assert (now[place[0]] == 0).all(), "where a person sees no object, there is background"
    assert (now[place[1]] == IGNORE_INDEX).all(), "what nobody can tell is learnt as nothing"
    left, top, wide, high = (int(v) for v in was[2]["annotated_bbox"])
    assert (now[top : top + high, left : left + wide] == was[2]["mask_value"]).all()
    assert (now[redrawn] == was[3]["mask_value"]).all()
    assert (now[place[3] & ~redrawn] == 0).all()

    entries = [o for o in json.loads((labels / "instances.json").read_text())["annotations"] if o["image_id"] == 1]
    assert [(one["box"], one["reviewed"]["verdict"], one["reviewed"]["by"]) for one in entries] == [
        (2, "box", "Ada"),
        (3, "prompt", "Ada"),
    ]
    assert [one["score"] for one in entries] == [1.0, 0.5]
    assert account["boxes"] == {"in": 12, "labelled": 10, "dropped": {"dropped in review": 1, "ignored in review": 1}}
    assert account["review"]["verdicts"] == {"accept": 0, "drop": 1, "box": 1, "prompt": 1, "ignore": 1}
    assert account["review"]["reviewers"] == {"Ada": 4}
    assert sum(sum(each.values()) for each in account["review"]["classes"].values()) == 4

    # Taken back, all is as it was, to the byte, but for the record that somebody looked.
    write_decisions(labels, [Decision(**vars(one) | {"verdict": "undecided", "mask": None, "score": None})
                             for one in read_decisions(labels)[FIRST]])  # fmt: skip
    account = build(settings, labels, resume=True)
    assert "review" not in account
    again = contents(labels)
    assert {name for name in again if again[name] != untouched.get(name)} == {DECISIONS, ".journal.jsonl"}


def test_the_box_of_an_object_at_the_border_is_no_larger_than_it_was_drawn(tmp_path: Path) -> None:
    make_picture(tmp_path / "images" / "scene_0.png", np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "scene_0.txt").write_text("20 30 0 50 -20 30 0 10 plane 0\n")  # half of it lies beyond
    settings = LabelSettings(
        tmp_path / "images", tmp_path / "boxes", "dota", segmenter="box", background="ground", rules=Rules(min_score=1)
    )
    labels = tmp_path / "labels"
    build(settings, labels)
    write_decisions(labels, [decision(labels, 0, "box")])
    build(settings, labels, resume=True)
    columns, rows = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    reach = columns + np.abs(rows - 30)
    assert made(labels)[0]["reviewed"]["verdict"] == "box"
    assert np.array_equal(pixels(made(labels)[0])[reach != 20], (reach < 20)[reach != 20])


def test_the_outline_of_an_object_is_filled_as_it_was_drawn_and_its_hole_is_not(tmp_path: Path) -> None:
    make_raster(tmp_path / "images/scene_0.tif", height=60, width=80, transform=from_origin(500_000, 40_000, 1, 1))
    ring = np.array([(10, 10), (60, 10), (60, 30), (30, 30), (30, 50), (10, 50)]) * (1, -1) + (500_000, 40_000)
    court = shapely.Polygon(ring, [shapely.box(500_015, 39_975, 500_025, 39_985).exterior])
    table = geopandas.GeoDataFrame({"category": ["court"]}, geometry=[court], crs="EPSG:32636")
    table.to_file(tmp_path / "boxes.gpkg", driver="GPKG")
    settings = LabelSettings(
        tmp_path / "images", tmp_path / "boxes.gpkg", "geojson", segmenter="box", background="ground"
    )
    labels = tmp_path / "labels"
    build(settings, labels)
    write_decisions(labels, [decision(labels, 0, "box")])
    with open_review(labels, ReviewOptions()) as (session, _):
        assert session.view(1)["filled"].count("M") == 2, "the page shows the hole"
    build(settings, labels, resume=True)
    assert made(labels)[0]["reviewed"]["verdict"] == "box"
    assert made(labels)[0]["area"] == 1400 - 100


def test_decisions_leave_a_manifest_of_your_own_as_it_is(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    manifest = Manifest.load(labels / "manifest.parquet")
    replace(manifest, entries=tuple(replace(entry, split="test") for entry in manifest.entries)).save(
        labels / "manifest.parquet"
    )
    mine = (labels / "manifest.parquet").read_bytes()
    write_decisions(labels, [decision(labels, 0, "drop")])
    with pytest.warns(GeodistillWarning, match=r"manifest\.parquet is not as it was written and stays"):
        account = build(settings, labels, resume=True)
    assert account["boxes"]["dropped"] == {"dropped in review": 1}
    assert (labels / "manifest.parquet").read_bytes() == mine


def test_a_later_run_keeps_decisions(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    write_decisions(labels, [decision(labels, 0, "drop"), decision(labels, 1, "accept")])
    account = build(settings, labels, resume=True)
    decided = contents(labels)
    assert build(settings, labels, resume=True) == account
    assert contents(labels) == decided
    (labels / "gray/scene_0.png").unlink()
    with pytest.warns(GeodistillWarning, match="labelled again"):
        assert build(settings, labels, resume=True) == account
    assert contents(labels) == decided
    # A run that was killed between the decisions and their masks: the journal knows nothing of them.
    (labels / ".journal.jsonl").write_bytes(b"")
    assert build(settings, labels, resume=True) == account
    assert contents(labels) == decided


def test_a_decision_about_another_mask_is_not_applied_and_counted(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    other = decision(labels, 0, "drop")
    changed = {**other.original, "score": 0.125}
    write_decisions(labels, [Decision(**vars(other) | {"original": changed}), decision(labels, 1, "drop")])
    account = build(settings, labels, resume=True)
    assert (account["review"]["decided"], account["review"]["not_applied"]) == (1, 1)
    assert 0 in made(labels)


def test_the_share_of_good_labels_is_not_told_of_masks_that_nobody_saw(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    other, seen = decision(labels, 0, "accept"), decision(labels, 1, "accept")
    changed = Decision(**vars(other) | {"original": {**other.original, "score": 0.125}})
    write_decisions(labels, [changed, seen], GoodShare(2, 2, 2))
    account = build(settings, labels, resume=True)
    assert (account["review"]["not_applied"], "sample" in account["review"]) == (1, False)
    assert "good labels" not in format_account(account, labels)


@pytest.mark.parametrize("differs", [{"annotated_bbox": [1.0, 1.0, 5.0, 5.0]}, {"mask_value": 7}])
def test_a_decision_about_another_box_without_a_mask_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: dict[str, Any]
) -> None:
    """As where an annotation before it was removed, so that another box has its index."""
    settings, labels, (box, *_) = make_unmasked_labels(tmp_path, monkeypatch)
    original = next(dict(made) for name, made in objects_of(labels) if name == FIRST)[box]
    before, about = mask_file(labels), ("Ada", "2026-01-02T03:04:05+00:00")
    write_decisions(labels, [Decision(FIRST, box, "box", *about, {**original, **differs})])
    account = build(settings, labels, resume=True)
    assert (account["review"]["decided"], account["review"]["not_applied"]) == (0, 1)
    assert (mask_file(labels) == before).all()


def test_a_tile_without_any_object_left_comes_back_with_its_image(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", height=60, width=60, objects=2)
    settings = settings_of(source, tile=60)
    labels = tmp_path / "labels"
    build(settings, labels)
    before = contents(labels)
    decided = [decision(labels, box, "drop") for box in made(labels)]
    write_decisions(labels, decided)
    build(settings, labels, resume=True)
    assert not (labels / "images/scene_0_00000_00000.png").exists()
    write_decisions(labels, [Decision(**vars(one) | {"verdict": "accept"}) for one in decided])
    build(settings, labels, resume=True)
    after = contents(labels)
    assert {k: after[k] for k in before if k.split("/")[0] in ("gray", "color", "images")} == {
        k: before[k] for k in before if k.split("/")[0] in ("gray", "color", "images")
    }


def test_boxes_without_a_mask_are_decided_too_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, labels, empty = make_unmasked_labels(tmp_path, monkeypatch)
    boxes = next(dict(made) for name, made in objects_of(labels) if name == FIRST)
    assert len(empty) >= 2
    assert [box for box, one in boxes.items() if "no_mask" in one] == empty
    untouched, before = contents(labels), mask_file(labels)
    first, second, *others = empty
    verdicts = {first: "box", second: "drop", **dict.fromkeys(others, "accept")}
    about = ("Ada", "2026-01-02T03:04:05+00:00")
    write_decisions(labels, [Decision(FIRST, box, verdict, *about, boxes[box]) for box, verdict in verdicts.items()])
    account = build(settings, labels, resume=True)

    def pixels_of(box: int) -> tuple[slice, slice]:
        left, top, wide, high = (int(v) for v in boxes[box]["annotated_bbox"])
        return slice(top, top + high), slice(left, left + wide)

    now = mask_file(labels)
    assert (before[pixels_of(first)] == IGNORE_INDEX).all()
    assert (now[pixels_of(first)] == boxes[first]["mask_value"]).all()
    assert (now[pixels_of(second)] == 0).all()
    assert all((now[pixels_of(box)] == IGNORE_INDEX).all() for box in others)
    assert account["review"]["decided"] == len(empty)
    assert account["review"]["not_applied"] == 0
    assert account["boxes"]["dropped"] == {"dropped in review": 1, "empty mask": 12 - 1 - account["boxes"]["labelled"]}
    assert first in made(labels)
    write_decisions(labels, [Decision(**vars(one) | {"verdict": "undecided"}) for one in read_decisions(labels)[FIRST]])
    build(settings, labels, resume=True)
    again = contents(labels)
    assert {name for name in again if again[name] != untouched.get(name)} == {DECISIONS, ".journal.jsonl"}


def test_a_mask_of_which_a_decision_leaves_nothing_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, labels = make_labels(tmp_path)
    before, one = contents(labels), decision(labels, 0, "box")
    monkeypatch.setattr(decisions, "filled_shape", lambda *_: Mask(0, 0, np.zeros((1, 1), bool)))
    write_decisions(labels, [one])
    assert build(settings, labels, resume=True)["boxes"]["dropped"] == {EMPTIED: 1}
    monkeypatch.undo()
    write_decisions(labels, [Decision(**vars(one) | {"verdict": "undecided"})])
    build(settings, labels, resume=True)
    again = contents(labels)
    assert {name for name in again if again[name] != before.get(name)} == {DECISIONS, ".journal.jsonl"}


def test_the_share_of_good_labels_stays_with_the_labels(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    decided = [decision(labels, 0, "accept"), decision(labels, 1, "drop")]
    write_decisions(labels, decided, GoodShare(1, 2, 4))
    account = build(settings, labels, resume=True)
    assert account["review"]["sample"] == GoodShare(1, 2, 4).to_json()
    assert "good labels: 50% (95 % interval 9% to 91%), 1 of 2 decided" in format_account(account, labels)
    # Another sample over the same decisions: nothing is labelled, and the account follows.
    write_decisions(labels, decided, GoodShare(1, 2, 3))
    assert build(settings, labels, resume=True)["review"]["sample"]["of"] == 3
    write_decisions(labels, decided)
    assert "sample" not in build(settings, labels, resume=True)["review"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": 9, "decisions": []}', "format version 9"),
        ("[]", "format version None"),
        ('{"format_version": 1, "decisions": [{"key": "scene_0"}]}', "decisions as 'geodistill review"),
        ('{"format_version": 1, "decisions": [{"verdict": "prompt"}]}', "decisions as 'geodistill review"),
        ('{"format_version": 1, "decisions": 7}', "decisions as 'geodistill review"),
        ("{", "not JSON"),
        ('{"format_version": 1, "decisions": [], "sample": {"good": 3, "decided": 2, "of": 9}}', "decisions as"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / DECISIONS).write_text(text)
    with pytest.raises(DataError, match=message):
        read_review(tmp_path)


def test_a_mask_that_is_none_of_the_tile_is_refused(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    far = {"size": [6000, 8000], "counts": "0"}
    write_decisions(labels, [decision(labels, 0, "prompt", mask=far, score=0.5)])
    with pytest.raises(DataError):
        build(settings, labels, resume=True)


@pytest.mark.parametrize("value", [-1, 3, 10**9])
def test_a_decision_of_no_class_of_the_legend_is_not_applied(tmp_path: Path, value: int) -> None:
    """As where a file of decisions was edited by hand after they were applied."""
    settings, labels = make_labels(tmp_path)
    dropped = decision(labels, 0, "drop")
    write_decisions(labels, [dropped])
    assert build(settings, labels, resume=True)["review"]["decided"] == 1
    write_decisions(labels, [Decision(**vars(dropped) | {"original": {**dropped.original, "mask_value": value}})])
    account = build(settings, labels, resume=True)["review"]
    assert (account["decided"], account["not_applied"]) == (0, 1)


def test_without_its_journal_a_label_set_is_said_to_lack_it(tmp_path: Path) -> None:
    _, labels = make_labels(tmp_path)
    (labels / JOURNAL).unlink()
    with pytest.raises(DataError, match=r"journal\.jsonl cannot be read"):
        altered_by_hand(labels, ["gray/scene_0.png"])


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, classes=("a", "b"), colours=((1, 2, 3), (4, 5, 6)), bands=(1, 2, 3), tile=64)
    assert LabelSettings.from_dict(json.loads(json.dumps(settings.to_dict())), "settings.json").to_dict() == (
        settings.to_dict()
    )
    with pytest.raises(DataError, match=r"settings\.json"):
        LabelSettings.from_dict({"images": 3}, "settings.json")
