"""KDA through `fit`: phase 1 without labels, what it leaves, its resume after a kill, and both phases in one run."""

from __future__ import annotations

import csv
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from factories import make_raster, noise
from forked import start
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.errors import GeodistillWarning, RecipeError, TrainingError
from geodistill.nn.discriminator import FeatureDiscriminator
from geodistill.nn.encoder_weights import read_weights
from geodistill.nn.encoders import build_encoder
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

pytestmark = pytest.mark.slow

PHASE: dict[str, Any] = {
    "steps": 12,
    "lr": 1e-3,
    "end_lr": 1e-5,
    "discriminator_lr": 1e-4,
    "discriminator_end_lr": 1e-6,
    "epoch_steps": 4,
    "target_norm": "standardised",
    "weighting": "uncertainty",
    "weights": {"feature": 0.5},
    "discriminator": {"form": "patch", "encoder": "test_vit", "weights": None, "width": 16},
}


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of images alone."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for index in range(4):
        make_raster(folder / "images" / f"u{index}.tif", pixels=noise((3, 80, 80), seed=index))
    scan(folder / "images", out=folder / "manifest.parquet", unlabelled=True)
    return folder / "manifest.parquet"


@pytest.fixture
def distil(unlabelled: Path, tmp_path: Path) -> Path:
    """Phase 1 alone, in seconds."""
    path = tmp_path / "distil.yaml"
    recipe = {
        "method": "kda",
        "data": {"manifest": str(unlabelled), "crop": 64, "batch_size": 4, "workers": 0},
        "network": {"encoder": "test_resnet"},
        "teacher": {"encoder": "test_vit", "weights": None},
        "losses": {"phase": PHASE},
        "trainer": {"max_steps": 0, "save_every_steps": 4, "accelerator": "cpu"},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def logged(folder: Path, column: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for path in sorted(folder.glob("csv/*/metrics.csv")):
        with path.open() as file:
            found |= {int(r["step"]): float(r[column]) for r in csv.DictReader(file) if r.get(column)}
    return found


def test_phase_1_needs_no_labels_and_leaves_an_encoder_that_phase_2_takes(
    distil: Path, town: Path, tmp_path: Path
) -> None:
    assert Manifest.load(load_recipe(distil).data.manifest).legend is None
    result = fit(load_recipe(distil), tmp_path / "run")
    assert result.segmenter == tmp_path / "run" / "encoder"
    assert (result.miou, result.steps) == (None, 12)
    weights = read_weights(result.segmenter)
    assert (weights.encoder, weights.channels) == ("test_resnet", 3)
    with pytest.raises(RecipeError, match="finished run"):
        fit(load_recipe(distil), tmp_path / "run")
    labels = {
        "method": "kda",
        "data": {"manifest": str(town), "crop": 64, "batch_size": 4, "workers": 0},
        "network": {"encoder": "test_resnet", "encoder_weights": str(result.segmenter), "decoder_channels": 16},
        "trainer": {"max_steps": 4, "val_every_steps": 4, "accelerator": "cpu"},
    }
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(labels))
    second = fit(load_recipe(tmp_path / "labels.yaml", ["--optimizer.encoder_lr", "0"]), tmp_path / "labelled")
    given = build_encoder("test_resnet", 3, result.segmenter)
    kept = dict(Segmenter.load(second.segmenter).network.network.encoder.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in given.named_parameters())


def test_phase_1_logs_both_sides(distil: Path, tmp_path: Path) -> None:
    fit(load_recipe(distil), tmp_path / "run")
    names = ("kl", "adversarial", "feature", "loss", "weight_kl", "student_diversity", "teacher_diversity", "r2")
    names += ("discriminator_accuracy", "score_spread", "gradient_student", "gradient_discriminator")
    for name in names:
        assert sorted(logged(tmp_path / "run" / "logs" / "distil", f"distil/{name}")) == [9], name
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "distil.ckpt", weights_only=True)
    assert int(checkpoint["global_step"]) == 12
    own = build_encoder("test_resnet").state_dict()
    assert {key.split("encoder.", 1)[1] for key in checkpoint["state_dict"] if "encoder." in key} == set(own)


def test_a_run_killed_in_phase_1_resumes_there(distil: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(load_recipe(distil), whole)
    process = start(["fit", "--config", distil, "--out", killed], tmp_path)
    deadline = time.monotonic() + 300
    while not (killed / "checkpoints" / "distil.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send(signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    assert not (killed / "encoder").exists()
    fit(load_recipe(distil), killed)
    assert len(list((killed / "logs" / "distil" / "csv").iterdir())) == 2
    straight, resumed = read_weights(whole / "encoder").tensors, read_weights(killed / "encoder").tensors
    assert set(straight) == set(resumed)
    for key, tensor in straight.items():
        torch.testing.assert_close(resumed[key], tensor, rtol=1e-3, atol=1e-4, msg=key)


def test_both_phases_in_one_run(distil: Path, town: Path, tmp_path: Path) -> None:
    overrides = ["--data.manifest", str(town), "--trainer.max_steps", "4", "--trainer.val_every_steps", "4"]
    overrides += ["--network.decoder_channels", "16", "--optimizer.encoder_lr", "0"]
    result = fit(load_recipe(distil, overrides), tmp_path / "run")
    learnt = read_weights(tmp_path / "run" / "encoder").tensors
    kept = Segmenter.load(result.segmenter).network.network.encoder
    assert all(torch.equal(p, learnt[name]) for name, p in kept.named_parameters())
    assert not any("discriminator" in key or "fam" in key for key in Segmenter.load(result.segmenter).state_dict())


def test_a_collapse_stops_the_run_and_says_what_to_do(distil: Path, tmp_path: Path) -> None:
    # A rate far beyond what the student bears.
    overrides = ["--losses.phase.lr", "1e6", "--losses.phase.patience", "2", "--losses.phase.target_norm", "raw"]
    with pytest.raises(TrainingError, match=r"losses\.phase\.lr"):
        fit(load_recipe(distil, overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()


def test_a_discriminator_that_says_nothing_is_told_of_once(
    distil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: FeatureDiscriminator, maps: torch.Tensor) -> torch.Tensor:
        return torch.full((len(maps), 1), 0.5) + 0 * maps.mean()

    monkeypatch.setattr(FeatureDiscriminator, "forward", silent)
    with pytest.warns(GeodistillWarning, match="scores everything alike") as told:
        fit(load_recipe(distil, ["--losses.phase.patience", "3", "--losses.phase.steps", "6"]), tmp_path / "run")
    assert len(told) == 1


def test_no_labels_and_no_phase_is_nothing_to_do(distil: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="without a phase"):
        fit(load_recipe(distil, ["--losses.phase.steps", "0"]), tmp_path / "run")
