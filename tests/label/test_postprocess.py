from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from geodistill.errors import RecipeError
from geodistill.label.boxes import Box, boxes_in, rectangle
from geodistill.label.masks import Mask, fill_polygon
from geodistill.label.postprocess import EMPTY, LEAVES_BOX, NO_RULES, Rules, finish, outside_share
from geodistill.label.segmenters.promptable import build_prompts
from geodistill.raster import Window


def box(left: float, top: float, right: float, bottom: float) -> Box:
    return Box(rectangle(left, top, right, bottom), "ship", 0, "made up", "hbox")


def crop(text: str, left: int = 0, top: int = 0, score: float = 1.0) -> Mask:
    """Read a mask from a drawing."""
    rows = [[character == "#" for character in line.strip()] for line in text.strip().splitlines()]
    return Mask(left, top, np.array(rows, bool), score)


def drawn(mask: NDArray[np.bool_]) -> list[str]:
    return ["".join("#" if value else "." for value in row) for row in mask]


def test_without_rules_a_mask_stays_as_it_is() -> None:
    mask = crop("#.#\n...\n#.#")
    done = finish(mask, box(0, 0, 1, 1), NO_RULES, 3, 3)
    assert done.mask is not None
    assert (done.mask.pixels == mask.pixels).all()
    assert (done.reason, done.changes) == ("", ())


def test_the_piece_at_the_boxs_centre_is_kept() -> None:
    done = finish(crop("##.#\n##.#\n...#"), box(0, 0, 2, 2), Rules(fill_holes=False, max_outside=None), 3, 4)
    assert done.mask is not None
    assert drawn(done.mask.pixels) == ["##..", "##..", "...."]
    assert done.changes == ("kept one component",)


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    done = finish(crop("#..\n.#.\n..#"), box(0, 0, 3, 3), Rules(max_outside=None), 3, 3)
    assert done.changes == ()


def test_without_a_pixel_at_the_centre_the_largest_piece_inside_the_box_is_kept() -> None:
    mask = crop("#...##\n....##\n....##")
    done = finish(mask, box(0, 0, 4, 3), Rules(max_outside=None), 3, 6)
    assert done.mask is not None
    assert drawn(done.mask.pixels) == ["#.....", "......", "......"]


def test_a_point_of_the_object_says_which_piece_is_kept() -> None:
    mask, around = crop("##.#\n##.#\n...#"), box(0, 0, 2, 2)
    for point, expected in (((3.5, 1.2), ["...#", "...#", "...#"]), ((2.5, 2.5), ["##..", "##..", "...."])):
        done = finish(mask, around, Rules(fill_holes=False, max_outside=None), 3, 4, point)
        assert done.mask is not None
        assert drawn(done.mask.pixels) == expected


def test_without_a_pixel_inside_the_box_the_largest_piece_is_kept() -> None:
    done = finish(crop("#...##\n....##\n....##"), box(1, 0, 4, 3), Rules(max_outside=None), 3, 6)
    assert done.mask is not None
    assert drawn(done.mask.pixels)[1] == "....##"


def test_holes_are_filled_and_bays_are_not() -> None:
    done = finish(crop("#####\n#.#.#\n###.#"), box(0, 0, 5, 3), Rules(max_outside=None), 3, 5)
    assert done.mask is not None
    assert drawn(done.mask.pixels) == ["#####", "###.#", "###.#"]
    assert done.changes == ("filled holes",)


@pytest.mark.parametrize(("limit", "kept"), [(0.49, False), (0.5, True), (None, True)])
def test_masks_that_leave_their_box_are_dropped(limit: float | None, kept: bool) -> None:
    done = finish(crop("####"), box(0, 0, 2, 1), Rules(max_outside=limit), 1, 4)
    assert (done.mask is not None) == kept
    assert done.reason == ("" if kept else LEAVES_BOX)


def test_outside_is_measured_against_the_oriented_box() -> None:
    diamond = replace(box(0, 0, 4, 4), polygon=np.array([(2, 0), (4, 2), (2, 4), (0, 2)], float), kind="rbox")
    everything = Mask(0, 0, np.ones((4, 4), bool), 1.0)
    assert outside_share(everything, box(0, 0, 4, 4)) == 0
    assert outside_share(everything, diamond) == pytest.approx(0.5, abs=0.26)
    assert outside_share(Mask(0, 0, np.zeros((0, 0), bool), 1.0), diamond) == 0


def test_below_a_score_the_oriented_box_is_filled() -> None:
    diamond = replace(box(0, 0, 9, 9), polygon=np.array([(4.5, 0), (9, 4.5), (4.5, 9), (0, 4.5)]), kind="rbox")
    done = finish(crop("#", score=0.3), diamond, Rules(min_score=0.5), 9, 9)
    assert done.changes == ("fell back to the box",)
    assert done.mask is not None
    assert 36 <= done.mask.pixels.sum() <= 46
    assert not done.mask.pixels[0, 0]


@pytest.mark.parametrize("thin", [box(21.6, 34.6, 22.4, 35.4), box(30, 10.6, 50, 11.4), box(8.7, 8.7, 8.9, 30)])
def test_what_is_thinner_than_a_pixel_is_kept(thin: Box) -> None:
    """No centre of a pixel lies inside, so that every mask would leave the box."""
    (left, top), (right, bottom) = np.floor(thin.polygon[0]).astype(int), np.ceil(thin.polygon[2]).astype(int)
    touched = Mask(left, top, np.ones((bottom - top, right - left), bool), 1.0)
    for mask in (fill_polygon(thin.polygon, 40, 60), touched):
        assert finish(mask, thin, Rules(), 40, 60).mask is not None
    assert finish(Mask(0, 0, np.ones((40, 60), bool), 1.0), thin, Rules(), 40, 60).reason == LEAVES_BOX


def test_no_more_of_a_large_box_is_looked_at_than_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box may be far larger than its tile, or than memory."""
    sizes: list[int] = []

    def counted(rings: Any, left: int, top: int, rows: int, columns: int) -> NDArray[np.bool_]:
        sizes.append(rows * columns)
        return np.ones((rows, columns), bool)

    monkeypatch.setattr("geodistill.label.postprocess.centres_inside", counted)
    assert outside_share(Mask(3, 3, np.ones((4, 5), bool), 1.0), box(-900, -900, 900, 900)) == 0
    assert sizes == [20]


def test_below_a_score_an_outline_is_filled_as_it_is_drawn() -> None:
    """An L fills a fifth of the rectangle around it, and a mask of that rectangle would leave the outline."""
    ring = np.array([(0, 0), (90, 0), (90, 10), (10, 10), (10, 90), (0, 90)], float)
    done = finish(crop("#", score=0.3), Box(ring, "road", 0, "made up", "polygon"), Rules(min_score=0.5), 100, 100)
    assert done.mask is not None
    assert (done.mask.pixels.sum(), done.changes) == (1700, ("fell back to the box",))


def test_an_empty_mask_is_dropped_or_falls_back() -> None:
    nothing = Mask(0, 0, np.zeros((0, 0), bool), 0.9)
    assert finish(nothing, box(0, 0, 2, 2), Rules(), 4, 4).reason == EMPTY
    done = finish(nothing, box(0, 0, 2, 2), Rules(min_score=0.0), 4, 4)
    assert done.mask is not None
    assert done.mask.pixels.sum() == 4


def test_what_lies_outside_the_tile_is_cut_off() -> None:
    inside = Mask(-2, -1, np.ones((4, 5), bool), 1.0).within(2, 10)
    assert (inside.left, inside.top, inside.pixels.shape) == (0, 0, (2, 3))
    assert Mask(20, 0, np.ones((2, 2), bool), 1.0).within(5, 5).pixels.size == 0


@settings(max_examples=80)
@given(st.lists(st.tuples(st.floats(-6, 16), st.floats(-6, 16)), min_size=3, max_size=6), st.integers(0, 99))
def test_a_polygon_holds_the_pixels_whose_centre_is_inside(corners: list[tuple[float, float]], seed: int) -> None:
    # Corners sorted around their middle never cross themselves; the jitter keeps edges off the centres of pixels.
    polygon = np.array(corners) + np.random.default_rng(seed).uniform(0.001, 0.01, (len(corners), 2))
    around = polygon - polygon.mean(axis=0)
    polygon = polygon[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
    centres = np.stack(np.meshgrid(np.arange(12) + 0.5, np.arange(9) + 0.5), -1).reshape(-1, 2)
    expected = Outline(polygon).contains_points(centres).reshape(9, 12)
    mask = fill_polygon(polygon, 9, 12)
    frame = np.zeros((9, 12), bool)
    frame[mask.top : mask.top + mask.pixels.shape[0], mask.left : mask.left + mask.pixels.shape[1]] = mask.pixels
    if expected.any():
        assert (frame == expected).all()
    else:
        assert frame.sum() <= 1


def test_a_polygon_between_pixel_centres_has_the_pixel_it_lies_in() -> None:
    mask = fill_polygon(rectangle(3.6, 2.6, 3.9, 2.8), 9, 9)
    assert (mask.left, mask.top, mask.pixels.tolist()) == (3, 2, [[True]])


@pytest.mark.parametrize("wrong", [{"max_outside": 1.5}, {"min_score": -0.1}])
def test_rules_are_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="from 0 to 1"):
        Rules(**wrong)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("#####\n#####\n#####\n#####", ()),
        ("#####\n#...#\n#...#\n#####", ()),
        ("#####\n#...#\n##..#\n#####", ("filled holes",)),  # one pixel is missing beside the hole
        (".....\n.....\n.....\n.....", ("fell back to the box",)),
    ],
)
def test_an_annotated_hole_stays_open_whatever_was_found_there(text: str, changes: tuple[str, ...]) -> None:
    hole = rectangle(2, 1, 4, 3) if "filled holes" in changes else rectangle(1, 1, 4, 3)
    shape = replace(box(0, 0, 5, 4), kind="polygon", holes=(hole,))
    done = finish(crop(text, score=0.9), shape, Rules(min_score=0.5), 4, 5)
    assert done.mask is not None
    expected = (
        ["#####", "##..#", "##..#", "#####"] if "filled holes" in changes else ["#####", "#...#", "#...#", "#####"]
    )
    assert (drawn(done.mask.pixels), done.changes) == (expected, changes)


@pytest.mark.parametrize("middle", [(0.0, 20.0), (40.0, 20.0), (20.0, 0.0), (40.0, 40.0), (20.0, 20.0), (37.0, 3.0)])
def test_an_oriented_box_that_a_border_cuts_is_filled_as_it_is_drawn(middle: tuple[float, float]) -> None:
    """A square that stands on its corner, cut to three to six corners: nearer to its middle than its half diagonal."""
    half = 15.0
    corners = np.array(middle) + half * np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
    whole = Box(corners, "ship", 0, "made up", "rbox")
    (cut,) = boxes_in([whole], Window(0, 0, 40, 40), 0.1)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    reach = np.abs(columns - middle[0]) + np.abs(rows - middle[1])
    sure = np.abs(reach - half) > 1e-6  # a centre on the line itself belongs to either side
    done = finish(Mask(0, 0, np.zeros((0, 0), bool), 0.0), cut, Rules(min_score=0.5), 40, 40)
    assert done.mask is not None
    assert done.changes == ("fell back to the box",)
    (mask_prompt,) = build_prompts([cut], ("rbox-mask",)).polygons or ()
    for mask in (done.mask, fill_polygon(mask_prompt, 40, 40)):
        filled = np.zeros((40, 40), bool)
        filled[mask.place] = mask.pixels
        assert np.array_equal(filled[sure], (reach < half)[sure])
    assert cut.rbox.shape == (4, 2)
