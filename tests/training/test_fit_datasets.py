"""A recipe is fitted to datasets of dicts with TorchGeo's keys, and what comes out is scored on another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.errors import RecipeError
from geodistill.evaluation.evaluate_datasets import evaluate_dataset
from geodistill.methods.schema import Recipe
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from map_style import Towns

pytestmark = pytest.mark.slow

LEGEND = Legend(("ground", "building"))


def recipe(*flags: str) -> Recipe:
    small = "--network.encoder test_resnet --network.decoder_channels 16 --optimizer.lr 2e-3 --trainer.max_steps 24"
    calm = "--trainer.accelerator cpu --trainer.pictures 0 --trainer.val_every_steps 24"
    return load_recipe("supervised-folder", [*small.split(), *calm.split(), *flags])


def datasets(count: int = 6) -> DataModule:
    config = DataConfig(crop=32, batch_size=4, workers=0)
    return DataModule.of_datasets(Towns(count), Towns(2, seed=9), LEGEND, config, bands=("red", "green", "blue"))


def test_a_recipe_is_fitted_to_datasets_and_scored_on_another(tmp_path: Path) -> None:
    result = fit(recipe(), tmp_path / "run", data=datasets())
    segmenter = Segmenter.load(result.segmenter).eval()
    assert result.miou is not None
    assert (result.step, segmenter.tile, segmenter.spec.bands) == (24, 32, ("red", "green", "blue"))
    assert segmenter.spec.legend.names == ("ground", "building")
    scores = evaluate_dataset(segmenter, Towns(3, seed=7))
    assert int(scores.support.sum()) == 3 * 38 * 40
    assert scores.miou > 0.5


def test_a_stopped_run_goes_on_with_the_same_items_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("--trainer.save_every_steps", "1")
    stopped = 3

    class Stopping(Towns):
        calls = 0

        def __getitem__(self, index: int) -> dict[str, Any]:
            Stopping.calls += 1
            if Stopping.calls > 6 + 4 * stopped:  # measured once, then a batch of four each step
                raise KeyboardInterrupt
            return super().__getitem__(index)

    data = DataModule.of_datasets(Stopping(6), Towns(2, seed=9), LEGEND, datasets().config)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(*short), tmp_path / "run", data=data)
    with pytest.raises(RecipeError, match=r"a dataset \(data\) has changed since the run in .* began"):
        fit(recipe(*short), tmp_path / "run", data=datasets(7))
    result = fit(recipe(*short), tmp_path / "run", data=datasets())
    whole = fit(recipe(*short), tmp_path / "whole", data=datasets())
    weights = [Segmenter.load(each.segmenter).state_dict() for each in (result, whole)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[1])


@pytest.mark.parametrize("change", [{"unlabelled": "town.parquet"}, {"fraction": 0.5}])
def test_what_is_of_a_manifest_alone_is_refused(change: dict[str, Any]) -> None:
    config = replace(datasets().config, **change)
    with pytest.raises(RecipeError, match=f"data.{next(iter(change))} with datasets of tensors; expected a manifest"):
        DataModule.of_datasets(Towns(6), None, LEGEND, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": 2}, "trainer.devices 2 with datasets of tensors; expected a manifest, or 1"),
        ({}, "teacher.cache with datasets of tensors; expected a manifest"),
    ],
)
def test_what_needs_a_manifest_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    asked = recipe() if change else recipe("--teacher.cache", str(tmp_path / "cache"))
    asked = replace(asked, trainer=replace(asked.trainer, **change))
    with pytest.raises(RecipeError, match=message):
        fit(asked, tmp_path / "run", data=datasets())
    assert not (tmp_path / "run").exists()
