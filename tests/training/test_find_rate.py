"""The learning-rate range test, and the batch size that is found by trying."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.cli import main
from geodistill.errors import RecipeError, TrainingError
from geodistill.methods.ktda.transfer import TransferTask
from geodistill.methods.task import SegmentationTask
from geodistill.training import batch_size, find_rate
from geodistill.training.batch_size import largest_batch
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

SMALL = ["--network.architecture", "fcn", "--network.decoder_channels", "8", "--data.crop", "32"]


@pytest.mark.slow
def test_a_range_test_writes_its_picture_and_proposes_a_rate(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_rate, "STEPS", 25)
    picture = tmp_path / "rates.png"
    command = ["fit", "--config", str(recipe_file), "--find-rate", str(picture), "--data.batch_size", "2", *SMALL]
    assert main(command) == 0
    flag, value = capsys.readouterr().out.split()
    assert flag == "--optimizer.lr"
    assert 1e-6 <= float(value) <= 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("*/segmenter")) == []


@pytest.mark.slow
def test_rates_grow_by_one_factor_and_keep_the_encoders_ratio(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_rate, "STEPS", 4)
    monkeypatch.setattr(find_rate, "DIVERGED", 1e9)
    monkeypatch.setattr(find_rate, "propose_rate", lambda rates, losses: 0.1)
    seen: list[list[float]] = []
    start = find_rate.GrowingRate.on_train_batch_start

    def watched(self: find_rate.GrowingRate, trainer, pl_module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        start(self, trainer, pl_module, batch, batch_idx)
        seen.append(sorted({group["lr"] for group in trainer.optimizers[0].param_groups}))

    monkeypatch.setattr(find_rate.GrowingRate, "on_train_batch_start", watched)
    recipe = load_recipe(recipe_file, [*SMALL, "--optimizer.lr", "1e-3", "--optimizer.encoder_lr", "1e-4"])
    result = find_rate.find_rate(recipe, tmp_path / "rates.png")
    assert [pair[1] for pair in seen] == pytest.approx([1e-6, 1e-4, 1e-2, 1])
    assert [pair[0] for pair in seen] == pytest.approx([1e-7, 1e-5, 1e-3, 0.1])
    assert result.rates == pytest.approx((1e-6, 1e-4, 1e-2, 1))


def test_the_proposal_is_a_tenth_of_the_rate_of_the_least_loss_and_there_is_none_where_nothing_is_learnt() -> None:
    assert find_rate.propose_rate([1e-4, 1e-3, 1.234e-2, 0.1], [1.0, 0.8, 0.5, 3.0]) == pytest.approx(1.2e-3)
    with pytest.raises(TrainingError, match="falls at no rate"):
        find_rate.propose_rate([1e-4, 1e-3], [1.0, 0.999])


@pytest.mark.parametrize(("room", "most", "expected"), [(2, 256, 2), (7, 256, 4), (64, 256, 64), (999, 32, 32)])
def test_the_largest_batch_is_the_last_power_of_two_that_fits(room: int, most: int, expected: int) -> None:
    tried: list[int] = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= room

    assert largest_batch(fits, most) == expected
    assert len(tried) == len(set(tried))
    with pytest.raises(RecipeError, match="does not fit"):
        largest_batch(lambda count: False)


@pytest.mark.filterwarnings("ignore")
def test_what_is_tried_is_a_step_of_all_that_the_run_trains(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"encoder": "test_resnet", "encoder_weights": None, "decode_from": "encoder", "decoder": "unet"}
    recipe = load_recipe(
        {
            "method": "ktda",
            "data": {"manifest": str(town), "crop": 32, "batch_size": "auto"},
            "network": keys | {"decoder_channels": 16},
            "teacher": {"encoder": "test_resnet", "weights": None},
            "losses": {"phase": {"steps": 2}},
        }
    )
    sizes: list[int] = []
    for task in (TransferTask, SegmentationTask):
        train = task.training_step

        def watched(self: Any, batch: Any, index: int, train: Any = train) -> torch.Tensor:
            sizes.append(len(batch["image"]))
            return train(self, batch, index)  # type: ignore[no-any-return]

        monkeypatch.setattr(task, "training_step", watched)
    batch_size.one_step(recipe, torch.device("cpu"))(3)
    assert sizes == [3, 3]


@pytest.mark.slow
def test_on_a_cpu_auto_is_the_default_and_a_run_that_goes_on_keeps_its_number(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*SMALL, "--data.batch_size", "auto", "--trainer.max_steps", "2", "--trainer.val_every_steps", "1"]
    recipe = load_recipe(recipe_file, [*flags, "--trainer.pictures", "0"])
    monkeypatch.setattr(batch_size, "BATCH_SIZE", 2)
    run = tmp_path / "run"
    fit(recipe, run)
    assert "data.batch_size 2: the default on a CPU" in capsys.readouterr().err
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["batch_size"] == 2
    monkeypatch.setattr(batch_size, "BATCH_SIZE", 4)
    for path in (run / "segmenter").iterdir():
        path.unlink()
    (run / "segmenter").rmdir()
    fit(recipe, run)
    assert "data.batch_size 2: as this run began" in capsys.readouterr().err
