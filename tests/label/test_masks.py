from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from geodistill.label.masks import Runs


def full(mask: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    """Put a mask into its frame pixel by pixel."""
    frame = np.zeros((height, width), bool)
    for row, col in np.argwhere(mask):
        if 0 <= row + top < height and 0 <= col + left < width:
            frame[row + top, col + left] = True
    return frame


masks = st.builds(
    lambda height, width, seed, share: np.random.default_rng(seed).random((height, width)) < share,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 999),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)


@settings(max_examples=150)
@given(masks, st.integers(-4, 12), st.integers(-4, 12), st.integers(1, 11), st.integers(1, 11))
def test_runs_are_what_pycocotools_writes(
    mask: NDArray[np.bool_], top: int, left: int, height: int, width: int
) -> None:
    runs = Runs.of(mask, top, left, height, width)
    frame = full(mask, top, left, height, width)
    reference = coco.encode(np.asfortranarray(frame.astype(np.uint8)))
    assert runs.to_coco() == {"size": [height, width], "counts": reference["counts"].decode()}
    assert runs.area == frame.sum()
    crop = runs.crop()
    assert (full(crop.pixels, crop.top, crop.left, height, width) == frame).all()
    again = Runs.from_coco(reference)
    assert (again.starts == runs.starts).all()
    assert (again.ends == runs.ends).all()
    rows, columns = np.nonzero(frame)
    if len(rows):
        assert runs.bounds == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    else:
        assert runs.bounds == (0, 0, 0, 0)


@settings(max_examples=60)
@given(masks, masks, st.integers(-2, 5))
def test_overlap_counts_common_pixels(first: NDArray[np.bool_], second: NDArray[np.bool_], shift: int) -> None:
    a, b = Runs.of(first, 0, 0, 9, 9), Runs.of(second, shift, shift, 9, 9)
    assert a.overlap(b) == (full(first, 0, 0, 9, 9) & full(second, shift, shift, 9, 9)).sum()


def test_plain_counts_are_read() -> None:
    runs = Runs.from_coco({"size": [2, 3], "counts": [1, 2, 3]})
    assert runs.crop().pixels.tolist() == [[False, True], [True, False]]
    assert (runs.crop().top, runs.crop().left) == (0, 0)


@pytest.mark.parametrize("side", [1, 1000])
def test_large_counts_keep_their_digits(side: int) -> None:
    mask = np.ones((side, side), bool)
    runs = Runs.of(mask, 31, 977, 5000, 5000)
    assert Runs.from_coco(runs.to_coco()).area == side * side


@settings(max_examples=60)
@given(masks, st.integers(-2, 5), st.integers(1, 11))
def test_the_smallest_rectangle_holds_every_pixel(mask: NDArray[np.bool_], shift: int, side: int) -> None:
    runs = Runs.of(mask, shift, shift, side, side)
    if not runs.area:
        return
    corners = runs.smallest_rectangle()
    rows, columns = np.nonzero(full(mask, shift, shift, side, side))
    outline = np.concatenate([np.stack([columns + x, rows + y], 1) for x in (0, 1) for y in (0, 1)]).astype(np.float32)
    inside = [cv2.pointPolygonTest(corners.astype(np.float32), point.tolist(), True) for point in outline]
    assert min(inside) > -1e-3
    (_, (width, height), _) = cv2.minAreaRect(outline)
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    assert sides[0] * sides[1] == pytest.approx(width * height, rel=1e-3)


def test_a_turned_square_is_found() -> None:
    mask = np.zeros((40, 40), np.uint8)
    cv2.fillPoly(mask, [np.array([(20, 5), (35, 20), (20, 35), (5, 20)])], 1)
    corners = Runs.of(mask.astype(bool), 100, 200, 500, 500).smallest_rectangle()
    assert np.linalg.norm(corners[0] - corners[1]) == pytest.approx(16 * 2**0.5, abs=0.2)
    assert corners.mean(axis=0) == pytest.approx([220.5, 120.5], abs=0.2)
