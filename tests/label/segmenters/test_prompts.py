"""Prompts from boxes: which numbers each kind gives, and which combinations are taken."""

from __future__ import annotations

import numpy as np
import pytest

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.label.boxes import Box, rectangle
from geodistill.label.segmenters.promptable import COMBINATIONS, PROMPTS, Prompts, build_prompts, parse_prompt

DIAMOND = np.array([(10.0, 0.0), (20.0, 10.0), (10.0, 20.0), (0.0, 10.0)])


def oriented(horizontal: tuple[float, float, float, float] | None = None) -> Box:
    return Box(DIAMOND, "ship", 0, "a.txt:1", "rbox", horizontal=horizontal)


def test_the_fifteen_combinations_are_distinct_and_readable() -> None:
    assert len(set(COMBINATIONS)) == 15
    assert all(parse_prompt("+".join(kinds)) == kinds for kinds in COMBINATIONS)
    assert {kind for kinds in COMBINATIONS for kind in kinds} == set(PROMPTS)


def test_centre_point_is_the_middle_of_the_box() -> None:
    prompts = build_prompts([oriented()], ("cp",))
    assert prompts.points is not None
    assert prompts.points.tolist() == [[10.0, 10.0]]
    assert (prompts.boxes, prompts.polygons) == (None, None)


@pytest.mark.parametrize(
    ("kind", "expected"), [("hbox", [1, 2, 3, 4]), ("auto", [1, 2, 3, 4]), ("rhbox", [0, 0, 20, 20])]
)
def test_a_sets_own_horizontal_box_is_the_h_box(kind: str, expected: list[int]) -> None:
    prompts = build_prompts([oriented((1.0, 2.0, 3.0, 4.0))], parse_prompt(kind))
    assert prompts.boxes is not None
    assert prompts.boxes.dtype == np.float32
    assert prompts.boxes.tolist() == [expected]


def test_without_a_horizontal_box_auto_takes_the_bounds_of_the_oriented_one() -> None:
    auto, bounds = (build_prompts([oriented()], (kind,)).boxes for kind in ("auto", "rhbox"))
    assert auto is not None
    assert auto.tolist() == [[0, 0, 20, 20]] == bounds.tolist()  # type: ignore[union-attr]


def test_mask_prompts_are_the_outlines_of_their_boxes() -> None:
    box = oriented((1.0, 2.0, 3.0, 4.0))
    outlines = [build_prompts([box], (f"{kind}-mask",)).polygons for kind in ("hbox", "rbox", "rhbox")]
    expected = (rectangle(1, 2, 3, 4), DIAMOND, rectangle(0, 0, 20, 20))
    for outline, polygon in zip(outlines, expected, strict=True):
        assert outline is not None
        assert np.array_equal(outline[0], polygon)


def test_an_oriented_box_around_a_polygon_is_the_smallest_rectangle() -> None:
    notched = Box(np.insert(DIAMOND, 1, (11.0, 9.0), axis=0), "ship", 0, "a.json:1", "polygon")
    prompts = build_prompts([notched], ("rbox-mask",))
    assert prompts.polygons is not None
    assert sorted(np.rint(prompts.polygons[0]).tolist()) == sorted(DIAMOND.tolist())


def test_combined_prompts_keep_all_parts_and_the_annotated_shape() -> None:
    prompts = build_prompts([oriented(), oriented()], parse_prompt("cp + rhbox + rbox-mask"))
    parts = (prompts.points, prompts.boxes, prompts.polygons, prompts.outlines)
    assert [len(part) for part in parts if part is not None] == [2, 2, 2, 2]
    assert len(prompts) == 2


def test_a_part_of_the_prompts_holds_the_same_objects_everywhere() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    prompts = Prompts(points, np.tile(points, 2), tuple(DIAMOND + i for i in range(5)))
    part = prompts.part(3, 9)
    assert len(part) == 2
    assert part.points is not None
    assert part.points.tolist() == points[3:].tolist()
    assert part.polygons is not None
    assert np.array_equal(part.polygons[0], DIAMOND + 3)


@pytest.mark.parametrize("text", ["box", "", "auto+cp", "hbox+rbox"])
def test_unknown_prompts_are_refused(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown prompt"):
        parse_prompt(text)


@pytest.mark.parametrize("text", ["hbox+rhbox", "hbox-mask+rbox-mask", "cp+cp"])
def test_two_of_a_sort_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="at most one point, one box and one mask"):
        parse_prompt(text)


def test_prompts_of_unequal_number_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Prompts(np.zeros((2, 2), np.float32), np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="no boxes"):
        build_prompts([], ("hbox",))
