"""Objects of a mask filled with the ground between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geodistill.data.labelled_objects import hollow_objects, number_objects

GROUND, OBJECT, UNKNOWN = 10.0, 50.0, 90.0
EVERY = np.ones(5, np.bool_)


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
    numbers = number_objects(mask, counted, 0)
    rims = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        chosen = rng.random(5) < 0.5
        after = hollow_objects(image, numbers, counted, chosen, rng)
        np.testing.assert_array_equal(after[:, mask != 1], image[:, mask != 1])
        np.testing.assert_array_equal(after[1], after[0] + 1)
        assert set(np.unique(after[0, mask == 1])) <= {GROUND, OBJECT}
        for row, col in ((4, 4), (4, 30), (34, 4), (34, 30)):
            rows, cols = np.nonzero(after[0, row : row + 16, col : col + 16] == GROUND)
            assert chosen[numbers[row, col]] == (len(rows) > 0)
            if len(rows):
                rims.add(min(rows.min(), cols.min(), 15 - rows.max(), 15 - cols.max()))
    assert rims == {1, 2, 3}


def test_nearly_all_of_an_object_is_filled_and_none_without_ground() -> None:
    image, mask = _town()
    numbers = number_objects(mask, mask != 255, 0)
    filled = []
    for seed in range(20):
        after = hollow_objects(image, numbers, mask != 255, EVERY, np.random.default_rng(seed))
        filled.append((after[0, 7:17, 7:17] == GROUND).mean())  # within the widest rim
    assert np.mean(filled) > 0.9
    np.testing.assert_array_equal(
        hollow_objects(image, numbers, mask == 1, EVERY, np.random.default_rng(0)), image, "ground that does not count"
    )


def test_an_object_that_the_crop_cuts_stays_open_there() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:16, 8:24] = 1
    image = np.where(mask, OBJECT, GROUND).astype(np.float32)[None]
    counted = np.ones(mask.shape, bool)
    numbers = number_objects(mask, counted, 0)
    opened = [
        hollow_objects(image, numbers, counted, EVERY, np.random.default_rng(seed))[0, 0] == GROUND
        for seed in range(20)
    ]
    assert np.mean(opened, 0)[13:19].min() > 0.8


def test_objects_are_of_any_class_but_the_ground_also_where_they_fill_most_of_the_mask() -> None:
    mask = np.ones((16, 16), np.uint8)
    mask[4:8, 4:8] = 0
    mask[10:14, 10:14] = 2
    mask[0] = 255
    numbers = number_objects(mask, mask != 255, 0)
    assert not numbers[(mask == 0) | (mask == 255)].any()
    assert {len(np.unique(numbers[mask == index])) for index in (1, 2)} == {1}
    assert numbers.max() == 2
