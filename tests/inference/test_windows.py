"""The grid of windows and what they read."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_raster
from geodistill.inference.windows import Area, Part, WindowPlan
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
