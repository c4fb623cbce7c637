"""Killed at any moment, a run that is taken up again ends as one that nobody stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from geodistill.training.schema import Recipe
from killed_fit import MOMENTS, fit_killed, left

KEYS = {
    "trainer": {"max_steps": 12, "val_every_steps": 4, "save_every_steps": 3, "accelerator": "cpu", "pictures": 1},
    "optimizer": {"lr": 0.05},
}
"""Steps 3, 6 and 9 are saved, 4, 8 and 12 validated; the rate is so high that the last weights are not the best."""


@pytest.fixture(scope="module")
def small(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("small") / "recipe.yaml"
    data = {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0}
    network = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8}
    path.write_text(yaml.safe_dump({"method": "supervised", "data": data, "network": network, **KEYS}))
    return load_recipe(path)


@pytest.fixture(scope="module")
def whole(small: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    result = fit(small, run)
    assert result.step < 12, "the best validation is not the last"
    return run


# Writes: 3, best of 4, 4, 6, then best of 8 where it is, 8, 9, best of 12 where it is, 12.
@pytest.mark.parametrize(("write", "moment"), [(2, "before"), (3, "before"), (3, "in"), (3, "after"), (4, "after")])
def test_a_killed_run_ends_as_an_uninterrupted_one(
    small: Recipe, whole: Path, tmp_path: Path, write: int, moment: str
) -> None:
    run = tmp_path / "run"
    assert fit_killed(small, run, write, moment)
    assert not (run / "segmenter").exists()
    fit(small, run)
    assert left(run) == left(whole)
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_run_killed_again_and_again_ends_as_an_uninterrupted_one(small: Recipe, whole: Path, tmp_path: Path) -> None:
    run, kills = tmp_path / "run", 0
    while kills < 20 and fit_killed(small, run, 2, MOMENTS[kills % 3]):
        kills += 1
    assert kills > 3
    assert left(run) == left(whole)


def test_patience_that_had_ended_stays_ended(small: Recipe, tmp_path: Path) -> None:
    # A rate of 0: no validation is better than the first, so the second ends the run.
    recipe = replace(
        small, optimizer=replace(small.optimizer, lr=0.0), trainer=replace(small.trainer, patience=1, max_steps=40)
    )
    straight = fit(recipe, tmp_path / "whole")
    assert (straight.step, straight.steps) == (4, 8)
    assert fit_killed(recipe, tmp_path / "run", 5, "after")  # 3, best of 4, 4, 6 and 8
    resumed = fit(recipe, tmp_path / "run")
    assert (resumed.step, resumed.steps) == (4, 8)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_the_score_is_that_of_the_best_validation(whole: Path) -> None:
    rows = left(whole)["rows"]
    scores = {step: float(value) for (_, step, name), value in rows.items() if name == "val/miou"}
    provenance = Segmenter.load(whole / "segmenter").provenance
    assert sorted(scores) == [3, 7, 11]
    assert provenance["scores"]["validation_miou"] == pytest.approx(max(scores.values()), abs=1e-6)
    assert scores[provenance["step"] - 1] == max(scores.values())
