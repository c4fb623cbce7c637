"""Views that come back: which one each draw shows, and what stays the same when it does."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_dataset
from geodistill.data.augment import Augmentation
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.dataset import RandomCrops
from geodistill.data.manifest import Manifest
from geodistill.data.sampling import BLOCK, ViewSchedule
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend


@settings(max_examples=25)
@given(samples=st.integers(1, 12), views=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_pass_shows_every_view_once_in_a_new_order(samples: int, views: int, seed: int) -> None:
    schedule = ViewSchedule((samples,), views, 0.0, seed)
    passes = [
        [schedule.view(draw) for draw in range(turn * schedule.slots, (turn + 1) * schedule.slots)] for turn in (0, 1)
    ]
    for shown in passes:
        assert sorted(view.slot for view in shown) == list(range(samples * views))
        assert Counter(view.sample for view in shown) == dict.fromkeys(range(samples), views)
    if samples * views > 6:
        assert passes[0] != passes[1]


@settings(max_examples=25)
@given(labelled=st.integers(1, 9), unlabelled=st.integers(1, 9), share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_the_share_of_unlabelled_draws_is_kept_and_each_pool_is_shown_evenly(
    labelled: int, unlabelled: int, share: float, seed: int
) -> None:
    schedule = ViewSchedule((labelled, unlabelled), 2, share, seed)
    shown = [schedule.view(draw) for draw in range(4 * BLOCK)]
    assert sum(view.pool for view in shown) == 4 * round(BLOCK * share)
    for pool, first, count in ((0, 0, labelled), (1, 2 * labelled, unlabelled)):
        slots = [view.slot for view in shown if view.pool == pool]
        counts = Counter(slots)
        assert set(slots) <= set(range(first, first + 2 * count))
        assert max(counts.values()) - min(counts[slot] for slot in range(first, first + 2 * count)) <= 1


def test_labelled_slots_keep_their_numbers_when_unlabelled_images_are_left_out() -> None:
    with_both, without = ViewSchedule((5, 3), 4, 0.5, 7), ViewSchedule((5, 3), 4, 0.0, 7)
    labelled = [with_both.view(draw) for draw in range(200) if with_both.view(draw).pool == 0]
    assert labelled == [without.view(draw) for draw in range(len(labelled))]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_dataset(tmp_path_factory.mktemp("views"), 4, height=48, width=64)
    out = folder / "manifest.parquet"
    scan(folder, out=out, legend=Legend(("a", "b", "c")), split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
    return out


COLOURFUL = Augmentation(scale=(0.7, 1.5), flips=True, turns=True, brightness=0.3, contrast=0.3, gamma=0.2)


def crops(path: Path, seed: int = 0, augmentation: Augmentation = COLOURFUL, views: int | None = 3) -> RandomCrops:
    return RandomCrops(Manifest.load(path), "train", 24, augmentation, views=views, seed=seed)


def test_a_view_that_comes_back_has_its_pixels_again_and_new_colours(manifest: Path) -> None:
    data = crops(manifest)
    assert data.schedule is not None
    first: dict[int, dict[str, object]] = {}
    for draw in range(2 * data.schedule.slots):
        sample = dict(data[draw])
        slot = sample["slot"]
        assert isinstance(slot, int)
        if slot not in first:
            first[slot] = sample
            continue
        before = first[slot]
        assert before["key"] == sample["key"]
        for name in ("plain", "mask", "valid"):
            assert torch.equal(before[name], sample[name])  # type: ignore[arg-type]
        assert not torch.equal(before["image"], sample["image"])  # type: ignore[arg-type]
    assert len(first) == data.schedule.slots
    assert len({bytes(np.asarray(sample["plain"])) for sample in first.values()}) > 0.9 * len(first)


def test_a_view_is_a_function_of_seed_sample_and_view_alone(manifest: Path) -> None:
    data, again, other = crops(manifest), crops(manifest), crops(manifest, seed=1)
    for draw in (11, 3, 7):
        assert torch.equal(data[draw]["image"], again[draw]["image"])
    changed = crops(manifest, augmentation=replace(COLOURFUL, brightness=0.0, gamma=0.0))
    assert data.schedule is not None
    slots = {data[draw]["slot"]: data[draw]["plain"] for draw in range(data.schedule.slots)}
    for draw in range(6):
        assert torch.equal(slots[changed[draw]["slot"]], changed[draw]["plain"])
        assert not torch.equal(slots[other[draw]["slot"]], other[draw]["plain"])


def test_each_image_gives_as_many_samples_as_crops_cover_it(manifest: Path) -> None:
    data = crops(manifest)
    assert data.schedule is not None
    assert data.schedule.samples == (round(48 * 64 / 24**2) * len(Manifest.load(manifest).rows("train")),)


def test_without_colours_the_plain_image_is_the_image(manifest: Path) -> None:
    sample = crops(manifest, augmentation=Augmentation())[0]
    assert sample["plain"] is sample["image"]
    assert "slot" not in crops(manifest, views=None)[0]


def config(path: Path, unlabelled: bool = False) -> DataConfig:
    named = str(path) if unlabelled else None
    return DataConfig(str(path), named, crop=24, batch_size=8, workers=0, brightness=0.1)


def test_batches_hold_slots_and_plain_images(manifest: Path) -> None:
    data = DataModule(config(manifest), views=2)
    batch = next(iter(data.train_dataloader()))
    assert batch["slot"].dtype == torch.int64
    assert batch["plain"].shape == batch["image"].shape
    assert int(batch["slot"].max()) < data.slots


def test_unlabelled_images_are_drawn_only_where_they_are_of_use(manifest: Path) -> None:
    for views in (None, 2):
        data = DataModule(config(manifest, unlabelled=True), views=views)
        shares = []
        for wanted in (True, False):
            data.restart(unlabelled=wanted)
            loader = iter(data.train_dataloader())
            masks = torch.cat([next(loader)["mask"] for _ in range(8)])
            shares.append(float((masks == 255).flatten(1).all(1).float().mean()))
        assert 0.25 < shares[0] < 0.75
        assert shares[1] == 0


def test_what_moves_pixels_is_in_the_description_and_colours_are_not(manifest: Path) -> None:
    base = config(manifest)
    described = [
        DataModule(changed, seed=seed, views=views).view_description()
        for changed, seed, views in (
            (base, 0, 2),
            (replace(base, brightness=0.9, batch_size=2), 0, 2),
            (replace(base, flips=False), 0, 2),
            (replace(base, crop=16), 0, 2),
            (base, 1, 2),
            (base, 0, 3),
        )
    ]
    assert described[0] == described[1]
    assert all(other != described[0] for other in described[2:])


def test_an_image_that_was_changed_gives_another_description(manifest: Path) -> None:
    data = DataModule(config(manifest), views=2)
    before = data.view_description()
    image = data.manifest.rows("train")[0].image
    image.write_bytes(image.read_bytes() + b" ")
    assert data.view_description() != before
