"""The floor: shapes filled as they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.label.boxes import Box, rectangle
from geodistill.label.masks import Mask, fill_polygon
from geodistill.label.segmenters.promptable import BoxSegmenter, Prompts, build_prompts, build_segmenter

IMAGE = np.zeros((30, 40, 3), np.uint8)


def whole(mask: Mask, height: int = 30, width: int = 40) -> NDArray[np.bool_]:
    full = np.zeros((height, width), bool)
    rows, columns = mask.pixels.shape
    full[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.pixels
    return full


@settings(deadline=None, max_examples=40)
@given(
    middle=st.tuples(st.floats(12, 28), st.floats(12, 18)),
    sides=st.tuples(st.floats(2, 16), st.floats(2, 16)),
    turn=st.floats(0, 3),
)
def test_a_pixel_belongs_to_a_shape_if_its_centre_does(
    middle: tuple[float, float], sides: tuple[float, float], turn: float
) -> None:
    spin = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    half = np.array(sides) / 2
    corners = rectangle(*-half, *half) @ spin.T + middle
    mask = whole(fill_polygon(corners, 30, 40))
    centres = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), -1)
    # In the rectangle's own axes a pixel is inside where both coordinates are below half the sides.
    margin = (half - np.abs((centres - middle) @ spin)).min(axis=-1)
    clear = np.abs(margin) > 1e-6
    assert np.array_equal(mask[clear], (margin > 0)[clear])


def test_a_shape_beyond_the_image_is_cut() -> None:
    mask = fill_polygon(rectangle(-7, -3, 5, 4), 30, 40)
    assert (mask.left, mask.top, mask.pixels.shape, bool(mask.pixels.all())) == (0, 0, (4, 5), True)


def test_the_oriented_shape_is_filled_rather_than_its_bounds() -> None:
    diamond = np.array([(10.0, 0.0), (20.0, 10.0), (10.0, 20.0), (0.0, 10.0)])
    prompts = build_prompts([Box(diamond, "ship", 0, "a:1", "rbox")], ("hbox",))
    segmenter = build_segmenter("box")
    [mask] = segmenter.masks(segmenter.embed([IMAGE])[0], prompts)
    assert mask.pixels.sum() == pytest.approx(200, abs=21)
    assert mask.score == 1


@pytest.mark.parametrize(
    ("prompts", "pixels"),
    [
        (Prompts(boxes=np.array([(2, 3, 7, 9)], np.float32)), 30),
        (Prompts(polygons=(rectangle(2, 3, 7, 9),)), 30),
        (Prompts(points=np.array([(5.5, 6.5)], np.float32)), 1),
        (Prompts(boxes=np.array([(0, 0, 9, 9)], np.float32), polygons=(rectangle(2, 3, 7, 9),)), 30),
    ],
    ids=["box", "mask", "point", "mask before box"],
)
def test_without_an_annotated_shape_the_best_prompt_is_filled(prompts: Prompts, pixels: int) -> None:
    segmenter = BoxSegmenter()
    [mask] = segmenter.masks(segmenter.embed([IMAGE])[0], prompts)
    assert mask.pixels.sum() == pixels


@pytest.mark.parametrize("place", [(5.2, 6.3), (0, 0), (40, 30), (39.9, 12)])
def test_a_shape_below_a_pixel_has_the_pixel_it_lies_in(place: tuple[float, float]) -> None:
    outline = np.array(place) + np.array(((0, 0), (0.1, 0), (0, 0.1)))
    segmenter = BoxSegmenter()
    [mask] = segmenter.masks(segmenter.embed([IMAGE])[0], Prompts(polygons=(outline,)))
    column, row = (min(int(value), side - 1) for value, side in zip(place, (40, 30), strict=True))
    assert (mask.left, mask.top, mask.pixels.tolist()) == (column, row, [[True]])


def test_trimming_keeps_the_pixels_where_they_are() -> None:
    mask = np.zeros((6, 7), bool)
    mask[2, 3] = mask[4, 5] = True
    trimmed = Mask.tight(mask, 10, 20, 0.5)
    assert (trimmed.left, trimmed.top, trimmed.pixels.shape, trimmed.score) == (13, 22, (3, 3), 0.5)
    assert trimmed.pixels.sum() == 2
    assert Mask.tight(np.zeros((3, 4), bool), 0, 0, 0.0).pixels.shape == (0, 0)
