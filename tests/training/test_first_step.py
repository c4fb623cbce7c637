"""What would stop a run at its first step is told before its folder is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geodistill.cli import main
from geodistill.data.datamodule import DataModule
from geodistill.errors import RecipeError
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

SHORT = ["--trainer.max_steps", "1", "--trainer.val_every_steps", "1", "--data.crop", "32"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["deeplabv3plus", "upernet"])
def test_a_batch_of_one_under_batch_norm(
    recipe_file: Path, tmp_path: Path, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = ["--network.encoder", "resnet18" if architecture == "deeplabv3plus" else "test_resnet"]
    run = tmp_path / "run"
    command = ["fit", "--config", str(recipe_file), "--out", str(run), *SHORT, *encoder]
    command += ["--network.architecture", architecture]
    assert main([*command, "--data.batch_size", "1"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "data.batch_size 2" in told
    assert not run.exists()
    assert main([*command, "--data.batch_size", "2"]) == 0


@pytest.mark.slow
def test_a_batch_of_one_where_nothing_is_normalised_over_one_value(recipe_file: Path, tmp_path: Path) -> None:
    flags = [*SHORT, "--data.batch_size", "1", "--data.crop", "64"]
    recipe = load_recipe(recipe_file, flags)
    assert fit(recipe, tmp_path / "run").steps == 1
    # The trial forward pass changes nothing: running statistics are as if it had not been.
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    counts = {int(value) for key, value in state.items() if key.endswith("num_batches_tracked")}
    assert counts == {1}


@pytest.mark.slow
def test_a_batch_of_one_under_self_training(recipe_file: Path, town: Path, tmp_path: Path) -> None:
    flags = [*SHORT, "--data.batch_size", "1", "--data.crop", "64", "--trainer.max_steps", "2"]
    flags += ["--data.unlabelled", str(town), "--data.unlabelled_share", "1", "--losses.weights.pseudo", "1"]
    flags += ["--trainer.ema", "0.9"]
    recipe = load_recipe(recipe_file, [*flags, "--teacher.segmenter", "student"])
    data = DataModule(recipe.data, seed=recipe.trainer.seed)
    data.restart(unlabelled=True, plain=True)
    pixels = sum(int(data.crops[draw]["valid"].sum()) for draw in (0, 1))
    result = fit(recipe, tmp_path / "run")
    (line, *_) = Segmenter.load(result.segmenter).provenance["notes"]
    assert line.startswith(f"self-training used 100.0 % of {pixels:,} pixels without labels")  # of the steps alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--network.architecture", "fpn", "--network.decoder_channels", "16"], "a multiple of 32"),
        (["--network.architecture", "fpn", "--network.decoder_channels", "100"], "a multiple of 32"),
        (["--network.architecture", "unet", "--network.decoder_channels", "0"], "at least 1"),
        (["--network.architecture", "upernet", "--network.decoder_channels", "-4"], "at least 1"),
    ],
)
def test_sizes_that_a_library_refuses(recipe_file: Path, tmp_path: Path, flags: list[str], says: str) -> None:
    flags += ["--network.encoder", "resnet18"]
    with pytest.raises(RecipeError, match=says):
        fit(load_recipe(recipe_file, flags), tmp_path / "run")
    assert not (tmp_path / "run").exists()
