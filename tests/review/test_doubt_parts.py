"""Doubts that ask somebody: the segmenter about moved boxes, a trained model about the class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection_sets import make_detection_set, settings_of
from geodistill.errors import DataError, RecipeError
from geodistill.label.boxes import Box, rectangle
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.masks import Mask, Runs, fill_polygon
from geodistill.label.pixels import Tile
from geodistill.label.postprocess import NO_RULES, Rules
from geodistill.label.segmenters.promptable import BoxSegmenter, Embedding, Prompts
from geodistill.raster import Window
from geodistill.review.doubt_parts import SHIFT, class_places, jitter_doubts, model_doubts
from geodistill.review.review_labels import ReviewOptions, open_review
from promptable import save_promptable
from reviewed import make_labels
from text_models import zoned_segmenter
from tiny import tiny_networks, tiny_segmenter


class FixedSegmenter:
    """Answers any box with the same mask, and keeps what it was asked."""

    name = "fixed"

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self.pixels, self.boxes = pixels, list[np.ndarray[Any, Any]]()

    def embed(self, images: Any) -> list[Embedding]:
        raise AssertionError

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
        assert prompts.boxes is not None
        self.boxes += list(prompts.boxes)
        return iter([Mask(0, 0, self.pixels) for _ in prompts.boxes])


def instance_of(pixels: np.ndarray[Any, Any], value: int = 0) -> dict[str, Any]:
    return {"segmentation": Runs.of(pixels, 0, 0, *pixels.shape).to_coco(), "mask_value": value}


def test_a_mask_that_stays_where_boxes_move_is_no_doubt() -> None:
    whole, half = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    whole[10:30, 10:30], half[10:20, 10:30] = True, True
    boxes = {7: Box(rectangle(10, 10, 30, 30), "a", 0, "", "hbox", 7)}
    for answer, doubt in ((whole, 0.0), (half, 0.5), (~whole, 1.0)):
        segmenter = FixedSegmenter(answer)
        settings = LabelSettings(Path(), Path(), "coco", rules=NO_RULES)
        assert jitter_doubts(segmenter, Embedding(40, 40), boxes, {7: instance_of(whole)}, settings, 3) == {7: doubt}
        moves = np.array(segmenter.boxes) - (10, 10, 30, 30)
        assert moves.shape == (3, 4)
        assert 0 < np.abs(moves).max() <= SHIFT * 20 + 1e-5
        assert len({tuple(move) for move in moves.tolist()}) == 3


def test_moved_boxes_are_asked_about_as_the_labels_were_made() -> None:
    ring = np.array(((20, 10), (30, 20), (20, 30), (10, 20)), np.float64)
    boxes = {7: Box(ring, "a", 0, "", "rbox", 7, horizontal=(8, 8, 32, 32))}
    diamond = fill_polygon(ring, 40, 40).runs(40, 40)
    instances = {7: {"segmentation": diamond.to_coco(), "mask_value": 0}}
    plain = LabelSettings(Path(), Path(), "coco", "box", prompt="rbox-mask", rules=NO_RULES)
    (doubt,) = jitter_doubts(BoxSegmenter(), Embedding(40, 40), boxes, instances, plain, 3).values()
    assert 0 < doubt < 0.25, "an upright box has twice the area of the oriented one"

    whole, pieces = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    whole[12:28, 12:28] = True
    pieces[12:28, 12:28], pieces[0:6, 0:40] = True, True
    segmenter, square = FixedSegmenter(pieces), {7: Box(rectangle(10, 10, 30, 30), "a", 0, "", "hbox", 7)}
    for rules, expected in ((NO_RULES, 1 - 256 / 496), (Rules(), 0.0), (Rules(min_score=1.0), 0.0)):
        settings = LabelSettings(Path(), Path(), "coco", rules=rules)
        doubts = jitter_doubts(segmenter, Embedding(40, 40), square, {7: instance_of(whole)}, settings, 3)
        assert doubts[7] == pytest.approx(expected)
    gone = LabelSettings(Path(), Path(), "coco", rules=Rules(keep_component=False, max_outside=0.1))
    assert jitter_doubts(segmenter, Embedding(40, 40), square, {7: instance_of(whole)}, gone, 3) == {7: 1.0}


def test_a_model_that_sees_another_class_is_a_doubt() -> None:
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels[0, :, :4], pixels[1, :, 4:] = 200, 200  # class c0 in the west, c1 in the east
    tile = Tile(Window(0, 0, 8, 8), pixels, np.ones((8, 8), bool), np.zeros((8, 8, 3), np.uint8), None)
    mask = np.zeros((8, 8), bool)
    mask[2, 1:5] = True  # three pixels in the west, one in the east
    with tiny_networks():
        model = tiny_segmenter("band")
        places = class_places(model, ("c1", "unheard", "c0"))
        assert places.tolist() == [1, -1, 0]
        instances = {5: instance_of(mask, 0), 6: instance_of(mask, 1), 9: instance_of(mask, 2)}
        assert model_doubts(model, places, tile, instances) == {5: 0.75, 6: None, 9: 0.25}
        with pytest.raises(RecipeError, match="one class in common"):
            class_places(model, ("boat",))


def test_grey_pictures_are_shown_to_a_model_as_a_set_keeps_them() -> None:
    grey = np.zeros((1, 8, 8), np.uint8)
    rgb = np.full((8, 8, 3), (0, 200, 0), np.uint8)  # no grey, to tell from the band: class c1 everywhere
    mask = np.zeros((8, 8), bool)
    mask[2, 1:5] = True
    with tiny_networks():
        three, one = tiny_segmenter("band"), tiny_segmenter("band", channels=1, classes=2)
        tile = Tile(Window(0, 0, 8, 8), grey, np.ones((8, 8), bool), rgb, None)
        assert model_doubts(three, np.array([1]), tile, {5: instance_of(mask)}) == {5: 0.0}
        assert model_doubts(one, np.array([0]), tile, {5: instance_of(mask)}) == {5: 0.0}
        deep = Tile(Window(0, 0, 8, 8), grey.astype(np.uint16), np.ones((8, 8), bool), rgb, None)
        with pytest.raises(DataError, match="1 bands"):
            model_doubts(three, np.array([1]), deep, {5: instance_of(mask)})


def test_a_review_asks_on_the_device_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = make_labels(tmp_path)[1]
    devices = []

    def segmenter_on(name: str, device: str, chunk_file: Path) -> BoxSegmenter:
        devices.append(device)
        return BoxSegmenter()

    monkeypatch.setattr("geodistill.review.prompting.segmenter_of", segmenter_on)
    with open_review(labels, ReviewOptions(jitter=1, device="cuda:7")):
        assert set(devices) == {"cuda:7"}
    with tiny_networks():
        tiny_segmenter("band").save(tmp_path / "model")
        options = ReviewOptions(model=tmp_path / "model", device="none-such")
        with pytest.raises(RecipeError, match="device 'none-such'"), open_review(labels, options):
            pass


@pytest.mark.slow
def test_a_review_asks_model_and_segmenter(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)[1]
    with tiny_networks():
        model = tiny_segmenter("band")
        model.spec.legend.__dict__["names"] = ("sea", "ship", "dock")
        model.save(tmp_path / "model")
        options = ReviewOptions(model=tmp_path / "model", jitter=2, sample=0)
        with open_review(labels, options) as (session, _):
            view = session.view(1)
    parts = view["doubts"]
    assert parts["doubt"] == pytest.approx(np.mean([parts[name] for name in ("score", "fit", "jitter", "model")]))
    assert 0 < parts["jitter"] < 0.4
    with open_review(labels, ReviewOptions(sample=0)) as (session, _):
        assert session.view(1)["doubts"] == parts, "what was measured stays"


@pytest.mark.parametrize("georeferenced", [True, False])
def test_a_model_of_climate_zones_is_asked_under_that_of_the_image(tmp_path: Path, georeferenced: bool) -> None:
    source = make_detection_set(tmp_path / "set", 2, georeferenced=georeferenced)
    build(settings_of(source, background="sea"), tmp_path / "labels")
    model = zoned_segmenter()
    model.spec.legend.__dict__["names"] = ("sea", "ship", "dock")
    model.save(tmp_path / "model")
    options = ReviewOptions(model=tmp_path / "model", sample=0)
    if not georeferenced:
        with pytest.raises(DataError, match="does not say where it lies"), open_review(tmp_path / "labels", options):
            pass
        return
    with open_review(tmp_path / "labels", options) as (session, _):
        assert 0 <= session.view(1)["doubts"]["model"] <= 1


@pytest.mark.slow
def test_a_network_draws_masks_anew(tmp_path: Path) -> None:
    weights = save_promptable("sam", tmp_path / "sam")
    labels = make_labels(tmp_path, segmenter=f"sam:{weights}", rules=Rules(max_outside=None))[1]
    with open_review(labels, ReviewOptions(sample=0, device="cpu", jitter=1)) as (session, _):
        view = session.view(1)
        assert 0 <= view["doubts"]["jitter"] <= 1
        left, top, right, bottom = view["bounds"]
        plain = session.prompt("c", 1, view["bounds"], None)
        pointed = session.prompt("c", 1, view["bounds"], [(left + right) / 2, (top + bottom) / 2])
        assert plain["pixels"] > 0
        assert plain != pointed
