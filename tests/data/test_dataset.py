from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import make_dataset, make_raster, noise
from geodistill.data.augment import Augmentation
from geodistill.data.data_config import DataConfig
from geodistill.data.dataset import RandomCrops, Tiles
from geodistill.data.manifest import Manifest, Row
from geodistill.data.sampling import Sample
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError, RecipeError
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

ALL = Augmentation(
    (0.5, 2.0), flips=True, vertical_flips=True, turns=True, brightness=0.3, contrast=0.3, gamma=0.3, mosaic=0.4
)
SIDE = 60


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = make_dataset(tmp_path_factory.mktemp("set"), 6, height=48, width=80)
    return scan(folder, None, folder / "m.parquet", split=SplitPlan(fractions=(0.5, 0.5, 0))).manifest


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One scene whose samples and labels tell where each pixel lies: sample = row * 60 + column + 1."""
    folder = tmp_path_factory.mktemp("places")
    number = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE)
    image = make_raster(folder / "a.tif", pixels=(number + 1).astype(np.uint16))
    mask = make_raster(folder / "m.tif", pixels=(number % 3).astype(np.uint8))
    return Manifest((Row(image, mask, "train", Window(0, 0, SIDE, SIDE)),), ("b",), Legend(("x", "y", "z")))


def equal(one: Sample, other: Sample) -> bool:
    return one["key"] == other["key"] and all(torch.equal(one[k], other[k]) for k in ("image", "mask", "valid"))


class TestRandomCrops:
    def test_sample(self, manifest: Manifest) -> None:
        sample = RandomCrops(manifest, "train", 32, ALL)[5]
        assert (sample["image"].shape, sample["image"].dtype) == ((3, 32, 32), torch.float32)
        assert (sample["mask"].shape, sample["mask"].dtype) == ((32, 32), torch.int64)
        assert (sample["valid"].shape, sample["valid"].dtype) == ((32, 32), torch.bool)
        assert "scene_" in sample["key"]
        assert set(sample) == {"image", "mask", "valid", "unlabelled", "key", "source"}

    def test_without_replacement_each_pass_shows_each_image_once_in_an_order_of_its_own(
        self, manifest: Manifest
    ) -> None:
        rows, plain = manifest.rows("train"), replace(ALL, mosaic=0.0)
        crops = RandomCrops(manifest, "train", 64, plain, without_replacement=True, seed=4)
        count = len(rows)
        passes = [[crops[draw]["source"] for draw in range(p * count, (p + 1) * count)] for p in range(8)]
        assert all(sorted(shown) == sorted(row.key for row in rows) for shown in passes)
        assert len({tuple(shown) for shown in passes}) > 1
        again = RandomCrops(manifest, "train", 64, plain, without_replacement=True, seed=4)
        assert equal(crops[count + 1], again[count + 1])

    def test_without_replacement_a_large_image_counts_as_often_as_crops_cover_it(self, places: Manifest) -> None:
        crops = RandomCrops(places, "train", 30, without_replacement=True)
        assert len(crops._rows) == 4
        unlabelled = [replace(row, mask=None) for row in places.entries]
        with pytest.raises(RecipeError, match=r"without_replacement beside data\.unlabelled"):
            RandomCrops(places, "train", 30, without_replacement=True, unlabelled=unlabelled)
        with pytest.raises(RecipeError, match=r"without_replacement beside data\.mosaic"):
            RandomCrops(places, "train", 30, Augmentation(mosaic=0.1), without_replacement=True)

    def test_a_draw_is_a_function_of_seed_and_number(self, manifest: Manifest) -> None:
        first, second = RandomCrops(manifest, "train", 32, ALL, seed=4), RandomCrops(manifest, "train", 32, ALL, seed=4)
        later = [second[draw] for draw in (9, 3, 10**12)]  # in another order, and far on
        assert all(equal(one, other) for one, other in zip((first[9], first[3], first[10**12]), later, strict=True))
        assert not equal(first[9], RandomCrops(manifest, "train", 32, ALL, seed=5)[9])
        assert not equal(first[9], first[10])

    def test_without_augmentation_a_crop_is_a_window_of_the_file(self, places: Manifest) -> None:
        for draw in range(20):
            sample = RandomCrops(places, "train", 16)[draw]
            row, col = (int(v) for v in sample["key"].rsplit("@", 1)[1].split(","))
            with Raster(places.entries[0].image) as raster:
                assert np.array_equal(sample["image"].numpy(), raster.read(Window(row, col, 16, 16))[0])

    @pytest.mark.parametrize("mosaic", [0.0, 1.0])
    def test_labels_stay_on_their_pixels(self, places: Manifest, mosaic: float) -> None:
        crops = RandomCrops(places, "train", 16, Augmentation(flips=True, turns=True, mosaic=mosaic))
        for draw in range(40):
            sample = crops[draw]
            assert torch.equal((sample["image"][0].long() - 1) % 3, sample["mask"])

    def test_every_place_is_drawn(self, places: Manifest) -> None:
        crops = RandomCrops(places, "train", 20)
        seen = torch.cat([crops[draw]["image"].flatten() for draw in range(300)]).long().unique()
        assert len(seen) > 0.95 * SIDE * SIDE

    def test_zoom_reads_more_or_less_ground(self, places: Manifest) -> None:
        spans = {}
        for zoom in (0.5, 1.0, 2.0):
            crops = RandomCrops(places, "train", 20, Augmentation(scale=(zoom, zoom)))
            image = crops[1]["image"][0]
            spans[zoom] = float(image.max() - image.min()) / SIDE
        assert spans[0.5] == pytest.approx(39, abs=1.5)
        assert spans[1.0] == pytest.approx(19, abs=1.5)
        assert spans[2.0] == pytest.approx(9.5, abs=1.5)

    def test_crops_are_brought_to_a_range_of_ground_sampling_distances(self, places: Manifest) -> None:
        known = replace(places, entries=tuple(replace(row, gsd=0.5) for row in places.entries))
        for gsd, span in ((1.0, 39), (0.5, 19), (0.25, 9.5)):
            crops = RandomCrops(known, "train", 20, Augmentation(gsd=(gsd, gsd)))
            image = crops[1]["image"][0]
            assert float(image.max() - image.min()) / SIDE == pytest.approx(span, abs=1.5)
        rng = np.random.default_rng(0)
        augmentation = Augmentation((3.0, 3.0), gsd=(0.25, 1.0))
        zooms = [augmentation.zoom(rng, places.entries[0].window, 0.5) for _ in range(200)]
        assert 0.5 <= min(zooms) < 0.55
        assert 1.8 < max(zooms) <= 2
        assert augmentation.zoom(rng, places.entries[0].window, None) == pytest.approx(3)
        with pytest.raises(RecipeError, match=r"data\.gsd .* of unknown ones"):
            RandomCrops(places, "train", 20, augmentation)

    def test_images_smaller_than_the_crop_are_padded(self, places: Manifest) -> None:
        sample = RandomCrops(places, "train", 100)[0]
        assert int(sample["valid"].sum()) == SIDE * SIDE
        assert (sample["mask"][~sample["valid"]] == 255).all()
        assert (sample["image"][:, ~sample["valid"]] == 0).all()
        assert (sample["mask"][sample["valid"]] < 3).all()

    def test_an_area_of_a_scene_is_never_left(self, places: Manifest) -> None:
        area = replace(places.entries[0], window=Window(10, 20, 25, 30))
        crops = RandomCrops(replace(places, entries=(area,)), "train", 16, Augmentation((0.5, 2.0), True, True))
        with Raster(area.image) as raster:
            inside = raster.read(area.window)[0]
        low, high = inside.min(), inside.max()
        for draw in range(50):
            sample = crops[draw]
            seen = sample["image"][0][sample["valid"]]
            assert low <= seen.min()
            assert seen.max() <= high

    def test_images_are_drawn_by_area(self, tmp_path: Path) -> None:
        rows = []
        for name, side in (("small", 20), ("large", 60)):
            image = make_raster(tmp_path / f"{name}.tif", pixels=noise((1, side, side)))
            rows.append(Row(image, None, "train", Window(0, 0, side, side)))
        crops = RandomCrops(Manifest(tuple(rows), ("b",)), "train", 8)
        counts = Counter("large" in crops[draw]["key"] for draw in range(400))
        assert counts[True] / 400 == pytest.approx(0.9, abs=0.06)

    def test_too_uniform_crops_are_drawn_again(self, tmp_path: Path) -> None:
        labels = np.zeros((1, 100, 100), np.uint8)
        labels[:, :, 45:55] = 1
        image = make_raster(tmp_path / "a.tif", pixels=noise((1, 100, 100)))
        mask = make_raster(tmp_path / "m.tif", pixels=labels)
        data = Manifest((Row(image, mask, "train", Window(0, 0, 100, 100)),), ("b",), Legend(("x", "y")))

        def uniform(ratio: float) -> int:
            crops = RandomCrops(data, "train", 20, Augmentation(max_class_ratio=ratio, crop_tries=30))
            return sum(bool((crops[draw]["mask"] == 0).all()) for draw in range(60))

        assert uniform(0.9) == 0
        assert uniform(1.0) > 20

    def test_crops_without_any_valid_pixel_are_drawn_again(self, tmp_path: Path) -> None:
        pixels = noise((1, 100, 100))
        pixels[:, :, 15:] = 0
        image = make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0)
        crops = RandomCrops(
            Manifest((Row(image, None, "train", Window(0, 0, 100, 100)),), ("b",)),
            "train",
            10,
            Augmentation(crop_tries=60),
        )
        assert all(crops[draw]["valid"].any() for draw in range(40))

    def test_unlabelled_images_join_with_their_share_and_never_a_label(self, manifest: Manifest) -> None:
        crops = RandomCrops(manifest, "train", 16, unlabelled=manifest.rows("val"), unlabelled_share=0.3)
        names = {str(row.image) for row in manifest.rows("val")}
        joined = 0
        for draw in range(200):
            sample = crops[draw]
            if sample["key"].rsplit("@", 1)[0] in names:
                joined += 1
                assert (sample["mask"] == 255).all()
                assert torch.equal(sample["unlabelled"], sample["valid"])
            else:
                assert (sample["mask"] < 255).any()
                assert not sample["unlabelled"].any()
        assert joined / 200 == pytest.approx(0.3, abs=0.1)

    def test_mistakes(self, manifest: Manifest) -> None:
        with pytest.raises(DataError, match="no 'test' images"):
            RandomCrops(manifest, "test")
        with pytest.raises(DataError, match="data stats"):
            RandomCrops(replace(manifest, statistics=None), "train", 16, Augmentation(gamma=0.1))
        with pytest.raises(RecipeError):
            RandomCrops(manifest, "train", 0)
        closed = replace(manifest.entries[0], window=Window(0, 0, 0, 0), split="train")
        with pytest.raises(DataError, match="could not be opened when it was scanned"):
            RandomCrops(replace(manifest, entries=(closed,)), "train")


def test_tiles_show_every_pixel_once(manifest: Manifest) -> None:
    tiles = Tiles(manifest, "val", 32)
    assert len(tiles) == 3 * 2 * 3
    total = sum(int(tiles[i]["valid"].sum()) for i in range(len(tiles)))
    assert total == 3 * 48 * 80
    assert all(tiles[i]["image"].shape == (3, 32, 32) for i in range(len(tiles)))
    assert equal(tiles[4], Tiles(manifest, "val", 32)[4])
    with pytest.raises(IndexError):
        tiles[18]


def test_tiles_are_evened_out_with_unlabelled_ones(manifest: Manifest) -> None:
    tiles = Tiles(manifest, "val", 32, padded_to=4)
    assert len(tiles) == 20
    assert all((tiles[i]["mask"] == 255).all() and not tiles[i]["unlabelled"].any() for i in (18, 19))


def test_images_of_any_size_are_brought_to_one(tmp_path: Path) -> None:
    sizes = {"small": (20, 40), "large": (120, 120)}
    rows = []
    for name, (height, width) in sizes.items():
        pixels = np.broadcast_to(np.arange(width) // (width // 2), (1, height, width)).astype(np.uint8)
        files = [make_raster(tmp_path / kind / f"{name}.tif", pixels=pixels) for kind in ("images", "masks")]
        rows += [Row(*files, split, Window(0, 0, height, width)) for split in ("train", "val")]
    manifest = Manifest(tuple(rows), ("b",), Legend(("left", "right")))
    crops = RandomCrops(manifest, "train", 80, Augmentation(resize=80))
    seen = Counter()
    for draw in range(60):
        sample = crops[draw]
        small = "small" in sample["source"]
        assert int(sample["valid"].sum()) == (40 if small else 80) * 80, (
            "the whole image, its shorter side in proportion"
        )
        assert torch.equal(
            sample["mask"][sample["valid"]].unique(return_counts=True)[1].unique(), sample["valid"].sum()[None] // 2
        )
        seen["small" if small else "large"] += 1
    assert seen["small"] / 60 == pytest.approx(1 / 3, abs=0.15), "by area after that, not before"
    tiles = Tiles(manifest, "val", 40, resize=80)
    assert len(tiles) == 2 + 4
    assert [int(tiles[at]["valid"].sum()) for at in range(6)] == [1600] * 6
    assert DataConfig(resize=80).augmentation().resize == 80
    with pytest.raises(RecipeError, match=r"data\.resize 80.*no data\.fraction"):
        DataConfig("m", resize=80, fraction=0.5).check()
