"""Objects of a mask filled with the ground between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geodistill.data.labelled_objects import hollow_objects, number_objects

GROUND, OBJECT, UNKNOWN = 10.0, 50.0, 90.0


def _town() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return two bands and the mask of four squares of 16 pixels, and a strip that nobody labelled."""
    mask = np.zeros((64, 64), np.uint8)
    for row, col in ((4, 4), (4, 30), (34, 4), (34, 30)):
        mask[row : row + 16, col : col + 16] = 1
    mask[:, 56:] = 255
    band = np.choose(np.where(mask == 255, 2, mask), [GROUND, OBJECT, UNKNOWN]).astype(np.float32)
    return np.stack([band, band + 1]), mask


def test_an_object_keeps_a_rim_of_one_to_three_pixels_around_ground() -> None:
    image, mask = _town()
    counted = mask != 255
    numbers = number_objects(mask, counted)
    rims, hollow = set(), 0
    for seed in range(60):
        after = hollow_objects(image, numbers, counted, 0.5, np.random.default_rng(seed))
        np.testing.assert_array_equal(after[:, mask != 1], image[:, mask != 1])
        np.testing.assert_array_equal(after[1], after[0] + 1)
        assert set(np.unique(after[0, mask == 1])) <= {GROUND, OBJECT}
        for row, col in ((4, 4), (4, 30), (34, 4), (34, 30)):
            rows, cols = np.nonzero(after[0, row : row + 16, col : col + 16] == GROUND)
            hollow += len(rows) > 0
            if len(rows):
                rims.add(min(rows.min(), cols.min(), 15 - rows.max(), 15 - cols.max()))
    assert rims == {1, 2, 3}
    assert 90 < hollow < 150  # of 240


def test_nearly_all_of_an_object_is_filled_and_none_without_ground() -> None:
    image, mask = _town()
    numbers = number_objects(mask, mask != 255)
    filled = [
        (hollow_objects(image, numbers, mask != 255, 1.0, np.random.default_rng(seed))[0] == GROUND)[6:18, 6:18].mean()
        for seed in range(20)
    ]
    assert np.mean(filled) > 0.9
    np.testing.assert_array_equal(
        hollow_objects(image, numbers, mask == 1, 1.0, np.random.default_rng(0)), image, "ground that does not count"
    )


def test_an_object_that_the_crop_cuts_stays_open_there() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:16, 8:24] = 1
    image = np.where(mask, OBJECT, GROUND).astype(np.float32)[None]
    counted = np.ones(mask.shape, bool)
    numbers = number_objects(mask, counted)
    opened = [
        hollow_objects(image, numbers, counted, 1.0, np.random.default_rng(seed))[0, 0] == GROUND for seed in range(20)
    ]
    assert np.mean(opened, 0)[13:19].min() > 0.8
