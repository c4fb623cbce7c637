"""The grid of windows, what they read, and how overlapping ones become one map, however a scene is cut."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from factories import make_raster
from geodistill.inference.windows import Area, Blender, Part, WindowPlan, axis_weights
from geodistill.raster import Raster, Window


@given(st.integers(1, 3000), st.integers(1, 600), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]))
@settings(max_examples=300)
def test_windows_cover_the_axis_and_end_flush_with_it(length: int, size: int, overlap: float) -> None:
    starts = WindowPlan.of(length, 1, size, overlap).tops
    assert starts[0] == 0
    if length <= size:
        assert starts == (0,)
        return
    assert starts[-1] + size == length
    steps = [b - a for a, b in pairwise(starts)]
    stride = max(int(size * (1 - overlap)), 1)
    assert min(steps) > 0
    assert max(steps) <= stride
    # None is wasted: one window fewer could not cover the axis with this overlap.
    assert size + (len(starts) - 2) * stride < length


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("nodata", [None, 7.0])
def test_rows_of_an_area(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 12, (2, 30, 20)).astype(dtype)
    if dtype == "float32":
        pixels[0, 12, 5] = np.nan
    with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=nodata)) as raster:
        area = Area(raster, Window(4, 3, 20, 10))
        image, valid = area.read(Window(6, 0, 20, 16))
    inside = pixels[:, 10:24, 3:13]
    expected = np.isfinite(inside).all(0)
    if nodata is not None:
        # A pixel counts as soon as one of its bands has data.
        expected &= (inside != nodata).any(0)
    assert image.dtype == dtype
    np.testing.assert_array_equal(valid[:14, :10], expected)
    np.testing.assert_array_equal(image[:, :14, :10], np.where(expected, np.nan_to_num(inside), 0))
    assert not valid[14:].any()
    assert not valid[:, 10:].any()
    assert not image[:, 14:].any()
    assert not image[:, :, 10:].any()


@given(st.integers(1, 400), st.integers(5, 60), st.sampled_from([0.0, 0.25, 0.5, 0.75]), st.data())
@settings(max_examples=60)
def test_blocks_finish_each_pixel_once(length: int, size: int, overlap: float, data: st.DataObject) -> None:
    plan = WindowPlan.of(length, length // 2 + 1, size, overlap)
    cut = data.draw(st.integers(0, len(plan.tops)))
    seen = np.zeros((plan.height, plan.width), int)
    for a, b in ((0, cut), (cut, len(plan.tops))):
        if a < b:
            seen[Part(a, b, 0, len(plan.lefts)).pixels(plan).slices] += 1
    assert (seen == 1).all()
    for row in range(len(plan.tops)):
        reaching = [i for i in range(row) if plan.tops[i] + size > plan.tops[row]]
        assert plan.reaching(row) == min(reaching, default=row)


def random_windows(plan: WindowPlan, missing: float = 0.0) -> NDArray[np.float32]:
    """``(rows, columns, 3, size, size)`` random windows, some of them all NaN: those that are never computed."""
    rng = np.random.default_rng(0)
    windows = rng.random((len(plan.tops), len(plan.lefts), 3, plan.size, plan.size), np.float32)
    windows[rng.random(windows.shape[:2]) < missing] = np.nan
    return windows


def blended_whole(windows: NDArray[np.float32], plan: WindowPlan, blend: str) -> NDArray[np.float64]:
    """Blend with sums as large as the scene, in float64."""
    size = plan.size
    total = np.zeros((windows.shape[2], plan.tops[-1] + size, plan.lefts[-1] + size))
    down, across = axis_weights(plan.tops, size, blend), axis_weights(plan.lefts, size, blend)
    for i, top in enumerate(plan.tops):
        for j, left in enumerate(plan.lefts):
            if not np.isnan(windows[i, j]).any():
                part = np.s_[:, top : top + size, left : left + size]
                total[part] += down[i][:, None].astype(np.float64) * across[j] * windows[i, j]
    return total


def blended(
    windows: NDArray[np.float32], plan: WindowPlan, part: Part, blend: str, edges: dict[tuple[int, int], torch.Tensor]
) -> NDArray[np.float32]:
    """Blend a block, as the stream does; ``edges`` hold what blocks pass to the right, by row and column."""
    blender = Blender(3, plan, part, blend)
    pixels = part.pixels(plan)
    result = np.zeros((3, plan.tops[-1] + plan.size, plan.lefts[-1] + plan.size), np.float32)
    for i in range(plan.reaching(part.first_row), part.last_row):
        blender.start_row(i, edges.get((i, part.first_column)))
        for j in range(part.first_column, part.last_column):
            if not np.isnan(windows[i, j]).any():
                blender.add(j, torch.from_numpy(windows[i, j]))
            finished = blender.finish(j)
            rows, columns = finished.shape[1:]
            if i >= part.first_row:
                top, left = plan.tops[i], plan.lefts[j]
                result[:, top : top + rows, left : left + columns] = finished.numpy()
        edges[i, part.last_column] = blender.edge().clone()
        blender.end_row()
    bottom = result.shape[1] if part.last_row == len(plan.tops) else pixels.row + pixels.height
    right = result.shape[2] if part.last_column == len(plan.lefts) else pixels.col + pixels.width
    return result[:, pixels.row : bottom, pixels.col : right]


plans = st.builds(
    WindowPlan.of,
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(2, 40),
    st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75]),
)


@pytest.mark.slow
@given(plans, st.sampled_from(["cosine", "none"]), st.sampled_from([0.0, 0.3]))
@settings(max_examples=60)
def test_sums_held_for_one_window_equal_sums_over_the_whole_scene(plan: WindowPlan, blend: str, missing: float) -> None:
    windows = random_windows(plan, missing)
    result = blended(windows, plan, Part.whole(plan), blend, {})
    np.testing.assert_allclose(result, blended_whole(windows, plan, blend), rtol=2e-5, atol=1e-6)


@pytest.mark.slow
@given(plans, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40)
def test_a_scene_cut_in_blocks_gives_the_same_bits(plan: WindowPlan, rows: int, columns: int) -> None:
    windows = random_windows(plan, 0.2)
    whole = blended(windows, plan, Part.whole(plan), "cosine", {})
    down = [*range(0, len(plan.tops), rows), len(plan.tops)]
    across = [*range(0, len(plan.lefts), columns), len(plan.lefts)]
    lines = []
    for a, b in pairwise(down):
        edges: dict[tuple[int, int], torch.Tensor] = {}
        parts = [blended(windows, plan, Part(a, b, c, d), "cosine", edges) for c, d in pairwise(across)]
        lines.append(np.concatenate(parts, 2))
    np.testing.assert_array_equal(np.concatenate(lines, 1), whole)


@pytest.mark.parametrize("size", [1, 2, 7, 512, 2048])
def test_cosine_weights_are_highest_in_the_middle_and_positive(size: int) -> None:
    weights = axis_weights([0, 5 * size], size, "cosine")
    assert weights.shape == (2, size)
    # A pixel that one window covers is that window's alone.
    assert (weights == 1).all()
    half = axis_weights([0, size // 2], size, "cosine")
    assert (half > 0).all()
    assert (np.diff(half[0]) <= 1e-6).all()
    assert (np.diff(half[1]) >= -1e-6).all()


@given(
    st.integers(1, 500),
    st.integers(2, 100),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    st.sampled_from(["cosine", "none"]),
)
@settings(max_examples=100)
def test_weights_sum_to_one_at_each_pixel(length: int, size: int, overlap: float, blend: str) -> None:
    starts = WindowPlan.of(length, 1, size, overlap).tops
    sums = np.zeros(starts[-1] + size)
    for weights, start in zip(axis_weights(starts, size, blend), starts, strict=True):
        sums[start : start + size] += weights
        if blend == "none":
            assert set(np.unique(weights)) <= {0, 1}
    np.testing.assert_allclose(sums, 1, atol=1e-6)
