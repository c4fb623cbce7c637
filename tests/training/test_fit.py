"""Training runs: what they leave, how they resume, what stops them."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from forked import start
from geodistill.cli import main
from geodistill.errors import OutputError, RecipeError, TrainingError
from geodistill.methods.task import SegmentationTask
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.folder import run_identity
from geodistill.training.recipe import load_recipe
from geodistill.training.resume import read_checkpoint, saved_step
from killed_fit import fit_killed

pytestmark = pytest.mark.slow


def losses(run: Path) -> dict[int, float]:
    """Training loss by step over every part of a run; a resumed part wins over what it repeats."""
    found: dict[int, float] = {}
    for path in sorted((run / "logs" / "csv").glob("*/metrics.csv")):
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
        found |= {int(row["step"]): float(row["train/loss"]) for row in rows}
    return found


@pytest.fixture(scope="module")
def trained(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "plain"
    flags = ["--data.manifest", str(town), "--data.crop", "64", "--data.batch_size", "4", "--data.workers", "0"]
    flags += ["--network.architecture", "unet", "--network.encoder", "test_resnet", "--optimizer.lr", "2e-3"]
    flags += ["--trainer.max_steps", "60", "--trainer.val_every_steps", "20", "--trainer.accelerator", "cpu"]
    fit(load_recipe(None, flags), run)
    return run


def test_a_run_leaves_a_segmenter_that_has_learned(trained: Path) -> None:
    segmenter = Segmenter.load(trained / "segmenter")
    assert segmenter.provenance["scores"]["validation_miou"] > 0.6
    assert segmenter.provenance["recipe"]["network"]["encoder"] == "test_resnet"
    bright = torch.full((1, 3, 64, 64), 175.0)
    assert segmenter(bright).argmax(1).float().mean() > 0.5
    assert (trained / "recipe.yaml").is_file()
    assert list((trained / "logs" / "tensorboard").rglob("events*"))
    assert list((trained / "pictures").glob("*.png"))
    assert min(losses(trained).values()) < 0.5 * max(losses(trained).values())


def test_a_finished_run_and_another_recipe_are_refused(trained: Path) -> None:
    recipe = load_recipe(trained / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"finished run.*--restart \(restart=True in Python\)"):
        fit(recipe, trained)
    with pytest.raises(RecipeError, match="another recipe"):
        fit(load_recipe(trained / "recipe.yaml", ["--trainer.seed", "7"]), trained)


def test_a_folder_that_is_no_run_is_left_alone(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds no run"):
        fit(load_recipe(recipe_file), folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flags", "looks"),
    [
        (["--trainer.max_steps", "6"], [4, 6]),
        (["--trainer.max_steps", "8"], [4, 8]),
        (["--trainer.max_steps", "3", "--trainer.accumulate", "2"], [3]),
        (["--trainer.max_steps", "6", "--trainer.max_hours", "1e-9"], [1]),
    ],
)
def test_the_last_step_is_validated_once_and_kept_where_it_is_the_best(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], looks: list[int]
) -> None:
    steps: list[int] = []

    def rising(task: SegmentationTask, confusions: object) -> dict[str, tuple[float, float]]:
        steps.append(task.global_step)
        return {"": (0.01 * task.global_step, 0.5)}

    monkeypatch.setattr(SegmentationTask, "_measured", rising)
    recipe = load_recipe(recipe_file, ["--data.crop", "32", "--trainer.val_every_steps", "4", *flags])
    result = fit(recipe, tmp_path / "run")
    assert steps == looks
    assert (result.step, result.steps, result.miou) == (looks[-1], looks[-1], pytest.approx(0.01 * looks[-1]))
    last = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt", run_identity(recipe, tmp_path / "run"))
    assert last["global_step"] == looks[-1]
    for name, value in Segmenter.load(result.segmenter).network.network.state_dict().items():
        assert torch.equal(value, last["state_dict"][f"network.network.{name}"]), name


def test_a_killed_run_resumes_to_the_losses_of_an_uninterrupted_one(recipe_file: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["trainer"] |= {"max_steps": 8, "val_every_steps": 4, "save_every_steps": 2}
    recipe_file.write_text(yaml.safe_dump(recipe))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(load_recipe(recipe_file), whole)

    assert fit_killed(load_recipe(recipe_file), killed, 2, "after")
    assert saved_step(killed / "checkpoints" / "last.ckpt", run_identity(load_recipe(recipe_file), killed)) > 0
    assert not (killed / "segmenter").exists()
    fit(load_recipe(recipe_file), killed)
    assert len(list((killed / "logs" / "csv").iterdir())) == 2
    straight, resumed = losses(whole), losses(killed)
    assert set(straight) == set(resumed)
    for step, loss in resumed.items():
        assert loss == pytest.approx(straight[step], rel=1e-3), step
    first = Segmenter.load(whole / "segmenter")(torch.full((1, 3, 64, 64), 100.0))
    second = Segmenter.load(killed / "segmenter")(torch.full((1, 3, 64, 64), 100.0))
    torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-2)


def test_ctrl_c_ends_with_130_and_leaves_no_segmenter(recipe_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = ["--trainer.max_steps", "100000", "--trainer.val_every_steps", "100000"]
    process = start(["fit", "--config", recipe_file, "--out", run, *endless], tmp_path)
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send(signal.SIGINT)
    done = process.wait()
    assert done.status == 130
    assert done.err.strip().splitlines()[-1] == "geodistill: stopped"
    assert "Traceback" not in done.err
    assert not (run / "segmenter").exists()


def test_a_loss_that_is_not_finite_names_the_term_and_the_samples(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file, ["--optimizer.lr", "1e30"])
    with pytest.raises(TrainingError, match=r"'ce' is nan at step \d+ on .*t\d\.tif"):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "segmenter").exists()


def test_the_terminal_stays_quiet(recipe_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "geodistill", "fit", "--config", str(recipe_file), "--out", str(tmp_path / "r")]
    command += ["--trainer.max_steps", "4", "--trainer.val_every_steps", "2"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "validation mIoU" in done.stdout


def test_without_a_validation_split_the_last_weights_are_kept(town: Path, recipe_file: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(town)
    rows = tuple(row for row in manifest.entries if row.split != "val")
    replace(manifest, entries=rows).save(tmp_path / "few.parquet")
    flags = ["--data.manifest", str(tmp_path / "few.parquet"), "--trainer.max_steps", "5"]
    result = fit(load_recipe(recipe_file, flags), tmp_path / "run")
    assert result.miou is None
    assert result.step == 5
    assert Segmenter.load(result.segmenter).spec.classes == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--network.encoder", "resnet5O"], "resnet50"),
        (["--data.manifest", "nowhere.parquet"], "no manifest nowhere.parquet"),
        (["--data.crop", "0"], "data.crop 0"),
    ],
)
def test_mistakes_end_with_status_2_and_write_nothing(
    recipe_file: Path, tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", str(recipe_file), "--out", str(run), *flags]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not run.exists()


def test_a_run_that_no_longer_improves_stops_early(recipe_file: Path, tmp_path: Path) -> None:
    flags = ["--optimizer.lr", "0", "--trainer.patience", "2"]
    flags += ["--trainer.max_steps", "400", "--trainer.val_every_steps", "4"]
    result = fit(load_recipe(recipe_file, flags), tmp_path / "run")
    assert result.steps < 400
    assert result.step <= result.steps - 2 * 4


def test_mixed_precision_trains(recipe_file: Path, tmp_path: Path) -> None:
    flags = ["--trainer.precision", "bf16-mixed", "--trainer.pictures", "0", "--trainer.val_every_steps", "30"]
    recipe = load_recipe(recipe_file, [*flags, "--data.crop", "32"])
    result = fit(recipe, tmp_path / "run")
    assert result.miou is not None
    assert result.miou > 0.3
    state = Segmenter.load(result.segmenter).state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert not (tmp_path / "run" / "pictures").exists()
