"""The temperature of a trained model: found where it is known, kept, and classes stay as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geodistill.data.datamodule import DataModule
from geodistill.description import check_class_sets, check_temperature
from geodistill.errors import ArtifactError, RecipeError
from geodistill.inference.sliding import STEPS
from geodistill.segmenter import Segmenter
from geodistill.training.calibration import best_temperature, class_set_thresholds, fit_class_sets
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(40_000, 4)
    classes = torch.multinomial(logits.softmax(1), 1)[:, 0]  # so that these logits are right as they are
    assert best_temperature(temperature * logits, classes) == pytest.approx(temperature, rel=0.04)


def test_logits_that_say_nothing_or_are_always_right_end_at_a_bound() -> None:
    logits = torch.randn(100, 3)
    assert best_temperature(logits, logits.argmin(1)) == pytest.approx(20, rel=1e-6)
    assert best_temperature(logits, logits.argmax(1)) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), "2", True])
def test_temperatures_that_cannot_be_used(temperature: float) -> None:
    with pytest.raises(ArtifactError, match=r"temperature .*; expected a number from 0.1 to 20"):
        check_temperature(temperature, "a model")


def test_class_sets_hold_the_true_class_on_further_images_as_often_as_stated() -> None:
    """Images differ much, and pixels of one are alike: what is stated holds on average over images all the same."""
    rng = np.random.default_rng(0)
    shares_held = []
    for _ in range(60):
        hard = rng.beta(2, 2, 80)  # of each image: its pixels' true classes get about this probability
        counts = np.array([np.bincount(rng.binomial(STEPS, h, 300), minlength=STEPS + 1) for h in hard])
        stated = class_set_thresholds(counts[:40])
        assert list(stated) == ["0.8", "0.9", "0.95"]  # 40 images cannot state 0.99
        shares = counts[40:] / 300
        shares_held.append([shares[:, round(STEPS * stated[c]) :].sum(1).mean() for c in stated])
    mean, error = np.mean(shares_held, 0), np.std(shares_held, 0) / 60**0.5
    assert (mean >= np.array([0.8, 0.9, 0.95]) - 3 * error).all()
    assert (mean <= np.array([0.8, 0.9, 0.95]) + 1 / 41 + 0.02).all()  # and the sets are no larger than they must be


def test_class_sets_of_few_images() -> None:
    sure = np.zeros((4, STEPS + 1), np.int64)
    sure[:, STEPS] = 9
    assert class_set_thresholds(sure) == {"0.8": 1.0}
    assert class_set_thresholds(sure[:3]) == class_set_thresholds(sure[:0]) == {}


@pytest.mark.parametrize("stated", [{"0.5": 0.2}, {"0.9": 2}, {"0.9": "x"}, [0.9]])
def test_class_sets_that_cannot_be_used(stated: object) -> None:
    with pytest.raises(ArtifactError, match="a model with class sets"):
        check_class_sets(stated, "a model")


@pytest.mark.slow
def test_a_run_fits_it_to_its_validation_images_and_the_model_keeps_it(town: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        {
            "method": "supervised",
            "data": {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0},
            "network": {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8},
            "trainer": {"max_steps": 3, "accelerator": "cpu", "pictures": 0},
        }
    )
    fit(recipe, tmp_path / "plain")
    fit(replace(recipe, trainer=replace(recipe.trainer, calibrate=True)), tmp_path / "run")
    plain, model = Segmenter.load(tmp_path / "plain"), Segmenter.load(tmp_path / "run")
    assert model.temperature != 1
    assert model.fingerprint() != plain.fingerprint()
    assert model.class_sets == fit_class_sets(model, DataModule(recipe.data, seed=0).val_dataloader(), "cpu")

    data = DataModule(recipe.data, seed=0)
    batches = list(data.val_dataloader())
    mask = torch.cat([batch["mask"] for batch in batches]).long()
    with torch.no_grad():
        before, after = (torch.cat([each(batch["image"]) for batch in batches]) for each in (plain, model))
    torch.testing.assert_close(after * model.temperature, before)
    # No other temperature of a fine grid explains the labels better.
    tried = torch.linspace(0.11, 19, 400).tolist()
    least = min(float(F.cross_entropy(before / t, mask, ignore_index=255)) for t in tried)
    assert float(F.cross_entropy(after, mask, ignore_index=255)) <= least + 1e-4


def test_without_validation_images_there_is_nothing_to_fit_it_to(town: Path, tmp_path: Path) -> None:
    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(town)
    rows = [row for row in manifest.entries if row.split != "val"]
    replace(manifest, entries=rows).save(tmp_path / "few.parquet")
    keys = {"data.manifest": str(tmp_path / "few.parquet"), "trainer.calibrate": True, "trainer.accelerator": "cpu"}
    with pytest.raises(RecipeError, match=r"trainer.calibrate without validation images"):
        fit(load_recipe({"method": "supervised"}, keys), tmp_path / "run")
