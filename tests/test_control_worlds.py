"""The premise of each mechanism's world holds: measured on its pixels, without any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from control_worlds import (
    FINE,
    LEGEND,
    LEGENDS,
    SIDE,
    TEACHER_WORLDS,
    WORLDS,
    Pixels,
    World,
    bright_cells,
    checked,
    checked_cells,
    faint_class,
    labelled_place,
    lit,
    rare_class,
    roofed,
    sized,
    textured,
    write_world,
)
from geodistill.data.manifest import Manifest

DRAWN = {draw.__name__: draw for draw in (*WORLDS.values(), *TEACHER_WORLDS.values())}


def drawn(name: str, seed: int, test: bool) -> Pixels:
    return DRAWN[name](np.random.default_rng(seed), test)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("test", [False, True])
def test_an_image_is_of_its_classes_and_of_its_seed(name: str, test: bool) -> None:
    image, mask = drawn(name, 3, test)
    assert image.shape == (SIDE, SIDE, 3)
    assert mask.shape == (SIDE, SIDE)
    assert mask.dtype == np.uint8
    legends = [LEGENDS.get(world, LEGEND) for world, draw in WORLDS.items() if draw is DRAWN[name]] or [LEGEND]
    assert set(np.unique(mask)) <= set(range(len(legends[0])))
    assert 5 < image.mean() < 250
    assert np.mean((image < 1) | (image > 255)) < 0.05, "hardly anything is cut off where it is stored"
    for same, seed in ((True, 3), (False, 4)):
        other, others_mask = drawn(name, seed, test)
        assert np.array_equal(other, image) == same
        assert np.array_equal(others_mask, mask) == same


def brightness(image: NDArray[np.float64], mask: NDArray[np.uint8]) -> list[float]:
    """Mean of the ground and of class 1."""
    return [float(image[mask == kind].mean()) for kind in (0, 1)]


def test_one_label_in_three_of_a_faint_class_is_wrong_but_not_in_the_test() -> None:
    wrong = []
    for seed in range(20):
        image, mask = faint_class(np.random.default_rng(seed), False)
        again, truth = faint_class(np.random.default_rng(seed), True)
        assert np.array_equal(image, again)
        blocks = (mask != truth).reshape(SIDE // 4, 4, SIDE // 4, 4)
        assert (blocks.all((1, 3)) == blocks.any((1, 3))).all(), "whole blocks of 4 x 4 are wrong"
        wrong.append(blocks.mean())
        ground, faint = brightness(image, truth)
        assert 5 < faint - ground < image.std(), "it is there, and below the noise of a pixel"
    assert np.mean(wrong) == pytest.approx(1 / 3, abs=0.03)


def test_a_rare_class_is_about_one_per_cent() -> None:
    masks = [rare_class(np.random.default_rng(seed), False)[1] for seed in range(30)]
    assert all(mask.any() for mask in masks)
    assert 0.008 < np.mean(masks) <= 2 * 25 / SIDE**2


def test_the_other_place_is_darker_and_of_less_contrast() -> None:
    for seed in range(5):
        image, mask = labelled_place(np.random.default_rng(seed), False)
        elsewhere, same = labelled_place(np.random.default_rng(seed), True)
        assert np.array_equal(mask, same)
        (ground, target), (far_ground, far_target) = brightness(image, mask), brightness(elsewhere, mask)
        assert far_ground < ground
        assert 0 < far_target - far_ground < 0.7 * (target - ground)


def test_lights_of_the_test_are_further_off_and_the_contrast_is_the_same() -> None:
    grounds: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    for seed in range(30):
        for test, found in grounds.items():
            image, mask = lit(np.random.default_rng(seed), test)
            ground, target = (image[mask == kind].mean(0) for kind in (0, 1))
            np.testing.assert_allclose(target - ground, (45, 27, 13.5), atol=3)
            found.append(ground - 110)
    near, far = (np.abs(found) for found in grounds.values())
    assert near.max() < 21
    assert (far.max(1) > 21).mean() > 0.9
    assert np.corrcoef(np.array(grounds[True]).T)[0, 1] < 0.5, "of a colour, not brighter or darker alone"


def test_roofs_are_of_another_colour_in_the_test_and_of_the_same_texture() -> None:
    for test, colour in ((False, 2), (True, 0)):
        image, mask = roofed(np.random.default_rng(3), test)
        shift = image[mask == 1].mean(0) - image[mask == 0].mean(0)
        assert shift[colour] == pytest.approx(50, abs=8)
        assert np.abs(np.delete(shift, colour)).max() < 8
        across = np.abs(image[4:] - image[:-4]).mean(2)  # four rows on, the fine texture is the same again
        roofs, ground = ((mask[4:] == mask[:-4]) & (mask[4:] == kind) for kind in (1, 0))
        assert across[ground].mean() > 1.5 * across[roofs].mean()


def test_the_ground_tells_the_class_in_training_and_not_in_the_test() -> None:
    met: dict[bool, set[tuple[int, bool]]] = {False: set(), True: set()}
    for test, pairs in met.items():
        for seed in range(40):
            image, mask = checked(np.random.default_rng(seed), test)
            dark = bool(image[mask == 0].mean() < 110)
            pairs |= {(int(kind), dark) for kind in np.unique(mask) if kind}
            for kind in set(np.unique(mask).tolist()) - {0}:
                assert image[mask == kind].mean() == pytest.approx(110, abs=25), "objects are no brighter than others"
    assert met[False] == {(1, True), (2, False)}
    assert met[True] == {(kind, dark) for kind in (1, 2) for dark in (False, True)}


def test_a_fields_class_is_in_its_texture_and_not_in_its_colours() -> None:
    colours: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for seed in range(40):
        image, mask = textured(np.random.default_rng(seed), False)
        for top, left in ((0, 0), (0, SIDE // 2), (SIDE // 2, 0), (SIDE // 2, SIDE // 2)):
            field = image[top : top + SIDE // 2, left : left + SIDE // 2]
            kind = int(mask[top, left])
            assert (mask[top : top + SIDE // 2, left : left + SIDE // 2] == kind).all()
            colours[kind].append(float(field.mean()))
            grey = field.mean(-1) - field.mean()
            alike = [float((grey[:, :-shift] * grey[:, shift:]).mean() / grey.var()) for shift in (2, 3, 5)]
            if grey.std() > 20:  # by chance some fields are nearly plain
                assert int(np.argmin(alike)) == kind, "a texture is least like itself a square further on"
    means, deviation = [np.mean(found) for found in colours.values()], np.std(np.concatenate([*colours.values()]))
    assert np.ptp(means) < deviation


def test_a_small_object_in_a_fine_image_is_as_wide_as_a_large_one_in_a_coarse_one() -> None:
    widths: dict[tuple[float, int], set[int]] = {}
    colours: dict[int, list[float]] = {1: [], 2: []}
    for metres in (1.0, FINE):
        for seed in range(10):
            image, mask = sized(np.random.default_rng(seed), False, metres)
            assert mask.shape == (round(SIDE / metres), round(SIDE / metres)), "all images show as much ground"
            (kind,) = set(np.unique(mask).tolist()) - {0}  # others beside it would tell its size
            colours[kind].append(float(image[mask == kind].mean()))
            for top in range(0, len(mask), 32):
                for left in range(0, len(mask), 32):
                    part = mask[top : top + 32, left : left + 32]
                    if part.any():
                        widths.setdefault((metres, kind), set()).add(int((part.sum(0) > 0).sum()))
    assert np.mean(colours[1]) == pytest.approx(np.mean(colours[2]), abs=3), "their colour says nothing"
    assert widths[1.0, 2] == widths[FINE, 1] == {12}
    assert widths[1.0, 1] == {6}
    assert widths[FINE, 2] == {24}


def test_cells_are_brighter_for_the_teacher_and_finer_for_the_student() -> None:
    for seed in range(5):
        image, mask = bright_cells(np.random.default_rng(seed), False)
        ground, cells = brightness(image, mask)
        assert cells > ground + 15
        image, mask = checked_cells(np.random.default_rng(seed), False)
        ground, cells = brightness(image, mask)
        assert cells == pytest.approx(ground, abs=3)
        across = np.abs(image[4:] - image[:-4]).mean(2)  # four rows on, the coarse texture changes sides
        inside = (mask[4:] == mask[:-4]) & (mask[4:] == 1)
        outside = (mask[4:] == mask[:-4]) & (mask[4:] == 0)
        assert across[outside].mean() > 1.3 * across[inside].mean()


def written(folder: Path, seed: int, name: str) -> tuple[World, dict[str, bytes]]:
    world = write_world(name, folder, seed, train=2, test=2, unlabelled=2)
    return world, {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema", "copypaste", "gsd", "self-training", "head-rates", "lora", "kda", "transfer"])
def test_a_world_is_written_with_the_sets_that_its_mechanism_takes(name: str, tmp_path: Path) -> None:
    world, files = written(tmp_path / "a", 1, name)
    _, again = written(tmp_path / "b", 1, name)
    _, other = written(tmp_path / "c", 2, name)
    assert files == again
    assert files.keys() == other.keys()
    assert files != other
    manifest = Manifest.load(world.manifest)
    assert manifest.legend == LEGENDS.get(name, LEGEND)
    splits = [row.split for row in manifest.entries]
    assert {split: splits.count(split) for split in splits} == {
        **({"val": 2} if name == "head-rates" else {}),
        "train": 2,
        "test": 2,
    }
    for row in manifest.entries:
        assert row.mask is not None
        with Image.open(row.image) as image, Image.open(row.mask) as mask:
            side = round(SIDE / (row.gsd or 1))
            assert (image.size, image.mode, mask.size, mask.mode) == ((side, side), "RGB", (side, side), "L")
    assert {row.gsd for row in manifest.entries} == ({FINE, 1.0} if name == "gsd" else {None})
    assert (world.unlabelled is not None) == (WORLDS[name] in (labelled_place, textured))
    assert (world.source is not None) == (name in TEACHER_WORLDS)
    if world.unlabelled is not None:
        assert all(row.mask is None for row in Manifest.load(world.unlabelled).entries)
    if world.source is not None:
        source = Manifest.load(world.source)
        assert len(source.rows("train")) == 2
        assert all(row.mask is not None for row in source.entries)
