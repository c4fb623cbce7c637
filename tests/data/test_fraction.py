"""A fraction of the labels: how many, which, and what they cover."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from factories import make_raster
from geodistill.data.class_draws import rare_classes
from geodistill.data.data_config import Choice, DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.fraction import cover_classes, cut, take_fraction, windows_of
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.raster import Window
from geodistill.spec import Legend

CLASS_SETS = st.lists(st.frozensets(st.integers(0, 9), max_size=4), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Twenty training images of land, of which one holds water and one a road."""
    folder = tmp_path_factory.mktemp("rare")
    rng = np.random.default_rng(0)
    for index in range(20):
        mask = np.zeros((1, 24, 24), np.uint8)
        mask[:, :2] = 255
        mask[:, 5:9] = {3: 1, 11: 2}.get(index, 0)
        make_raster(folder / "images" / f"i{index}.tif", pixels=rng.integers(1, 250, (3, 24, 24)).astype(np.uint8))
        make_raster(folder / "masks" / f"i{index}.tif", pixels=mask)
    scan(
        folder,
        None,
        folder / "m.parquet",
        legend=Legend(("land", "water", "road")),
        split=SplitPlan(fractions=(1.0, 0, 0)),
    )
    return Manifest.load(folder / "m.parquet")


@pytest.mark.slow
@given(classes=CLASS_SETS, seed=st.integers(0, 1000), data=st.data())
def test_the_choice_is_of_that_size_repeatable_and_covers_what_it_can(
    classes: list[frozenset[int]], seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(classes)))
    chosen = cover_classes(classes, count, seed)
    assert chosen == cover_classes(classes, count, seed)
    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(range(len(classes)))
    present = frozenset().union(*classes)
    covered = frozenset().union(*(classes[i] for i in chosen))
    if count >= len(present):  # an image for each class is enough
        assert covered == present
    # Never worse than the single best image, and complete when all images are taken.
    assert len(covered) >= max(len(own) for own in classes)
    if count == len(classes):
        assert covered == present


@given(seeds=st.lists(st.integers(0, 10_000), min_size=8, max_size=8, unique=True))
def test_seeds_choose_differently_where_classes_do_not_decide(seeds: list[int]) -> None:
    chosen = {tuple(cover_classes([frozenset({0})] * 60, 6, seed)) for seed in seeds}
    assert len(chosen) >= 6


@pytest.mark.parametrize(
    ("fraction", "windows", "size"), [(0.01, 100, 1), (0.03, 100, 3), (0.05, 1234, 62), (1.0, 7, 7), (0.05, 39, 2)]
)
def test_a_fraction_is_a_number_of_windows(fraction: float, windows: int, size: int) -> None:
    assert windows_of(fraction, windows) == size


def test_less_than_one_window_is_an_error_that_says_what_would_do() -> None:
    with pytest.raises(RecipeError, match=r"data.fraction 0.01 of 99 .*less than one; expected 0.0101 or more"):
        windows_of(0.01, 99)


@pytest.mark.parametrize("seed", range(4))
def test_rare_classes_are_among_a_few_images(rare: Manifest, seed: int) -> None:
    kept, told = take_fraction(rare, 0.15, seed, 24)
    names = {row.image.stem for row in kept.rows("train")}
    assert len(names) == 3
    assert {"i3", "i11"} <= names
    assert told == [
        f"3 of 20 labelled training windows (15 %, seed {seed}, by classes) in 3 images"
        " with 3 of the 3 classes that all of them hold"
    ]


def test_classes_that_do_not_fit_are_named_and_ignored_labels_are_no_class(rare: Manifest) -> None:
    kept, (told,) = take_fraction(rare, 0.05, 0, 24)
    assert len(kept.rows("train")) == 1
    assert "with 2 of the 3 classes" in told
    assert told.endswith(("without water", "without road"))


def test_other_splits_stay(rare: Manifest) -> None:
    rows = [replace(row, split="val" if i < 5 else "train") for i, row in enumerate(rare.entries)]
    kept, _ = take_fraction(replace(rare, entries=tuple(rows)), 0.2, 0, 24)
    assert len(kept.rows("val")) == 5
    assert len(kept.rows("train")) == 3
    with pytest.raises(DataError, match="no 'train' images"):
        take_fraction(replace(rare, entries=tuple(rows[:5])), 0.5, 0, 24)


@pytest.mark.parametrize("choice", ["classes", "random", "place"])
def test_what_counts_classes_counts_those_of_the_fraction(rare: Manifest, tmp_path: Path, choice: Choice) -> None:
    """Also where a part of an image is nodata, whose labels nobody sees."""
    rows = []
    for row in rare.entries:
        with rasterio.open(row.image) as file:
            pixels = file.read()
        pixels[:, 10:] = 0
        image = make_raster(tmp_path / row.image.name, pixels=pixels, nodata=0)
        rows.append(replace(row, image=image, split="val" if row.image.stem == "i0" else "train"))
    kept, _ = take_fraction(replace(rare, entries=tuple(rows)), 0.4, 1, 12, choice)
    seen = np.zeros(256, int)
    for row in kept.rows("train"):
        with rasterio.open(row.image) as image, rasterio.open(row.mask) as mask:
            window = ((w := row.window).row, w.row + w.height), (w.col, w.col + w.width)
            seen += np.bincount(mask.read(1, window=window)[image.dataset_mask(window=window) > 0], minlength=256)
    assert seen[255] > 0
    assert kept.statistics is not None
    assert rare.statistics is not None
    assert kept.statistics.class_pixels == {**rare.statistics.class_pixels, "train": tuple(seen[:3].tolist())}
    assert kept.statistics.ignored_pixels["train"] == seen[255]


def test_classes_outside_the_fraction_are_neither_weighed_nor_drawn(rare: Manifest) -> None:
    config = DataConfig(manifest=str(rare.path), crop=24, batch_size=2, workers=0, fraction=0.1, rare_classes=0.5)
    names = [row.image.stem for row in rare.entries]
    drawn = {seed: [names[k] for k in np.random.default_rng(seed).permutation(20)[:2]] for seed in range(50)}
    seed = next(seed for seed, windows in drawn.items() if "i3" in windows and "i11" not in windows)
    module = DataModule(replace(config, seed=seed, fraction_choice="random"))
    assert module.notes[0].endswith("without road")
    labels = [module.crops[draw]["mask"] for draw in range(40)]
    assert max(int(mask[mask != 255].max()) for mask in labels) == 1
    drawn_for = np.diff(rare_classes(module.manifest, "train").clip(max=1), prepend=0)
    assert drawn_for[2] == 0
    assert drawn_for[1] > drawn_for[0] > 0


def test_what_lies_between_objects_is_that_of_the_whole_set(rare: Manifest, tmp_path: Path) -> None:
    row = next(row for row in rare.entries if row.image.stem == "i3")
    mostly_water = replace(row, window=Window(4, 0, 5, 24))  # one line of land
    rows = tuple(mostly_water if each is row else each for each in rare.entries)
    replace(rare, entries=rows).save(tmp_path / "m.parquet")
    seed = next(seed for seed in range(200) if rows[np.random.default_rng(seed).permutation(20)[0]] is mostly_water)
    plain = DataConfig(scale=(1, 1), flips=False, turns=False, brightness=0, contrast=0, gamma=0, crop=24)
    config = replace(plain, manifest=str(tmp_path / "m.parquet"), recolour=2, seed=seed, workers=0)
    crops = DataModule(replace(config, fraction=0.05, fraction_choice="random")).crops
    with rasterio.open(row.image) as file:
        land, water = file.read(window=((4, 5), (0, 24))), file.read(window=((5, 9), (0, 24)))
    changed = set()
    for draw in range(20):
        sample = crops[draw]
        np.testing.assert_allclose(sample["image"][:, sample["mask"] == 0], land.reshape(3, -1), atol=1e-3)
        changed.add(bool(abs(sample["image"][:, sample["mask"] == 1] - water.reshape(3, -1)).max() > 1))
    assert changed == {True, False}


def test_windows_without_a_label_are_refused(rare: Manifest) -> None:
    rows = [replace(row, window=Window(0, 0, 2, 24)) if row.image.stem != "i3" else row for row in rare.entries]
    other = [np.random.default_rng(seed).permutation(20)[0] for seed in range(20)]
    unlabelled = next(seed for seed in range(20) if rows[other[seed]].image.stem != "i3")
    with pytest.raises(DataError, match=r"labels of no class; expected two classes or more"):
        take_fraction(replace(rare, entries=tuple(rows)), 0.05, unlabelled, 24, "random")


def test_any_recipes_data_takes_it(rare: Manifest) -> None:
    plain = DataConfig(manifest=str(rare.path), crop=24, batch_size=4, workers=0, seed=5)
    module = DataModule(replace(plain, fraction=0.15))
    assert len(module.manifest.rows("train")) == 3
    idle = "no validation images: trainer.val_every_steps and patience do nothing; the last weights are kept"
    assert module.notes == [*take_fraction(rare, 0.15, 5, 24)[1], idle]
    assert idle not in DataModule(plain, labels=False).notes
    loader = iter(module.train_dataloader())
    seen = {key.split("@")[0] for _ in range(6) for key in next(loader)["key"]}
    assert seen <= {str(row.image) for row in module.manifest.rows("train")}
    assert len(DataModule(plain).manifest.rows("train")) == 20
    assert module.spec == DataModule(plain).spec  # normalisation is of all images: it takes no labels
    with pytest.raises(RecipeError, match=r"data\.fraction 1\.5"):
        DataModule(replace(plain, fraction=1.5))
    assert len(DataModule(replace(plain, fraction=0.15), labels=False).manifest.rows("train")) == 20


@pytest.mark.slow
@given(height=st.integers(1, 90), width=st.integers(1, 200), top=st.integers(0, 9), side=st.integers(1, 200))
def test_windows_cover_an_image_once_in_nearly_equal_parts(height: int, width: int, top: int, side: int) -> None:
    windows = cut(Window(top, 3, height, width), side)
    seen = np.zeros((top + height, 3 + width), int)
    for window in windows:
        seen[window.row : window.row + window.height, window.col : window.col + window.width] += 1
    assert (seen[top:, 3:] == 1).all()
    assert seen.sum() == height * width
    assert max(w.height for w in windows) - min(w.height for w in windows) <= 1
    assert len(windows) == max(1, round(height / side)) * max(1, round(width / side))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six large training images, of 25 windows of 16 pixels each; every window is of one class and a corner of land."""
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(1)
    for index in range(6):
        mask = np.kron(rng.integers(0, 3, (5, 5)), np.ones((16, 16))).astype(np.uint8)[None]
        mask[:, ::16, ::16] = 0
        make_raster(folder / "images" / f"i{index}.tif", pixels=rng.integers(1, 250, (3, 80, 80)).astype(np.uint8))
        make_raster(folder / "masks" / f"i{index}.tif", pixels=mask)
    scan(
        folder,
        None,
        folder / "m.parquet",
        legend=Legend(("land", "water", "road")),
        split=SplitPlan(fractions=(1.0, 0, 0)),
    )
    return Manifest.load(folder / "m.parquet")


@pytest.mark.slow
def test_a_hundredth_of_a_few_large_images_is_of_several(tiles: Manifest) -> None:
    kept, (told,) = take_fraction(tiles, 0.04, 0, 16)
    rows = kept.rows("train")
    assert len(rows) == 6
    assert {(row.window.height, row.window.width) for row in rows} == {(16, 16)}
    assert len({row.image for row in rows}) > 2
    assert told.startswith("6 of 150 labelled training windows (4 %, seed 0, by classes) in ")
    module = DataModule(DataConfig(manifest=str(tiles.path), crop=16, batch_size=2, workers=0, fraction=0.04, seed=0))
    assert module.manifest.rows("train") == rows
    inside = next(iter(module.train_dataloader()))["mask"]
    assert inside.shape == (2, 16, 16)


@pytest.mark.slow
def test_windows_of_one_place_lie_side_by_side(tiles: Manifest) -> None:
    kept, _ = take_fraction(tiles, 9 / 150, 3, 16, "place")
    rows = kept.rows("train")
    assert len({row.image for row in rows}) == 1
    spans = [max(places) - min(places) for places in zip(*((r.window.row, r.window.col) for r in rows), strict=True)]
    assert max(spans) <= 64
    many, _ = take_fraction(tiles, 30 / 150, 3, 16, "place")
    assert len({row.image for row in many.rows("train")}) == 2, "one image whole, then the next"


@pytest.mark.slow
def test_chance_is_another_choice_than_classes(tiles: Manifest) -> None:
    by_chance = [take_fraction(tiles, 0.04, seed, 16, "random")[0].rows("train") for seed in range(3)]
    assert len({tuple(map(str, rows)) for rows in by_chance}) == 3
    with pytest.raises(UnknownNameError, match=r"fraction_choice 'any'"):
        DataModule(DataConfig(manifest=str(tiles.path), fraction=0.5, fraction_choice="any"))  # type: ignore[arg-type]


def test_a_part_of_one_class_alone_is_refused(rare: Manifest) -> None:
    lone = next(
        seed for seed in range(20) if not np.isin([3, 11], np.random.default_rng(seed).permutation(20)[:2]).any()
    )
    with pytest.raises(DataError, match=r"labels of 'land' alone.*two classes or more"):
        take_fraction(rare, 0.1, lone, 24, "random")
