"""Distillation through `fit`: a Segmenter teaches a student, its outputs are kept, and what can go wrong on the way."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.cli import main
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.errors import GeodistillWarning, RecipeError
from geodistill.methods.method import BuildContext, Method
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method, open_caches, teacher_configs
from geodistill.training.fit import fit
from geodistill.training.recipe import list_recipes, load_recipe
from geodistill.training.segmenter_teacher import SegmenterTeacher

pytestmark = pytest.mark.slow

SLOTS = 12
"""Three training images of 96 x 96, two samples of 64 x 64 each, two views of each."""


def teach(town: Path, path: Path, names: tuple[str, ...] = ("building", "ground"), seed: int = 0) -> Path:
    """Save a Segmenter with random weights for the town's images, its classes in another order."""
    torch.manual_seed(seed)
    spec = DataModule(DataConfig(str(town), crop=64)).spec
    own = Spec(Legend(names), spec.bands, spec.mean, spec.std)
    Segmenter("supervised", {"architecture": "unet", "encoder": "test_resnet"}, own, 64, {}).save(path)
    return path


@pytest.fixture
def recipe(town: Path, tmp_path: Path) -> Path:
    """A student under a Segmenter with a cache, for two passes over every view."""
    trainer = {"max_steps": 6, "val_every_steps": 6, "save_every_steps": 3, "accelerator": "cpu", "pictures": 0}
    data = {"manifest": str(town), "crop": 64, "batch_size": 4, "workers": 0, "seed": 5, "max_class_ratio": 0.99}
    teacher = {"segmenter": str(teach(town, tmp_path / "teacher")), "cache": str(tmp_path / "cache"), "views": 2}
    path = tmp_path / "student.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "supervised",
                "data": data,
                "network": {"architecture": "unet", "encoder": "test_resnet"},
                "losses": {"weights": {"kd": 1.0, "feature": 0.5}},
                "teacher": teacher,
                "trainer": trainer,
            }
        )
    )
    return path


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images that Segmenters as teachers look at."""
    counts: list[int] = []
    look = SegmenterTeacher._outputs

    def count(self: SegmenterTeacher, image: torch.Tensor) -> Any:
        counts.append(len(image))
        return look(self, image)

    monkeypatch.setattr(SegmenterTeacher, "_outputs", count)
    return counts


def test_the_teacher_sees_each_view_once_and_leaves_nothing_in_the_student(
    recipe: Path, town: Path, tmp_path: Path, looked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    result = fit(load_recipe(recipe), tmp_path / "run")
    assert sum(looked) == SLOTS
    told = capsys.readouterr().err
    assert f"{SLOTS} views of " in told
    assert "0 are there" in told
    keys = set(Segmenter.load(result.segmenter).network.network.state_dict())
    assert all(key.startswith(("encoder.", "decoder.")) for key in keys)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    beside = {key for key in state if not key.startswith("network.")}
    assert beside
    assert all(key.startswith("adapters.teacher.align.") for key in beside)

    looked.clear()
    fit(load_recipe(recipe, ["--trainer.seed", "1"]), tmp_path / "again")
    assert sum(looked) == 0
    assert f"{SLOTS} are there" in capsys.readouterr().err
    # One changed weight: nothing of the other teacher's is used, and nothing of it is lost.
    segmenter = Segmenter.load(tmp_path / "teacher")
    with torch.no_grad():
        next(segmenter.parameters()).view(-1)[0] += 1e-4
    segmenter.save(tmp_path / "teacher")
    fit(load_recipe(recipe), tmp_path / "changed")
    assert sum(looked) == SLOTS
    assert len(list((tmp_path / "cache").iterdir())) == 2


def built(recipe: Path, flags: list[str]) -> tuple[Method, DataModule]:
    loaded = load_recipe(recipe, flags)
    data = DataModule(loaded.data, views=2)
    torch.manual_seed(0)
    method = build_method(loaded, BuildContext(data.spec))
    open_caches(teacher_configs(loaded), method.teachers, data, "cpu")
    method.network.eval()
    return method, data


@pytest.mark.parametrize(("storage", "tolerance"), [("float16", 1e-3), ("uint8", 1e-2)])
def test_losses_are_the_same_with_and_without_a_cache(
    recipe: Path, storage: str, tolerance: float, looked: list[int]
) -> None:
    with_cache, data = built(recipe, ["--teacher.cache_storage", storage, "--data.brightness", "0", "--data.gamma", "0",
                                      "--data.contrast", "0"])  # fmt: skip
    without, _ = built(recipe, ["--teacher.cache", "null"])
    batches = iter(data.train_dataloader())
    for step in range(2 * SLOTS // 4):
        batch = next(batches)
        with torch.no_grad():
            output = with_cache.network(batch["image"] / 100)
            found = with_cache.objective(output, batch, step)
            output = without.network(batch["image"] / 100)
            expected = without.objective(output, batch, step)
        for name in ("ce", "kd", "feature"):
            torch.testing.assert_close(found[name], expected[name], rtol=tolerance, atol=tolerance)
    assert sum(looked) == SLOTS + 2 * SLOTS


def test_a_full_disk_while_caching_is_told_once_and_training_goes_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[int]
) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geodistill.methods.cache.write_all", no_room)
    with pytest.warns(GeodistillWarning, match="training goes on") as told:
        result = fit(load_recipe(recipe), tmp_path / "run")
    assert len(told) == 1
    assert result.steps == 6
    assert sum(looked) == 24


def test_a_cache_filled_in_several_goes_gives_the_same_bits(recipe: Path, tmp_path: Path) -> None:
    def weights(run: str) -> bytes:
        return (fit(load_recipe(recipe), tmp_path / run).segmenter / "model.safetensors").read_bytes()

    at_once = weights("empty")
    assert weights("full") == at_once
    (index,) = (tmp_path / "cache").glob("*/index.bin")
    whole = index.read_bytes()
    for keeps in (lambda slot: slot % 2, lambda slot: slot < SLOTS // 2, lambda slot: slot % 3 == 0):
        index.write_bytes(
            b"".join(whole[4 * slot : 4 * slot + 4] if keeps(slot) else bytes(4) for slot in range(SLOTS))
        )
        assert weights(f"part-{len(list(tmp_path.iterdir()))}") == at_once
        assert index.read_bytes() == whole


def test_a_command_on_two_processes_shares_a_cache_and_tells_its_end_once(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "geodistill", "fit", "--config", str(recipe), "--out", str(tmp_path / "run")]
    command += ["--trainer.devices", "2", "--data.batch_size", "2", "--data.workers", "1"]
    command += ["--losses.weighting", "uncertainty"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("views of") == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path / 'run' / 'segmenter'}: validation mIoU")
    assert (tmp_path / "run" / "segmenter" / "segmenter.json").is_file()
    folders = list((tmp_path / "cache").iterdir())
    assert len(folders) == 1
    index = torch.frombuffer(bytearray((folders[0] / "index.bin").read_bytes()), dtype=torch.int32)
    assert len(index) == SLOTS
    assert int((index != 0).sum()) == SLOTS
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["weighting.log_variances"].abs().max() > 0


def test_unlabelled_images_are_left_out_where_nothing_learns_from_them(
    recipe: Path, town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(DataModule, "restart", lambda self, unlabelled, *_: asked.append(unlabelled))
    flags = ["--data.unlabelled", str(town), "--trainer.max_steps", "1"]
    fit(load_recipe(recipe, flags), tmp_path / "with")
    off = [*flags, "--losses.weights.kd", "0", "--losses.weights.feature", "0"]
    with pytest.raises(RecipeError, match=r"data.unlabelled, which does nothing: losses.weights has no term"):
        load_recipe(recipe, off)
    fit(load_recipe(recipe, off, idle=True), tmp_path / "none")
    assert "images without labels: left aside, as no loss term learns from them" in capsys.readouterr().err
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("config", "flags", "what"),
    [
        ("ktda-folder", ["--losses.phase.mixup", "0.5"], r"losses\.phase\.mixup"),
        ("ktda-folder", ["--data.mix", "0.5"], r"data\.mix"),
        ("distil-folder", ["--data.mix", "0.5"], r"data\.mix"),
        ("distil-folder", ["--data.unlabelled", "m", "--data.unlabelled_from", "1"], r"data\.unlabelled_from"),
    ],
)
def test_what_a_cache_cannot_keep_is_refused_beside_one(config: str, flags: list[str], what: str) -> None:
    teacher = ["--teacher.encoder", "test_vit", "--teacher.weights", "null", "--teacher.cache", "kept"]
    flags = ["--network.encoder", "test_resnet", *teacher, *flags]
    spec = Spec(Legend(("a", "b")), ("r", "g", "b"))
    with pytest.raises(RecipeError, match=rf"{what} beside teacher\.cache"):
        build_method(load_recipe(config, flags), BuildContext(spec))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--teacher.segmenter", "{other}"], "knows ground by that name"),
        (["--teacher.cache_gb", "0.00001"], "teacher.cache_gb"),
        (["--teacher.views", "0"], "views 0"),
        (["--teacher.segmenter", "nowhere"], "nowhere"),
        (["--losses.weighting", "fxed"], "gradient_balance"),
        (["--losses.weights.kd", "much"], "much"),
    ],
)
def test_mistakes_end_with_status_2(
    recipe: Path, town: Path, tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = teach(town, tmp_path / "other", ("building", "water"))
    flags = [flag.format(other=other) for flag in flags]
    assert main(["fit", "--config", str(recipe), "--out", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_the_shipped_recipe_trains_a_student(town: Path, tmp_path: Path) -> None:
    assert "distil-folder" in list_recipes()
    flags = ["--data.manifest", str(town), "--data.crop", "64", "--data.batch_size", "2", "--data.workers", "0"]
    flags += ["--teacher.segmenter", str(teach(town, tmp_path / "teacher")), "--network.encoder", "test_resnet"]
    flags += ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    result = fit(load_recipe("distil-folder", flags), tmp_path / "run")
    assert Segmenter.load(result.segmenter).spec.classes == 2
