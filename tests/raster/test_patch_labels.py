"""Patches of equal pixels: those of a flood, whatever the strips, with their sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from geodistill.errors import DataError
from geodistill.raster.patch_labels import NONE, PatchSizes, label_components


def codes_of(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(NONE, 3, (height, width)).astype(np.int32)


def flooded(codes: np.ndarray) -> np.ndarray:
    """Number the patches one code after the other."""
    numbers, used = np.full(codes.shape, NONE), 0
    for code in range(3):
        own, count = label(codes == code)
        numbers[own > 0] = own[own > 0] + used
        used += count
    return numbers


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), height=st.integers(1, 20), width=st.integers(1, 20), strip=st.integers(1, 20))
def test_patches_and_their_sizes_are_those_of_a_flood(seed: int, height: int, width: int, strip: int) -> None:
    codes = codes_of(seed, height, width)
    true = flooded(codes)
    labels, count = label_components(codes)
    assert ((labels == NONE) == (codes == NONE)).all()
    pairs = np.unique(np.stack([labels, true]).reshape(2, -1), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert count == pairs.shape[1] - (NONE in pairs[0])
    weights = np.random.default_rng(seed).uniform(1, 2, (height, 1))
    expected = np.zeros(codes.shape)
    for number in np.unique(true[true != NONE]):
        expected[true == number] = np.broadcast_to(weights, codes.shape)[true == number].sum()
    sizes = PatchSizes()
    tops = range(0, height, strip)
    for top in tops:
        sizes.add(codes[top : top + strip], weights[top : top + strip])
    large = sizes.join(4.0)
    assert set(large.tolist()) == set(codes[expected >= 4].tolist())
    found = [sizes.sizes(at, *label_components(codes[top : top + strip])) for at, top in enumerate(tops)]
    np.testing.assert_allclose(np.concatenate(found), expected)


def test_numbers_go_by_first_pixels() -> None:
    codes = np.array([[5, NONE, 2], [5, 2, 2], [NONE, 5, 2]], np.int32)
    labels, count = label_components(codes)
    assert labels.tolist() == [[0, NONE, 1], [0, 1, 1], [NONE, 2, 1]]
    assert count == 3


def test_a_raster_that_changes_between_two_readings_is_refused() -> None:
    sizes = PatchSizes()
    sizes.add(np.zeros((2, 2), np.int32), np.ones((1, 1)))
    sizes.join()
    with pytest.raises(DataError, match="changed while it was read"):
        sizes.sizes(0, *label_components(np.array([[0, 1]], np.int32)))
