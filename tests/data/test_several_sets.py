"""Several data sets at once: how a batch is parted, over processes too; what sets must have in common."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factories import make_dataset
from geodistill.data.data_config import SetsConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest
from geodistill.data.sampling import DrawBatches, split_batch
from geodistill.data.scan import scan
from geodistill.data.several_sets import join_specs
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError, RecipeError
from geodistill.spec import Legend, Spec

SAMRS = {"sota": 17_480, "sior": 11_725, "fast": 64_147}
IMAGES = {"town": 8, "port": 4, "farm": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for index, (name, count) in enumerate(IMAGES.items()):
        make_dataset(root / name, count, classes=2 + index, seed=100 * index)
        legend = Legend(tuple(f"c{i}" for i in range(2 + index)))
        scan(
            root / name, None, root / name / "manifest.parquet", legend=legend, split=SplitPlan(fractions=(0.5, 0.5, 0))
        )
    return root


def config(folder: Path, **values: object) -> SetsConfig:
    manifests = tuple(str(folder / name / "manifest.parquet") for name in IMAGES)
    plain = SetsConfig(manifests=manifests, crop=16, batch_size=12, workers=0, scale=(1.0, 1.0))
    return replace(plain, **values)  # type: ignore[arg-type]


def test_the_papers_batch_is_parted_18_12_66() -> None:
    assert split_batch(96, SAMRS) == {"sota": 18, "sior": 12, "fast": 66}
    assert split_batch(96, SAMRS, 8) == {"sota": 18, "sior": 12, "fast": 66}


@given(
    total=st.integers(1, 400),
    images=st.lists(st.integers(1, 100_000), min_size=1, max_size=12),
)
def test_parts_add_up_and_are_within_one_of_the_exact_share(total: int, images: list[int]) -> None:
    held = {f"s{i}": count for i, count in enumerate(images)}
    try:
        parts = split_batch(total, held)
    except RecipeError:
        # Only a set whose share is below one image may come out empty.
        assert any(total * count < sum(images) for count in images)
        return
    assert sum(parts.values()) == total
    for name, part in parts.items():
        assert abs(part - total * held[name] / sum(images)) < 1
        assert part >= 1


@given(scale=st.integers(1, 1000))
def test_the_parting_depends_on_proportions_alone(scale: int) -> None:
    assert split_batch(96, {name: scale * count for name, count in SAMRS.items()}) == split_batch(96, SAMRS)


def test_a_set_without_a_part_is_an_error_that_names_it() -> None:
    with pytest.raises(RecipeError, match=r"batches of 4 over 1 process give set 'sior' 0 .*data.batch_size"):
        split_batch(4, SAMRS)
    with pytest.raises(RecipeError, match="over 16 processes give set 'sior' 12"):
        split_batch(96, SAMRS, 16)


@given(
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    world=st.integers(1, 8),
    start=st.integers(0, 50),
)
def test_processes_share_every_part_evenly_and_no_draw_is_lost(parts: list[int], world: int, start: int) -> None:
    steps = [list(itertools.islice(DrawBatches(parts, [start] * len(parts), rank, world), 3)) for rank in range(world)]
    for step in range(3):
        dealt = [steps[rank][step] for rank in range(world)]
        sizes = [len(batch) for batch in dealt]
        assert max(sizes) - min(sizes) <= 1
        for position, part in enumerate(parts):
            own = [sum(p == position for p, _ in batch) for batch in dealt]
            assert sum(own) == part
            assert max(own) - min(own) <= 1
        drawn = sorted(pair for batch in dealt for pair in batch)
        assert drawn == [(p, start + step * n + i) for p, n in enumerate(parts) for i in range(n)]
        assert all(batch == sorted(batch) for batch in dealt)


def test_a_batch_holds_every_set_in_order_with_labels_of_its_own_legend(folder: Path) -> None:
    module = DataModule(config(folder))
    batch = next(iter(module.train_dataloader()))
    assert batch["set"].tolist() == [0] * 4 + [1] * 2 + [2] * 6
    assert batch["image"].shape == (12, 3, 16, 16)
    for position, classes in enumerate((2, 3, 4)):
        labels = batch["mask"][batch["set"] == position]
        assert int(labels[labels != 255].max()) < classes
        name = list(IMAGES)[position]
        assert all(f"/{name}/" in key for key, own in zip(batch["key"], batch["set"], strict=True) if own == position)


def test_a_resumed_stream_goes_on_where_it_was(folder: Path) -> None:
    whole = list(itertools.islice(DataModule(config(folder)).train_dataloader(), 4))
    module = DataModule(config(folder))
    module.load_state_dict({"draws": [2 * part for part in module.parts.values()]})
    for one, other in zip(whole[2:], module.train_dataloader(), strict=False):
        assert one["key"] == other["key"]
        assert torch.equal(one["image"], other["image"])


def test_validation_has_a_loader_for_each_set_that_has_images(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(folder / "port" / "manifest.parquet")
    few = tmp_path / "port.parquet"
    replace(manifest, entries=manifest.rows("train")).save(few)
    given = config(folder)
    loaders = DataModule(replace(given, manifests=(given.manifests[0], str(few), given.manifests[2]))).val_dataloader()
    held = [Counter(int(value) for batch in loader for value in batch["set"]) for loader in loaders]
    assert [list(counts) for counts in held] == [[0], [2]]


def test_normalisation_is_pooled_as_over_all_pixels() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(50, 5, 3000), rng.normal(90, 20, 1000)]
    specs = {
        name: Spec(Legend(("a", "b")), ("grey",), (float(own.mean()),), (float(own.std()),))
        for name, own in zip(("one", "two"), samples, strict=True)
    }
    every, sets = join_specs(specs, {"one": 3, "two": 1})
    pooled = np.concatenate(samples)
    assert every.mean[0] == pytest.approx(pooled.mean())
    assert every.std[0] == pytest.approx(pooled.std())
    assert every.legend.names == ("one:a", "one:b", "two:a", "two:b")
    assert {spec.mean for spec in sets.values()} == {every.mean}
    assert sets["two"].legend == specs["two"].legend


def test_more_classes_than_a_mask_can_hold_are_refused() -> None:
    spec = Spec(Legend(tuple(f"c{i}" for i in range(130))), ("grey",))
    with pytest.raises(DataError, match="260 classes in all"):
        join_specs({"one": spec, "two": spec}, {"one": 1, "two": 1})


def test_names_come_from_the_manifests_and_must_differ(folder: Path, tmp_path: Path) -> None:
    assert list(config(folder).by_set()) == list(IMAGES)
    assert list(SetsConfig(manifests=(str(tmp_path / "my set.parquet"),)).by_set()) == ["my_set"]
    twice = config(folder, manifests=(str(folder / "town" / "manifest.parquet"),) * 2)
    with pytest.raises(RecipeError, match=r"two sets with the name 'town' .*--data.names"):
        twice.check()
    assert list(replace(twice, names=("a", "b")).by_set()) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"names": ("a",)}, "1 data.names for 3"),
        ({"names": ("a", "../b", "c")}, r"'\.\./b'"),
        ({"manifest": "x.parquet"}, "beside data.manifests"),
        ({"unlabelled": "x.parquet"}, "data.unlabelled beside"),
        ({"manifests": (), "names": ("a",)}, "without data.manifests"),
        ({"manifests": ()}, "data.manifest is not given"),
        ({"crop": 0}, "data.crop 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(folder: Path, values: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        config(folder, **values).check()


def altered(folder: Path, tmp_path: Path, **values: object) -> SetsConfig:
    """Return the sets with the second's manifest changed."""
    path = tmp_path / "other.parquet"
    manifest = Manifest.load(folder / "port" / "manifest.parquet")
    replace(manifest, **values).save(path)  # type: ignore[arg-type]
    given = config(folder)
    return replace(given, manifests=(given.manifests[0], str(path), given.manifests[2]))


def test_sets_of_other_bands_or_units_are_refused(folder: Path, tmp_path: Path) -> None:
    other = altered(folder, tmp_path / "a", bands=("red", "green", "nir"))
    town = replace(Manifest.load(folder / "town" / "manifest.parquet"), bands=("red", "green", "blue"))
    town.save(tmp_path / "town.parquet")
    other = replace(other, manifests=(str(tmp_path / "town.parquet"), *other.manifests[1:]))
    with pytest.raises(DataError, match="'other' with the bands red, green, nir beside 'town' with red, green, blue"):
        DataModule(other)
    statistics = Manifest.load(folder / "port" / "manifest.parquet").statistics
    assert statistics is not None
    high = replace(statistics, maximum=tuple(40 * value for value in statistics.maximum))
    other = altered(folder, tmp_path / "b", statistics=high)
    with pytest.raises(DataError, match="the same units in every set"):
        DataModule(other)
    # Names that say nothing do not stand in the way of names that do.
    DataModule(altered(folder, tmp_path / "c", bands=("red", "green", "blue")))


def test_a_class_without_a_training_pixel_is_told(folder: Path, tmp_path: Path) -> None:
    statistics = Manifest.load(folder / "port" / "manifest.parquet").statistics
    assert statistics is not None
    counts = {split: (*pixels[:2], 0) for split, pixels in statistics.class_pixels.items()}
    module = DataModule(altered(folder, tmp_path, statistics=replace(statistics, class_pixels=counts)))
    assert "other: no training pixel of c2, which cannot be learnt" in module.notes
    assert "town: 4 training images, 4 of each batch of 12, 2 classes" in module.notes
