"""Blending: a rolling strip gives what a sum over the whole scene would."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.scene.blend import RollingStrip, axis_weights
from geodistill.scene.windows import window_starts


def blended_whole(windows: NDArray[np.float32], tops: list[int], lefts: list[int], blend: str) -> NDArray[np.float64]:
    """Blend ``(rows, columns, K, size, size)`` windows with sums as large as the scene, in float64."""
    size = windows.shape[-1]
    total = np.zeros((windows.shape[2], tops[-1] + size, lefts[-1] + size))
    weight = np.zeros(total.shape[1:])
    down, across = axis_weights(tops, size, blend), axis_weights(lefts, size, blend)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            part = np.s_[top : top + size, left : left + size]
            factor = down[i][:, None].astype(np.float64) * across[j]
            total[(slice(None), *part)] += factor * windows[i, j]
            weight[part] += factor
    return total / weight


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(2, 40),
    st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75]),
    st.sampled_from(["cosine", "none"]),
)
@settings(max_examples=60)
def test_a_rolling_strip_equals_sums_over_the_whole_scene(
    height: int, width: int, size: int, overlap: float, blend: str
) -> None:
    tops, lefts = window_starts(height, size, overlap), window_starts(width, size, overlap)
    windows = np.random.default_rng(0).random((len(tops), len(lefts), 3, size, size), np.float32)
    strip = RollingStrip(3, tops, lefts, size, blend)
    finished = []
    for i in range(len(tops)):
        for j in range(len(lefts)):
            strip.add(j, torch.from_numpy(windows[i, j]))
        finished.append(strip.finish_row().numpy().copy())
    result = np.concatenate(finished, axis=1)
    np.testing.assert_allclose(result, blended_whole(windows, tops, lefts, blend), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 7, 512, 2048])
def test_cosine_weights_are_positive_symmetric_and_highest_in_the_middle(size: int) -> None:
    weights = axis_weights([0, 5], size, "cosine")
    assert weights.shape == (2, size)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights[0], weights[0][::-1], rtol=1e-3, atol=1e-7)
    assert weights[0].argmax() in ((size - 1) // 2, size // 2)


@given(st.integers(1, 500), st.integers(2, 100), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
@settings(max_examples=100)
def test_without_blending_each_pixel_belongs_to_one_window(length: int, size: int, overlap: float) -> None:
    starts = window_starts(length, size, overlap)
    owners = np.zeros(starts[-1] + size)
    for weights, start in zip(axis_weights(starts, size, "none"), starts, strict=True):
        owners[start : start + size] += weights
    assert (owners == 1).all()
