"""The Trainer: what a run logs, and the precision of one that may choose."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from geodistill.errors import RecipeError
from geodistill.methods.schema import TrainerConfig
from geodistill.training import trainer
from geodistill.training.find_rate import find_rate
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from geodistill.training.trainer import check_accelerator, choose_precision, cpu_has_bfloat16_tiles, run_loggers


class Killed(BaseException):
    pass


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "from_000000" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_kill_while_a_column_is_added_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = run_loggers(tmp_path, 0)
    for step in range(3):
        rows.log_metrics({"loss": float(step)}, step)

    def killed(self: Path, target: Path) -> None:
        raise Killed

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        rows.log_metrics({"miou": 0.5}, 3)
    assert [row["loss"] for row in rows_of(tmp_path)] == ["0.0", "1.0", "2.0"]


def test_a_column_more(tmp_path: Path) -> None:
    rows, _ = run_loggers(tmp_path, 0)
    rows.log_metrics({"loss": 1.0}, 0)
    rows.log_metrics({"miou": 0.5}, 1)
    assert rows_of(tmp_path) == [
        {"loss": "1.0", "miou": "", "step": "0"},
        {"loss": "", "miou": "0.5", "step": "1"},
    ]


@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed", "16-mixed"])
def test_what_is_asked_for_is_taken(asked: str) -> None:
    assert choose_precision(asked, "cpu") == asked


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_processor_takes_bfloat16_where_it_has_a_unit_for_it(
    able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "cpu_has_bfloat16_tiles", lambda: able)
    assert choose_precision("auto", "cpu") == expected
    assert choose_precision("auto", "mps") == "32-true"


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps", "gpux", "tpu"])
def test_an_accelerator_that_this_machine_lacks_is_one_line_before_anything_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", lambda: False)
    recipe = load_recipe("student", {"trainer.accelerator": name, "data.manifest": "missing.parquet"})
    message = f"trainer.accelerator '{name}' on this machine; expected one of auto, cpu"
    with pytest.raises(RecipeError, match=message):
        fit(recipe, tmp_path / "run")
    with pytest.raises(RecipeError, match=message):
        find_rate(recipe, tmp_path / "rate.png")
    assert not list(tmp_path.iterdir())


def test_more_devices_than_there_are_are_refused_and_processes_on_a_cpu_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", lambda: 1)
    check_accelerator(TrainerConfig(accelerator="cpu", devices=4))
    for name in ("auto", "gpu", "cuda"):
        check_accelerator(TrainerConfig(accelerator=name))
        with pytest.raises(RecipeError, match=r"trainer\.devices 2 on this machine; expected at most 1"):
            check_accelerator(TrainerConfig(accelerator=name, devices=2))
    with pytest.raises(RecipeError, match=r"trainer\.devices 0; expected at least 1"):
        check_accelerator(TrainerConfig(accelerator="cpu", devices=0))


def test_the_processor_s_own_account_agrees() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    if "flags" not in flags:
        pytest.skip("not an x86 Linux")
    assert cpu_has_bfloat16_tiles() == ("amx_tile" in flags)


@pytest.mark.slow
def test_a_run_in_bfloat16_keeps_weights_in_32_bits(town: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        {
            "method": "supervised",
            "data": {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0},
            "network": {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8},
            "trainer": {"max_steps": 2, "val_every_steps": 2, "pictures": 0, "accelerator": "cpu", "ema": 0.9},
        }
    )
    fit(replace(recipe, trainer=replace(recipe.trainer, precision="bf16-mixed")), tmp_path / "run")
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for value in saved.values() if value.is_floating_point()} == {torch.float32}
    assert all(bool(value.isfinite().all()) for value in saved.values())
