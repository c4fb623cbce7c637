from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError, RecipeError
from geodistill.label.boxes import rectangle
from geodistill.label.build_labels import build
from geodistill.label.doubts import choose_views
from geodistill.label.label_set import load_label_set
from geodistill.label.masks import Runs
from geodistill.label.overlays import BASIC, draw_view, instance_colour
from geodistill.label.postprocess import CHANGES, Rules
from geodistill.label.preview import CONTACT, PAGE, preview


class Tags(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Six images; in the third the boxes' masks are empty, so that the box stands in their place."""
    source = make_detection_set(tmp_path / "set", 6, empty=0)
    data = read_coco(source)
    data["categories"][0]["name"] = "<script>alert('ship')</script>\x9b\u202e"
    write_boxes(source, data)
    dark = Image.new("RGB", (80, 60), (40, 40, 40))
    dark.save(source / "images/scene_2.png")
    rules = Rules(min_score=0.75)
    build(settings_of(source, segmenter="grabcut", rules=rules, prompt="cp+hbox"), tmp_path / "labels")
    return tmp_path / "labels"


@pytest.mark.slow
def test_the_page_is_whole_escaped_and_doubtful_first(labels: Path, tmp_path: Path) -> None:
    summary = preview(labels, tmp_path / "out", count=4)
    assert (summary["images"], summary["objects"]) == (4, 16)
    assert summary["doubtful"] >= 4
    page = (tmp_path / "out" / PAGE).read_text()
    parsed = Tags()
    parsed.feed(page)
    names = [tag for tag, _ in parsed.tags]
    assert "script" not in names
    assert "<script>alert('ship')</script>\\x9b\\u202e" in parsed.words, "the class's name is text"
    images = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(images) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in images)
    assert not re.search(r"https?://|src=.(?!data:)", page)
    heads = [word for word in parsed.words if word.startswith("scene_")]
    assert heads[0].startswith("scene_2"), "where every mask is the box"
    assert CHANGES[0] in page
    contact = np.asarray(Image.open(tmp_path / "out" / CONTACT))
    assert contact.shape[1] == 2 * (720 + 6)
    assert len(np.unique(contact.reshape(-1, 3), axis=0)) > 100


def test_the_six_basic_prompts_are_drawn_as_they_are(labels: Path, tmp_path: Path) -> None:
    prompt_set = load_label_set(labels)
    (view,) = choose_views(prompt_set, 1, 0, False)
    picture = draw_view(view, prompt_set, None)
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    shown = {}
    for number, name in enumerate(BASIC):
        row, column = divmod(number, 3)
        shown[name] = picture[row * height :][:height, column * width :][:, :width].astype(int)
    filled = {name: np.abs(shown[name] - shown["hbox"]).sum(2) > 60 for name in BASIC}
    # A filled box covers what its outline does not; the oriented box lies within its own bounds.
    assert filled["rhbox-mask"].sum() >= filled["rbox-mask"].sum() > 4 * filled["cp"].sum() > 0
    assert filled["hbox-mask"].sum() > 4 * filled["cp"].sum()
    assert preview(labels, tmp_path / "out", count=1, prompts=True)["images"] == 1
    assert "rbox-mask, rhbox-mask" in (tmp_path / "out" / PAGE).read_text()


@pytest.mark.parametrize(
    ("corners", "two_boxes", "point", "oriented"),
    [
        (None, False, (40, 30), rectangle(8, 8, 72, 52)),  # measured from the mask: no prompt
        (((8, 20), (40, 8), (60, 40), (28, 52)), False, (40, 30), None),  # of an outline with these bounds or others
        (((8, 20), (40, 8), (60, 40), (28, 52)), True, (34, 30), None),
    ],
)
def test_prompts_are_drawn_as_they_were_given(
    labels: Path, monkeypatch: pytest.MonkeyPatch, corners: Any, two_boxes: bool, point: Any, oriented: Any
) -> None:
    label_set = load_label_set(labels)
    view = choose_views(label_set, 1, 0, False)[0]
    mask = np.zeros((60, 80), bool)
    mask[8:52, 8:30] = True  # the left of its box
    runs = Runs.of(mask, 0, 0, 60, 80)
    given = np.round(runs.smallest_rectangle(), 2) if corners is None else np.array(corners, float)
    view.objects[:] = [replace(view.objects[0], box=(8.0, 8.0, 72.0, 52.0), runs=runs, corners=given)]
    points, rings = [], []
    monkeypatch.setattr(cv2, "drawMarker", lambda picture, place, *about: points.append(place))
    monkeypatch.setattr(cv2, "polylines", lambda picture, ring, *about: rings.append(ring[0] / 4))
    draw_view(view, label_set, "cp+rbox-mask", two_boxes=two_boxes)
    assert points == [(4 * point[0], 4 * point[1])]
    hbox, rbox = rings
    np.testing.assert_array_equal(hbox, rectangle(8, 8, 72, 52))
    np.testing.assert_array_equal(rbox, given if oriented is None else oriented)


def test_a_view_shows_the_bands_that_the_segmenter_saw(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3, empty=0)
    for path in (source / "images").iterdir():
        pixels = np.full((4, 60, 80), np.array((10, 20, 30, 200))[:, None, None], np.uint8)
        make_raster(path.with_suffix(".tif"), pixels=pixels)
        path.unlink()
    data = read_coco(source)
    for image in data["images"]:
        image["file_name"] = image["file_name"].replace(".png", ".tif")
    write_boxes(source, data)
    build(settings_of(source, bands=(4, 3, 2)), tmp_path / "labels")
    label_set = load_label_set(tmp_path / "labels")
    picture = draw_view(choose_views(label_set, 1, 0, False)[0], label_set, "hbox")
    assert picture[0, 0].tolist() == [200, 30, 20]


def test_which_rule_changed_an_object_stands_beside_its_score(labels: Path) -> None:
    annotations = json.loads((labels / "instances.json").read_text())["annotations"]
    counts = {name: sum(name in one["changed"] for one in annotations) for name in CHANGES}
    classes = json.loads((labels / "label.json").read_text())["classes"].values()
    assert counts == {name: sum(of_class["changed"][name] for of_class in classes) for name in CHANGES}
    assert counts[CHANGES[0]] >= 4


@pytest.mark.slow
def test_a_part_of_a_large_image_is_shown_around_its_object(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 1, height=1200, width=1300, objects=3, empty=0)
    build(settings_of(source), tmp_path / "labels")
    preview(tmp_path / "labels", tmp_path / "out", count=1)
    contact = np.asarray(Image.open(tmp_path / "out" / CONTACT).convert("RGB"))
    colours = {tuple(colour) for colour in contact[:240, :240].reshape(-1, 3).tolist()}
    assert len(colours) > 20, "the object and its box are in it"


def test_colours_of_neighbours_differ() -> None:
    colours = np.array([instance_colour(number) for number in range(1, 60)], int)
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100


def test_what_cannot_be_shown(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="0 images"):
        preview(labels, tmp_path / "out", count=0)
    text = (labels / "instances.json").read_text()
    (labels / "instances.json").write_text(
        text.replace('"rbox": [', '"rbox": ["x", ', 1).replace('"rbox":[', '"rbox":["x",', 1)
    )
    with pytest.raises(DataError, match="an annotation that 'label build' wrote"):
        preview(labels, tmp_path / "out")
    assert main(["label", "preview", "--labels", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
