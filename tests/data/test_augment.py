from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import noise
from geodistill.data.augment import Augmentation, Photometric, resample, turn_and_flip
from geodistill.data.reader import Patch
from geodistill.data.statistics import Statistics
from geodistill.errors import RecipeError

sizes = st.integers(1, 40)


def patch(height: int, width: int, channels: int = 3, dtype: str = "uint8", seed: int = 0) -> Patch:
    labels = noise((height, width), seed=seed) % 4
    return Patch(
        noise((channels, height, width), dtype, seed).astype(np.float32),
        labels.astype(np.uint8),
        np.ones((height, width), bool),
    )


def measured(image: np.ndarray) -> Statistics:
    """Statistics as if ``image (C, H, W)`` were the whole data set."""
    flat = image.reshape(image.shape[0], -1).astype(np.float64)
    figures = (tuple(map(float, f)) for f in (flat.mean(1), flat.std(1), flat.min(1), flat.max(1)))
    return Statistics(("train",), *figures, {}, {}, {}, {}, {})


class TestResample:
    @pytest.mark.slow
    @given(sizes, sizes, sizes, sizes)
    @settings(deadline=None, max_examples=40)
    def test_gives_the_size_asked_and_no_new_values(self, h: int, w: int, height: int, width: int) -> None:
        before = patch(h, w)
        after = resample(before, height, width)
        assert after.image.shape == (3, height, width)
        assert after.mask.shape == after.valid.shape == (height, width)
        assert set(np.unique(after.mask)) <= set(np.unique(before.mask))
        assert before.image.min() - 1e-3 <= after.image.min() <= after.image.max() <= before.image.max() + 1e-3
        assert after.valid.all()

    def test_same_size_changes_nothing(self) -> None:
        before = patch(9, 7)
        assert resample(before, 9, 7) is before

    def test_image_and_mask_stay_on_each_other(self) -> None:
        labels = np.kron(np.arange(12).reshape(3, 4), np.ones((8, 8))).astype(np.uint8)
        before = Patch(labels[None].astype(np.float32), labels, np.ones(labels.shape, bool))
        for size in ((48, 64), (12, 16)):
            after = resample(before, *size)
            step = size[0] // 3
            centres = (slice(step // 2, None, step),) * 2
            assert np.allclose(after.image[0][centres], after.mask[centres], atol=1e-3)

    @pytest.mark.parametrize("size", [(40, 40), (10, 10), (27, 13)])
    def test_what_is_not_valid_does_not_darken_its_neighbours(self, size: tuple[int, int]) -> None:
        before = patch(20, 20)
        before.image[:] = 100
        before.valid[:, :7] = False
        before.image[:, ~before.valid] = 0
        after = resample(before, *size)
        assert np.allclose(after.image[:, after.valid], 100, atol=1e-3)
        assert (after.image[:, ~after.valid] == 0).all()
        assert after.valid.mean() == pytest.approx(13 / 20, abs=0.08)


class TestTurnAndFlip:
    def test_all_eight_symmetries_come_up_and_move_everything_alike(self) -> None:
        labels = np.arange(36, dtype=np.uint8).reshape(6, 6)
        before = Patch(np.stack([labels, labels + 50]).astype(np.float32), labels, labels % 5 > 0)
        seen = set()
        for seed in range(80):
            after = turn_and_flip(before, np.random.default_rng(seed), Augmentation(turns=True, flips=True))
            assert np.array_equal(after.image[0], after.mask)
            assert np.array_equal(after.image[1], after.mask + 50)
            assert np.array_equal(after.valid, after.mask % 5 > 0)
            seen.add(after.mask.tobytes())
        assert len(seen) == 8

    def test_off_means_unchanged(self) -> None:
        before = patch(6, 6)
        for seed in range(10):
            after = turn_and_flip(before, np.random.default_rng(seed), Augmentation())
            assert np.array_equal(after.image, before.image)

    def test_flips_both_ways_without_turns_are_the_four_mirrors(self) -> None:
        labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
        before = Patch(labels[None].astype(np.float32), labels, labels >= 0)
        both = Augmentation(flips=True, vertical_flips=True)
        after = {turn_and_flip(before, np.random.default_rng(seed), both).mask.tobytes() for seed in range(40)}
        mirrors = (labels, labels[:, ::-1], labels[::-1], labels[::-1, ::-1])
        assert after == {mirror.tobytes() for mirror in mirrors}


class TestPhotometric:
    @pytest.mark.parametrize("amounts", [Augmentation(brightness=0.001), Augmentation(saturation=0.001)])
    def test_an_image_beyond_the_range_of_the_data_set_keeps_its_samples(self, amounts: Augmentation) -> None:
        """As one without labels may be, of another place."""
        labelled, other = patch(20, 30), patch(20, 30, seed=5)
        far = Patch(other.image * 3 - 200, other.mask, other.valid)
        far.valid[:, :4] = False
        changed = Photometric(measured(labelled.image), amounts)(far, np.random.default_rng(0)).image
        np.testing.assert_allclose(changed[:, :, 4:], far.image[:, :, 4:], atol=2)
        assert (changed[:, :, :4] == 0).all()

    def test_results_stay_within_the_wider_of_both_ranges(self) -> None:
        labelled, dark = patch(20, 30), patch(20, 30, seed=5)
        dark = Patch(dark.image - 300, dark.mask, dark.valid)
        strong = Photometric(measured(labelled.image), Augmentation(brightness=5, contrast=1))
        for seed in range(20):
            changed = strong(dark, np.random.default_rng(seed)).image
            assert changed.min() >= dark.image.min()
            assert changed.max() <= labelled.image.max()

    @pytest.mark.parametrize("channels", [1, 3, 4, 13])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_any_bands_and_type_stay_in_range_and_change(self, channels: int, dtype: str) -> None:
        before = patch(16, 16, channels, dtype)
        statistics = measured(before.image)
        change = Photometric(statistics, Augmentation(brightness=0.5, contrast=0.5, gamma=0.5))
        for seed in range(10):
            after = change(before, np.random.default_rng(seed))
            assert after.image.dtype == np.float32
            assert after.image.shape == before.image.shape
            assert (after.image.min(axis=(1, 2)) >= np.float32(statistics.minimum)).all()
            assert (after.image.max(axis=(1, 2)) <= np.float32(statistics.maximum)).all()
            assert not np.allclose(after.image, before.image)

    def test_strength_is_relative_to_the_band(self) -> None:
        """The same scene in 8 bits and in 16 bits is changed alike."""
        small = patch(16, 16)
        large = Patch(small.image * 40 + 300, small.mask, small.valid)
        amounts = Augmentation(brightness=0.3, contrast=0.3, gamma=0.3)
        for seed in range(5):
            one = Photometric(measured(small.image), amounts)(small, np.random.default_rng(seed))
            other = Photometric(measured(large.image), amounts)(large, np.random.default_rng(seed))
            np.testing.assert_allclose(one.image * 40 + 300, other.image, rtol=1e-3)

    def test_brightness_shifts_by_deviations(self) -> None:
        before = patch(64, 64)
        before.image[:] = np.clip(before.image, 90, 110)
        statistics = Statistics(("train",), (100.0,) * 3, (20.0,) * 3, (0.0,) * 3, (200.0,) * 3, {}, {}, {}, {}, {})
        rng = np.random.default_rng(1)
        shift = np.random.default_rng(1).uniform(-0.5, 0.5)
        after = Photometric(statistics, Augmentation(brightness=0.5))(before, rng)
        np.testing.assert_allclose(after.image - before.image, shift * 20, atol=1e-3)

    def test_gamma_keeps_order_and_both_ends(self) -> None:
        ramp = np.linspace(0, 255, 256, dtype=np.float32).reshape(1, 16, 16)
        before = Patch(ramp, np.zeros((16, 16), np.uint8), np.ones((16, 16), bool))
        after = Photometric(measured(ramp), Augmentation(gamma=0.5))(before, np.random.default_rng(0)).image.reshape(-1)
        assert (np.diff(after) > 0).all()
        assert (after[0], after[-1]) == (0, 255)

    @pytest.mark.parametrize("pixel", [(200.0, 100.0, 50.0), (10.0, 240.0, 90.0), (7.0, 7.0, 7.0)])
    def test_saturation_and_hue_are_those_of_colorsys(self, pixel: tuple[float, float, float]) -> None:
        before = Patch(
            np.tile(np.float32(pixel)[:, None, None], (1, 4, 4)), np.zeros((4, 4), np.uint8), np.ones((4, 4), bool)
        )
        wide = Statistics(("train",), (100.0,) * 3, (20.0,) * 3, (0.0,) * 3, (255.0,) * 3, {}, {}, {}, {}, {})
        turn, vivid = np.random.default_rng(3).uniform(-1, 1, 5)[3:] * (0.1, 0.5)
        after = Photometric(wide, Augmentation(saturation=0.5, hue=0.1))(before, np.random.default_rng(3))
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, min(saturation * (1 + vivid), 1), value)
        np.testing.assert_allclose(after.image[:, 2, 2], expected, atol=0.05)

    def test_images_of_other_bands_keep_hue_and_saturation(self) -> None:
        four = patch(8, 8, 4)
        changed = Photometric(measured(four.image), Augmentation(hue=0.5, saturation=0.5))(
            four, np.random.default_rng(0)
        )
        assert np.array_equal(changed.image, four.image)

    def test_what_is_not_valid_stays_zero(self) -> None:
        before = patch(8, 8)
        before.valid[2] = False
        before.image[:, 2] = 0
        statistics = measured(before.image[:, before.valid][..., None])
        after = Photometric(statistics, Augmentation(brightness=1.0))(before, np.random.default_rng(0))
        assert (after.image[:, 2] == 0).all()

    def test_a_constant_band_survives(self) -> None:
        before = patch(8, 8)
        before.image[1] = 7
        after = Photometric(measured(before.image), Augmentation(brightness=1, contrast=0.9, gamma=1))(
            before, np.random.default_rng(0)
        )
        assert (after.image[1] == 7).all()

    def test_a_tint_moves_each_band_by_itself(self) -> None:
        before = Patch(np.full((3, 2, 2), 50, np.float32), np.zeros((2, 2), np.int64), np.ones((2, 2), bool))
        noise = np.random.default_rng(1).normal(50, 10, (3, 64, 64)).astype(np.float32)
        after = Photometric(measured(noise), Augmentation(tint=0.5))(before, np.random.default_rng(0)).image
        shifts = after[:, 0, 0] - 50
        assert len(set(shifts.tolist())) == 3
        assert (np.abs(shifts) <= 5.5).all()
        assert np.ptp(after.reshape(3, -1), axis=1).max() < 1e-4

    def test_objects_get_colours_of_their_own_and_the_rest_keeps_its(self) -> None:
        mask = np.zeros((12, 12), np.uint8)
        places = [(slice(0, 3), slice(0, 3)), (slice(0, 3), slice(5, 9)), (slice(6, 9), slice(0, 4))]
        for place, index in zip(places, (1, 1, 2), strict=True):
            mask[place] = index
        mask[:, 10:] = 255  # nobody's
        before = Patch(np.full((3, 12, 12), 50, np.float32), mask, np.ones((12, 12), bool))
        noise = np.random.default_rng(1).normal(50, 10, (3, 64, 64)).astype(np.float32)
        change, shifts = Photometric(measured(noise), Augmentation(recolour=0.5)), []
        for seed in range(100):
            after = change(before, np.random.default_rng(seed)).image - 50
            assert np.abs(after[:, (mask == 0) | (mask == 255)]).max() < 1e-4
            assert all(np.ptp(after[:, *place].reshape(3, -1), axis=1).max() < 1e-4 for place in places)
            shifts.append([after[:, place[0].start, place[1].start] for place in places])
        moved = np.abs(np.array(shifts)) > 1e-4
        assert np.array_equal(moved.all(2), moved.any(2))
        assert 0.4 < moved.mean() < 0.6
        assert 4 < np.abs(shifts).max() <= 5.5
        assert np.abs(np.corrcoef(np.array(shifts)[moved.all((1, 2))].reshape(-1, 9).T) - np.eye(9)).max() < 0.7

    def test_an_object_is_either_of_another_colour_or_hollow(self) -> None:
        mask = np.zeros((24, 24), np.uint8)
        mask[4:20, 4:20] = 1
        before = Patch(np.where(mask, 90, 50).astype(np.float32)[None], mask, np.ones((24, 24), bool))
        noise = np.random.default_rng(1).normal(70, 10, (1, 64, 64)).astype(np.float32)
        change, seen = Photometric(measured(noise), Augmentation(recolour=1, hollow=0.5)), []
        for seed in range(200):
            after = change(before, np.random.default_rng(seed)).image[0]
            moved, filled = bool(abs(after[4, 4] - 90) > 1e-4), bool((after[10:14, 10:14] == 50).mean() > 0.5)
            seen.append((moved, filled))
        assert not seen.count((True, True))
        assert 80 < seen.count((True, False)) < 120
        assert 30 < seen.count((False, True)) < 70

    def test_the_ground_is_what_the_set_has_most_of_not_the_crop(self) -> None:
        mask = np.ones((24, 24), np.uint8)
        mask[4:8, 4:8] = 0
        before = Patch(np.where(mask, 90, 50).astype(np.float32)[None], mask, np.ones((24, 24), bool))
        noise = np.random.default_rng(1).normal(70, 10, (1, 64, 64)).astype(np.float32)
        for counts, ground in (((900, 100), 0), ((100, 900), 1)):
            statistics = replace(measured(noise), class_pixels={"train": counts})
            assert statistics.ground == ground
            change = Photometric(statistics, Augmentation(recolour=1), statistics.ground)
            after = [change(before, np.random.default_rng(seed)).image[0] for seed in range(20)]
            moved = [np.abs(image - before.image[0]).max() > 1e-4 for image in after]
            assert 3 < sum(moved) < 17
            assert all(np.abs(image - before.image[0])[mask == ground].max() < 1e-4 for image in after)

    def test_what_has_no_labels_keeps_its_colours(self) -> None:
        before = patch(8, 8)
        before.mask[:] = 255
        after = Photometric(measured(before.image), Augmentation(recolour=2))(before, np.random.default_rng(0))
        np.testing.assert_allclose(after.image, before.image, atol=1e-3)

    def test_hollow_objects_show_the_ground_in_its_changed_colours(self) -> None:
        mask = np.zeros((24, 24), np.uint8)
        mask[4:20, 4:20] = 1
        before = Patch(np.where(mask, 90, 50).astype(np.float32)[None], mask, np.ones((24, 24), bool))
        noise = np.random.default_rng(1).normal(70, 10, (1, 64, 64)).astype(np.float32)
        after = Photometric(measured(noise), Augmentation(hollow=1, brightness=0.5))(before, np.random.default_rng(0))
        assert after.image[0, 0, 0] != 50
        inside = after.image[0, 8:16, 8:16]
        assert (inside == after.image[0, 0, 0]).mean() > 0.8
        np.testing.assert_array_equal(after.mask, mask)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"brightness": -0.1},
        {"contrast": 1.1},
        {"gamma": -1.0},
        {"saturation": 1.5},
        {"hue": 0.6},
        {"recolour": -1.0},
        {"hollow": 1.5},
        {"mosaic": 2.0},
        {"max_class_ratio": 0.0},
        {"crop_tries": 0},
    ],
)
def test_amounts_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        Augmentation(**fields)


def test_one_of_the_colours_is_changed_with_the_released_odds() -> None:
    before = patch(4, 4)
    statistics = Statistics(("train",), (90.0,) * 3, (50.0,) * 3, (-1e3,) * 3, (1e3,) * 3, {}, {}, {}, {}, {})
    one = Augmentation(brightness=0.2, saturation=0.2, colour_one=True)
    change, rng = Photometric(statistics, one), np.random.default_rng(0)
    # Brightness moves all samples by the same amount, saturation does not.
    coloured = [np.ptp(change(before, rng).image - before.image) > 1e-2 for _ in range(400)]
    assert np.mean(coloured) == pytest.approx(3 / 8, abs=0.08)
