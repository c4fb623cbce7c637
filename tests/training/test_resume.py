"""Killed at any moment, a run that is taken up again ends as one that nobody stopped."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.methods.schema import Recipe
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from geodistill.training.resume import SafeCheckpointIO
from killed_fit import fit_killed, left

pytestmark = pytest.mark.slow

KEYS: dict[str, dict[str, Any]] = {
    "trainer": {
        "max_steps": 12,
        "val_every_steps": 4,
        "save_every_steps": 3,
        "accelerator": "cpu",
        "pictures": 1,
        "seed": 5,
    },
    "optimizer": {"lr": 0.02},
    "schedule": {"kind": "constant"},
}
"""Steps 3, 6 and 9 are saved, 4, 8 and 12 validated; of these 8 is the best."""


@pytest.fixture(scope="module")
def small(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("small") / "recipe.yaml"
    data = {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0}
    network = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8, "style_noise": 0.5}
    path.write_text(yaml.safe_dump({"method": "supervised", "data": data, "network": network, **KEYS}))
    return load_recipe(path)


@pytest.fixture(scope="module")
def whole(small: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    result = fit(small, run)
    assert result.step == 8
    return run


# Writes: 3, weights of 4, 4, 6, weights of 8, 8, 9, 12.
@pytest.mark.parametrize(("write", "moment"), [(1, "before"), (5, "in"), (6, "after")])
def test_a_killed_run_ends_as_an_uninterrupted_one(
    small: Recipe, whole: Path, tmp_path: Path, write: int, moment: str
) -> None:
    run = tmp_path / "run"
    assert fit_killed(small, run, write, moment)
    assert not (run / "segmenter").exists()
    fit(small, run)
    assert left(run) == left(whole)
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []


# Writes: 3, weights of 4, 4, 6, weights of 8, 8, 9, 10 and, before it, perhaps its weights.
@pytest.mark.parametrize(("write", "moment"), [(7, "after"), (8, "in"), (8, "after")])
def test_a_run_killed_about_a_last_step_that_is_validated_as_the_last_ends_as_an_uninterrupted_one(
    small: Recipe, tmp_path: Path, write: int, moment: str
) -> None:
    recipe = replace(small, trainer=replace(small.trainer, max_steps=10))
    fit(recipe, tmp_path / "whole")
    assert fit_killed(recipe, tmp_path / "run", write, moment)
    fit(recipe, tmp_path / "run")
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    rows = left(tmp_path / "run")["rows"]
    assert sorted(step for _, step, name in rows if name == "val/miou") == [3, 7, 9]


def test_patience_that_had_ended_stays_ended(small: Recipe, tmp_path: Path) -> None:
    recipe = replace(small, trainer=replace(small.trainer, patience=1, max_steps=40))
    straight = fit(recipe, tmp_path / "whole")
    assert (straight.step, straight.steps) == (8, 12)
    assert fit_killed(recipe, tmp_path / "run", 8, "after")  # saved, and not yet told to stop
    resumed = fit(recipe, tmp_path / "run")
    assert (resumed.step, resumed.steps) == (8, 12)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_the_score_is_that_of_the_best_validation(whole: Path) -> None:
    rows = left(whole)["rows"]
    scores = {step: float(value) for (_, step, name), value in rows.items() if name == "val/miou"}
    provenance = Segmenter.load(whole / "segmenter").provenance
    assert sorted(scores) == [3, 7, 11]
    assert provenance["scores"]["validation_miou"] == pytest.approx(max(scores.values()), abs=1e-6)
    assert scores[provenance["step"] - 1] == max(scores.values())


PHASES: dict[str, dict[str, Any]] = {
    "ktda": {
        "network": {"encoder": "test_resnet", "decode_from": "encoder", "align": "none", "decoder": "unet"}
        | {"encoder_weights": None, "decoder_channels": 16},
        "teacher": {"encoder": "test_resnet", "weights": None},
        "losses": {"target_norm": "standardised", "weights": {"kt_mse": 0.5}}
        | {"phase": {"steps": 4, "lr": 0.01, "forced": 0.5}},
    },
    "kda": {
        "network": {"encoder": "test_resnet"},
        "teacher": {"encoder": "test_vit", "weights": None},
        "losses": {
            "phase": {"steps": 4, "lr": 1e-3, "target_norm": "standardised", "weights": {"feature": 0.5}}
            | {"discriminator": {"form": "patch", "encoder": "test_vit", "weights": None, "width": 16}},
        },
    },
}


@pytest.mark.parametrize("method", PHASES)
def test_a_run_killed_in_its_phase_and_after_it_ends_as_an_uninterrupted_one(
    town: Path, tmp_path: Path, method: str
) -> None:
    path = tmp_path / "recipe.yaml"
    data = {"manifest": str(town), "crop": 64, "batch_size": 2, "workers": 0}
    trainer = KEYS["trainer"] | {"max_steps": 4, "val_every_steps": 2}
    path.write_text(yaml.safe_dump({"method": method, "data": data, "trainer": trainer} | PHASES[method]))
    recipe = load_recipe(path)
    fit(recipe, tmp_path / "whole")
    # The phase is saved at its steps 3 and 4, before the weights of validations.
    assert fit_killed(recipe, tmp_path / "run", 1, "after")
    assert fit_killed(recipe, tmp_path / "run", 1, "in")
    assert fit_killed(recipe, tmp_path / "run", 2, "after")
    fit(recipe, tmp_path / "run")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.parametrize("number", range(1, 10))
def test_ctrl_c_while_a_checkpoint_is_written_is_ctrl_c(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch's writer makes of it; the file that was there stays."""
    path, opened, writes = tmp_path / "last.ckpt", Path.open, [0]
    keeper = SafeCheckpointIO("a run")
    keeper.save_checkpoint({"global_step": 1}, path)
    old = path.read_bytes()

    class Stopped(io.BufferedWriter):
        def write(self, data: Any) -> int:
            writes[0] += 1
            if writes[0] == number:
                raise KeyboardInterrupt
            return super().write(data)

    def open_stopped(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Stopped(io.FileIO(self, "wb")) if mode == "wb" else opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_stopped)
    with pytest.raises(KeyboardInterrupt):
        keeper.save_checkpoint({"a": torch.zeros(1000), "b": torch.zeros(5000), "global_step": 2}, path)
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == {path: old}
