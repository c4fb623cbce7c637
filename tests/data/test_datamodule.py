from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from torch import Tensor
from torch.utils.data import DataLoader

from factories import make_dataset
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import make_spec
from geodistill.data.sampling import Batch, DrawBatches
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError, RecipeError
from geodistill.raster import Raster
from geodistill.spec import Legend


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = make_dataset(tmp_path_factory.mktemp("set"), 8)
    report = scan(folder, None, folder / "m.parquet", split=SplitPlan(fractions=(0.7, 0.3, 0)))
    return DataConfig(manifest=str(report.manifest.path), crop=24, batch_size=3, workers=0, mosaic=0.3)


def batches(module: DataModule, count: int) -> list[Batch]:
    return list(itertools.islice(module.train_dataloader(), count))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(
        a["key"] == b["key"] and torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])
        for a, b in zip(one, other, strict=True)
    )


def test_batch(config: DataConfig) -> None:
    (batch,) = batches(DataModule(config), 1)
    assert batch["image"].shape == (3, 3, 24, 24)
    assert batch["mask"].shape == batch["valid"].shape == (3, 24, 24)
    assert len(batch["key"]) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_stream(config: DataConfig, workers: int) -> None:
    assert same(batches(DataModule(config), 5), batches(DataModule(replace(config, workers=workers)), 5))


def test_the_cache_changes_nothing(config: DataConfig) -> None:
    assert same(batches(DataModule(config), 4), batches(DataModule(replace(config, cache=False)), 4))


def test_a_later_start_goes_on_where_the_stream_was(config: DataConfig) -> None:
    assert same(batches(DataModule(config), 5)[3:], batches(DataModule(config, start_step=3), 2))


def test_seeds(config: DataConfig) -> None:
    assert not same(batches(DataModule(config, seed=1), 1), batches(DataModule(config, seed=2), 1))
    fixed = replace(config, seed=7)
    assert same(batches(DataModule(fixed, seed=1), 1), batches(DataModule(fixed, seed=2), 1))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_draws_of_one_larger_batch(world: int) -> None:
    alone = ([draw for _, draw in batch] for batch in DrawBatches([4 * world], [5]))
    together = [iter(DrawBatches([4 * world], [5], rank, world)) for rank in range(world)]
    for _ in range(3):
        parts = [[draw for _, draw in next(part)] for part in together]
        assert all(part[0] == parts[0][0] + rank for rank, part in enumerate(parts))
        assert sorted(itertools.chain(*parts)) == next(alone)


def test_validation_tiles_are_the_same_each_time(config: DataConfig) -> None:
    module = DataModule(replace(config, workers=1))
    first, second = (list(module.val_dataloader()) for _ in range(2))
    assert same(first, second)
    assert sum(int(batch["valid"].sum()) for batch in first) == 2 * 40 * 50


class Recorder(lightning.LightningModule):
    """Takes a gradient step and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[str]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(batch["key"])
        return (self.weight * batch["image"].mean()).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-6)


def run(module: DataModule, steps: int, folder: Path, resume: Path | None = None, accumulate: int = 1) -> Recorder:
    recorder = Recorder()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=resume, weights_only=False)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder


@pytest.mark.parametrize(("method", "workers", "stay"), [("fork", 1, False), ("spawn", 1, True), ("spawn", 0, False)])
def test_workers_that_must_import_all_again_stay_between_validations(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch, method: str, workers: int, stay: bool
) -> None:
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: method)
    loader = DataModule(replace(config, workers=workers)).val_dataloader()
    assert isinstance(loader, DataLoader)
    assert loader.persistent_workers == stay


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_with_the_next_draw(
    config: DataConfig, tmp_path: Path, workers: int, accumulate: int
) -> None:
    whole = run(DataModule(config), 6, tmp_path, accumulate=accumulate).seen
    config = replace(config, workers=workers)
    parts = run(DataModule(config), 2, tmp_path, accumulate=accumulate).seen
    for steps in (4, 6):
        # Twice resumed: the second checkpoint must count from the first one on.
        parts += run(DataModule(config), steps, tmp_path, tmp_path / "last.ckpt", accumulate).seen
    assert parts == whole


def test_unlabelled_images_of_another_manifest(config: DataConfig, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 3, seed=50)
    other = scan(folder / "images", None, tmp_path / "u.parquet", unlabelled=True).manifest
    module = DataModule(replace(config, unlabelled=str(other.path), unlabelled_share=0.5, mosaic=0.0))
    found = [
        (key, mask) for batch in batches(module, 20) for key, mask in zip(batch["key"], batch["mask"], strict=True)
    ]
    joined = [mask for key, mask in found if str(folder) in key]
    assert 15 < len(joined) < 45
    assert all((mask == 255).all() for mask in joined)


def test_unlabelled_images_are_read_by_the_names_of_their_bands(tmp_path: Path) -> None:
    folder, names = make_dataset(tmp_path, 4), ("red", "green", "blue")
    for image in (folder / "images").iterdir():
        with rasterio.open(image) as file:
            pixels, profile = file.read(), file.profile
        for name, order in ((folder / "turned" / image.name, slice(None, None, -1)), (image, slice(None))):
            name.parent.mkdir(exist_ok=True)
            with rasterio.open(name, "w", **profile) as file:
                file.write(pixels[order])
                file.descriptions = names[order]
    labelled = scan(folder / "images", folder / "masks", folder / "m.parquet", split=SplitPlan(fractions=(0.5, 0.5, 0)))
    bare = scan(folder / "turned", None, folder / "u.parquet", unlabelled=True)
    config = DataConfig(manifest=str(labelled.manifest.path), unlabelled=str(bare.manifest.path), crop=24, workers=0)
    module = DataModule(config)
    for row in module.rows[-4:]:
        patch = module.crops._reader.read(row, row.window)
        with Raster(folder / "images" / row.image.name) as raster:
            assert np.array_equal(patch.image, raster.read()[0])
    assert "bands" in module.view_description(), "outputs kept of images in the wrong order are not taken"
    assert "bands" not in DataModule(replace(config, unlabelled=None)).view_description()
    replace(bare.manifest, bands=("nir", "red", "green")).save(folder / "u.parquet")
    with pytest.raises(DataError, match=r"with the bands nir, red, green in .* for a model of red, green, blue"):
        DataModule(config)
    for bands, notes in (
        (("B4", "B3", "B2"), []),  # names that mean nothing to each other
        (("Red", "green", "B8"), [f"Red, green, B8 in {folder / 'u.parquet'} for a model of red, green, blue: those"]),
    ):
        replace(bare.manifest, bands=bands).save(folder / "u.parquet")
        again = DataModule(config)
        assert len(again.rows) == len(module.rows)
        assert [note for note in again.notes if "for a model of" in note] == [
            f"images with the bands {note} of other names are taken in their order" for note in notes
        ]


def test_outputs_kept_of_images_that_are_read_in_another_order_now_are_not_taken(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    images = sorted((folder / "images").iterdir())

    def described(*names: tuple[str, ...]) -> DataModule:
        for image, bands in zip(images, names, strict=True):
            with rasterio.open(image, "r+") as file:
                file.descriptions = bands
        plan = SplitPlan(fractions=(0.5, 0.5, 0))
        scanned = scan(folder / "images", folder / "masks", tmp_path / "m.parquet", split=plan)
        assert scanned.manifest.bands == names[0]
        return DataModule(DataConfig(manifest=str(scanned.manifest.path), crop=24, workers=0))

    rgb = ("red", "green", "blue")
    assert "bands" not in described(rgb, rgb, rgb, rgb).view_description()
    assert "bands" in described(rgb, *[rgb[::-1]] * 3).view_description(), "within one manifest"
    module = described(*[rgb] * 4)
    turned = Path(shutil.copytree(folder / "images", tmp_path / "S2A"))
    for image in sorted(turned.iterdir()):
        with rasterio.open(image.rename(turned / f"S2A_{image.name}"), "r+") as file:
            file.descriptions, file.colorinterp = ("B2", "B3", "B4"), [ColorInterp.undefined] * 3
    bare = scan(turned, None, tmp_path / "u.parquet", unlabelled=True).manifest
    config = replace(module.config, unlabelled=str(bare.path))
    assert "bands" in DataModule(config).view_description(), "by a sensor's names"


def test_unlabelled_images_wait_for_their_share_of_the_steps(config: DataConfig, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 3, seed=50)
    other = scan(folder / "images", None, tmp_path / "u.parquet", unlabelled=True).manifest
    late = replace(config, unlabelled=str(other.path), unlabelled_share=0.5, unlabelled_from=0.5, mosaic=0.0)
    module = DataModule(late)
    module.restart(unlabelled=True, batches=20)
    seen = [sum(str(folder) in key for key in batch["key"]) for batch in batches(module, 20)]
    assert not any(seen[:10])
    assert sum(seen[10:]) > 5


class TestMistakes:
    def test_manifest_not_given_or_missing(self, config: DataConfig, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"data\.manifest is not given"):
            DataModule(replace(config, manifest=""))
        with pytest.raises(DataError, match="no manifest"):
            DataModule(replace(config, manifest=str(tmp_path / "none.parquet")))

    @pytest.mark.parametrize(
        "fields",
        [
            {"crop": 0},
            {"batch_size": 0},
            {"workers": -1},
            {"seed": -1},
            {"unlabelled_share": 1.5},
            {"unlabelled_from": -1},
            {"mosaic": 3.0},
        ],
    )
    def test_values_out_of_range(self, config: DataConfig, fields: dict[str, Any]) -> None:
        with pytest.raises(RecipeError, match=next(iter(fields))):
            DataModule(replace(config, **fields))

    def test_four_bands_for_a_three_band_model(self, config: DataConfig, tmp_path: Path) -> None:
        spec = make_spec(DataModule(config).manifest)
        folder = make_dataset(tmp_path, 3, channels=4)
        four = scan(folder, None, tmp_path / "m.parquet").manifest
        with pytest.raises(DataError, match=r"4-band images in .* for a 3-band model"):
            DataModule(replace(config, manifest=str(four.path)), spec)
        with pytest.raises(DataError, match="for a model of band1, band2, band3"):
            DataModule(replace(config, unlabelled=str(four.path)))

    def test_other_classes_than_the_model(self, config: DataConfig) -> None:
        spec = replace(make_spec(DataModule(config).manifest), legend=Legend(("x", "y", "z")))
        with pytest.raises(DataError, match="the model's: x, y, z"):
            DataModule(config, spec)
