from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.errors import RecipeError
from geodistill.label.boxes import Box, boxes_in, rectangle, rotated
from geodistill.label.masks import Runs, crop_runs
from geodistill.label.tiles import tile_windows
from geodistill.raster import Window

SIDES = st.integers(1, 90)
POSITIONS = st.floats(-20, 110, allow_nan=False)


def box(polygon: NDArray[np.float64], index: int = 0, kind: str = "hbox") -> Box:
    return Box(polygon, "ship", 0, f"a.txt:{index + 1}", kind, index)  # type: ignore[arg-type]


def area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


@st.composite
def any_boxes(draw: st.DrawFn) -> list[Box]:
    count = draw(st.integers(0, 6))
    found = []
    for index in range(count):
        x, y = draw(POSITIONS), draw(POSITIONS)
        w, h = draw(st.floats(0.5, 60)), draw(st.floats(0.5, 60))
        angle = draw(st.sampled_from([0.0, 0.3, 0.8, 1.57]))
        polygon = rotated(x, y, w, h, angle)
        found.append(box(polygon[draw(st.permutations(range(4)))], index, "rbox" if angle else "hbox"))
    return found


@settings(max_examples=60)
@given(height=SIDES, width=SIDES, size=st.integers(1, 70), data=st.data())
def test_windows_cover_every_pixel_and_never_overrun(height: int, width: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1).filter(lambda o: (height + width) / (size - o) < 60))
    windows = tile_windows(height, width, size, overlap)
    seen = np.zeros((height, width), int)
    for window in windows:
        assert window.row >= 0
        assert window.col >= 0
        assert (window.height, window.width) == (min(size, height), min(size, width))
        assert window.row + window.height <= height
        assert window.col + window.width <= width
        seen[window.slices] += 1
    assert seen.min() == 1 or overlap > 0
    assert seen.min() >= 1
    assert len(set(windows)) == len(windows)
    assert max(w.row + w.height for w in windows) == height
    assert max(w.col + w.width for w in windows) == width
    rows = sorted({w.row for w in windows})
    assert all(b - a <= size - overlap for a, b in pairwise(rows)), "neighbours share the overlap"


def test_windows_of_the_published_sets() -> None:
    assert [w.col for w in tile_windows(1024, 4000, 1024, 200)] == [0, 824, 1648, 2472, 2976]
    assert [w.row for w in tile_windows(1000, 600, 600, 150)] == [0, 400]
    assert tile_windows(800, 800, None, 0) == [Window(0, 0, 800, 800)]
    assert tile_windows(0, 0, None, 0) == []


@pytest.mark.parametrize(("size", "overlap"), [(100, 100), (100, -1), (0, 0)])
def test_tiles_that_make_no_sense(size: int, overlap: int) -> None:
    with pytest.raises(RecipeError, match=f"tiles of {size}"):
        tile_windows(500, 500, size, overlap)


@pytest.mark.slow
@settings(max_examples=60)
@given(boxes=any_boxes(), size=st.integers(20, 60), share=st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_every_box_above_the_share_is_kept_somewhere(boxes: list[Box], size: int, share: float) -> None:
    height, width = 80, 100
    windows = tile_windows(height, width, size, size // 3)
    kept: dict[int, list[tuple[Window, Box]]] = {b.index: [] for b in boxes}
    for window in windows:
        for moved in boxes_in(boxes, window, share):
            kept[moved.index].append((window, moved))
    for b in boxes:
        inside = [inside_share(b, window) for window in windows]
        certain = [w for w, s in zip(windows, inside, strict=True) if s > share + 1e-6 and s * area(hull(b)) > 1e-3]
        possible = [w for w, s in zip(windows, inside, strict=True) if s > max(share - 1e-6, 0)]
        assert set(certain) <= {w for w, _ in kept[b.index]} <= set(possible)
        for window, moved in kept[b.index]:
            assert moved.polygon.min() >= -1e-9
            assert (moved.polygon <= (window.width + 1e-9, window.height + 1e-9)).all()
            assert len(moved.polygon) >= 3
            assert area(hull(moved)) == pytest.approx(inside_share(b, window) * area(hull(b)), rel=1e-6, abs=1e-6)
            assert (moved.index, moved.source, moved.category, moved.kind) == (b.index, b.source, b.category, b.kind)


def hull(b: Box) -> NDArray[np.float64]:
    """Corners in the order of their angle about the centre: boxes are read with corners in any order."""
    middle = b.polygon.mean(axis=0)
    dx, dy = (b.polygon - middle).T
    return b.polygon[np.argsort(np.arctan2(dy, dx))]


def inside_share(b: Box, window: Window) -> float:
    """Share of a convex box inside a window, by cutting it with each edge in turn (Sutherland-Hodgman)."""
    polygon = hull(b)
    whole = area(polygon)
    for axis, limit, sign in (
        (0, window.col, 1),
        (0, window.col + window.width, -1),
        (1, window.row, 1),
        (1, window.row + window.height, -1),
    ):
        cut = []
        for here, after in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            a, b_ = sign * (here[axis] - limit), sign * (after[axis] - limit)
            if a >= 0:
                cut.append(here)
            if (a > 0 > b_) or (a < 0 < b_):
                cut.append(here + (after - here) * (a / (a - b_)))
        polygon = np.array(cut)
        if len(polygon) < 3:
            return 0.0
    return area(polygon) / whole


def test_a_box_smaller_than_the_overlap_is_whole_in_some_tile() -> None:
    rng = np.random.default_rng(3)
    low = rng.uniform(0, (370, 270), (400, 2))
    boxes = [box(rectangle(x, y, x + 30, y + 30), i) for i, (x, y) in enumerate(low)]
    whole: set[int] = set()
    for window in tile_windows(300, 400, 100, 30):
        whole |= {b.index for b in boxes_in(boxes, window, 1.0)}
    assert whole == set(range(400))


def test_shares_of_the_papers() -> None:
    tile = Window(0, 0, 100, 100)
    sixty = box(rectangle(60, 10, 160 - 100 / 3, 20))  # 60 % inside
    assert boxes_in([sixty], tile, 0.7) == []
    (moved,) = boxes_in([sixty], tile, 0.5)
    assert moved.box == (60, 10, 100, 20)
    assert boxes_in([box(rectangle(100, 0, 120, 20))], tile, 0.0) == [], "touching is not inside"
    with pytest.raises(RecipeError, match="share 2"):
        boxes_in([sixty], tile, 2)


def test_crossed_corners_are_a_box_all_the_same() -> None:
    crossed = box(rectangle(10, 10, 30, 20)[[0, 2, 1, 3]], kind="rbox")
    (moved,) = boxes_in([crossed], Window(0, 0, 100, 20), 0.5)
    assert moved.box == (10, 10, 20, 20)


def test_an_outline_that_crosses_itself_is_clipped() -> None:
    eight = box(np.array([[0, 0], [20, 20], [20, 0], [0, 20]], float), kind="polygon")
    (moved,) = boxes_in([eight], Window(0, 5, 40, 40), 0.3)
    assert moved.box[0] == 0
    assert moved.box[2] == 15


@settings(max_examples=60)
@given(data=st.data())
def test_runs_are_cut_as_the_mask_would_be(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width) | data.draw(st.booleans())
    window = Window(
        *(data.draw(st.integers(-3, 11)) for _ in range(2)), *(data.draw(st.integers(1, 9)) for _ in range(2))
    )
    expected = np.zeros((window.height, window.width), bool)
    for row, col in np.argwhere(mask) - (window.row, window.col):
        if 0 <= row < window.height and 0 <= col < window.width:
            expected[row, col] = True
    cut = crop_runs(Runs.of(mask, 0, 0, height, width), window)
    whole = Runs.of(expected, 0, 0, window.height, window.width)
    assert cut.starts.tolist() == whole.starts.tolist()
    assert cut.ends.tolist() == whole.ends.tolist()


def test_true_masks_and_own_boxes_move_along() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:70] = True
    runs = Runs.of(mask, 0, 0, 60, 80)
    whole = Box(rectangle(30, 20, 70, 40), "a", 0, "f:1", "rbox", 4, runs.to_coco(), (28.0, 18.0, 72.0, 42.0))
    (moved,) = boxes_in([whole], Window(10, 25, 40, 30), 0.5)
    assert moved.segmentation is not None
    assert Runs.from_coco(moved.segmentation).bounds == (10, 5, 30, 30)
    assert moved.horizontal == (3, 8, 30, 32)
    assert moved.index == 4
    (same,) = boxes_in([whole], Window(0, 0, 60, 80), 0.5)
    assert same.segmentation == runs.to_coco()


@pytest.mark.slow
def test_many_boxes_and_many_tiles_stay_quick() -> None:
    """Seconds, not minutes: 4,000 boxes over 361 tiles."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 9900, (4_000, 2))
    boxes = [box(rectangle(x, y, x + 20, y + 20), i) for i, (x, y) in enumerate(low)]
    kept = sum(len(boxes_in(boxes, window, 0.7)) for window in tile_windows(10_000, 10_000, 1024, 500))
    assert kept > 4_000
