"""Averaged weights, an encoder held still, steps of several batches, time limits and self-training, in whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from geodistill.data.datamodule import DataModule
from geodistill.errors import RecipeError
from geodistill.methods.freezing import Freezing
from geodistill.methods.method import BuildContext
from geodistill.methods.schema import OptimizerConfig, Recipe
from geodistill.methods.task import SegmentationTask
from geodistill.nn.averaging import LastAverage
from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.fit import fit
from geodistill.training.folder import named_files
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe, recipe_dict
from geodistill.training.resume import read_checkpoint
from killed_fit import fit_killed


@pytest.fixture
def small(town: Path) -> Recipe:
    """A run of seconds, all of whose random parts are used."""
    return load_recipe(
        {
            "method": "supervised",
            "data": {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0}
            | {"mix": 0.5, "rare_classes": 0.5, "unlabelled": str(town)},
            "network": {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8},
            "losses": {"class_weights": "auto", "weights": {"pseudo": 0.5, "lovasz": 0.5}, "pseudo_confidence": 0.6},
            "teacher": {"segmenter": "student"},
            "optimizer": {"lr": 0.02, "freeze": 0.25, "encoder_lr": 0.002},
            "trainer": {"max_steps": 8, "val_every_steps": 4, "save_every_steps": 3, "pictures": 0}
            | {"accelerator": "cpu", "ema": 0.9, "accumulate": 2},
        }
    )


@pytest.mark.slow
def test_a_run_killed_with_averaged_weights_ends_with_the_bits_of_an_uninterrupted_one(
    small: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(small, tmp_path / "whole")
    shown = capsys.readouterr().err
    assert "class weights: ground " in shown
    assert "pixels without labels: " in shown
    assert "on the validation images the teacher was sure of " in shown
    assert fit_killed(small, tmp_path / "run", 1, "after")  # at step 3, between two batches of none
    fit(small, tmp_path / "run")
    whole, run = (torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert any(name.startswith("averaged.") for name in whole["state_dict"])
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, run["state_dict"][name]), name
    for name in ("unlabelled_pixels", "learnt_pixels", "confidence"):
        assert torch.equal(whole["objective"][name], run["objective"][name])
    assert whole["global_step"] == run["global_step"] == 8


@pytest.mark.slow
def test_the_mean_of_the_last_checkpoints_is_validated_and_the_same_after_an_interruption(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = replace(small.trainer, ema=None, average_last=2, accumulate=1, max_steps=6, save_every_steps=2)
    small = replace(small, trainer=replace(trainer, val_every_steps=3))
    fit(small, tmp_path / "whole")
    update = LastAverage.update

    def stopped(self: LastAverage, network: torch.nn.Module) -> None:
        if int(self.updates) == 4:
            raise EOFError
        update(self, network)

    with monkeypatch.context() as patch:
        patch.setattr(LastAverage, "update", stopped)
        with pytest.raises(EOFError):
            fit(small, tmp_path / "run")
    fit(small, tmp_path / "run")
    states = [torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "run")]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name
    prefix = "averaged.network."
    kept = states[0]["state_dict"]["averaged.checkpoints"]
    floating = [k for k, v in states[0]["state_dict"].items() if k.startswith(prefix) and v.is_floating_point()]
    mean = torch.cat([states[0]["state_dict"][name].flatten() for name in floating])
    torch.testing.assert_close(mean, kept.mean(0))
    assert "val/miou_ema" in (next((tmp_path / "whole/logs").rglob("metrics.csv"))).read_text()


@pytest.mark.slow
def test_rates_go_with_the_samples_of_a_step_of_several_batches(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    for_batch = OptimizerConfig.for_batch

    def watched(config: OptimizerConfig, samples: int) -> OptimizerConfig:
        asked.append(samples)
        return for_batch(config, samples)

    monkeypatch.setattr(OptimizerConfig, "for_batch", watched)
    fit(replace(small, trainer=replace(small.trainer, max_steps=1, val_every_steps=1)), tmp_path / "run")
    assert asked == [4]  # two batches of two


@pytest.mark.slow
def test_the_better_of_the_two_weights_becomes_the_segmenter(small: Recipe, tmp_path: Path) -> None:
    result = fit(small, tmp_path / "run")
    (best,) = (tmp_path / "run/checkpoints").glob("best-*.ckpt")
    saved = torch.load(best, weights_only=True)["state_dict"]
    segmenter = Segmenter.load(tmp_path / "run")
    averaged = segmenter.provenance.get("weights") == "averaged"
    prefix = "averaged.network.network." if averaged else "network.network."
    for name, value in segmenter.network.network.state_dict().items():
        torch.testing.assert_close(value, saved[prefix + name], rtol=0, atol=0)
    lines = (tmp_path / "run/logs").rglob("metrics.csv")
    rows = [line.split(",") for path in lines for line in path.read_text().splitlines()]
    scores: list[float] = []
    for column, name in enumerate(rows[0]):
        if name in ("val/miou", "val/miou_ema"):
            scores += [float(row[column]) for row in rows[1:] if row[column]]
    assert len(scores) == 4
    assert result.miou == pytest.approx(max(scores), abs=1e-6)


@pytest.mark.slow
def test_without_validation_the_averaged_weights_are_kept_and_an_encoder_held_still_does_not_move(
    small: Recipe, tmp_path: Path
) -> None:
    recipe = replace(
        small,
        optimizer=replace(small.optimizer, freeze=0.5),
        trainer=replace(small.trainer, save_every_steps=4, val_every_steps=100, accumulate=1, ema=0.9),
    )
    torch.manual_seed(recipe.trainer.seed)
    states = []
    original = Freezing.__call__

    def watched(self: Freezing, step: int) -> None:
        original(self, step)
        states.append({key: value.clone() for key, value in self._network.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Freezing, "__call__", watched)
        fit(recipe, tmp_path / "run")
    first, released, last = states[0], states[4], states[-1]
    encoder = [name for name in first if name.startswith("encoder.")]
    assert any("running_mean" in name for name in encoder)
    assert all(torch.equal(first[name], released[name]) for name in encoder)
    assert not torch.equal(first["decoder.head.classifier.weight"], released["decoder.head.classifier.weight"])
    moved = [name for name in encoder if not torch.equal(released[name], last[name])]
    assert any("weight" in name for name in moved)
    assert any("running_mean" in name for name in moved)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"trainer.max_steps": 40, "trainer.patience": 1}])
def test_a_run_taken_up_after_its_last_step_knows_how_its_teacher_agreed_with_labels(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, object]
) -> None:
    monkeypatch.setattr(SegmentationTask, "_measured", lambda task, confusions: {"": (0.5, 0.5)})
    recipe = load_recipe(small, keys)
    notes = Segmenter.load(fit(recipe, tmp_path / "whole").segmenter).provenance["notes"]
    assert any(line.startswith("on the validation images the teacher was sure of ") for line in notes)

    def killed(*_: object) -> None:
        raise EOFError

    with monkeypatch.context() as patched:
        patched.setattr("geodistill.training.fit._save_outcome", killed)
        with pytest.raises(EOFError):
            fit(recipe, tmp_path / "run")
    result = fit(recipe, tmp_path / "run")
    assert result.steps == 8
    assert Segmenter.load(result.segmenter).provenance["notes"] == notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plain", "averaged", "expected"),
    [
        ([5, 5, 5, 5, 5, 5, 5], [1, 6, 7, 8, 9, 9, 9], (5, 7)),  # the best of each look: 5, 6, 7, 8, 9, 9, 9
        ([1, 6, 7, 7, 7, 7, 7], [5, 5, 5, 5, 5, 5, 5], (3, 5)),
        ([5, 3, 3, 3, 3, 3, 3], [1, 2, 3, 4, 5, 5, 5], (1, 3)),
    ],
)
def test_patience_looks_at_the_better_of_the_two_weights(
    small: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: list[int],
    averaged: list[int],
    expected: tuple[int, int],
) -> None:
    def measured(task: SegmentationTask, confusions: object) -> dict[str, tuple[float, float]]:
        scores = plain if confusions is task._confusions[0] else averaged
        return {"": (scores[task.global_step - 1] / 10, 0.5)}

    monkeypatch.setattr(SegmentationTask, "_measured", measured)
    keys = {"trainer.patience": 2, "trainer.val_every_steps": 1, "trainer.accumulate": 1}
    result = fit(load_recipe(small, keys), tmp_path / "run")
    assert (result.step, result.steps) == expected


@pytest.mark.slow
def test_steps_of_two_batches_see_twice_the_crops_and_validate_by_steps(small: Recipe, tmp_path: Path) -> None:
    result = fit(small, tmp_path / "run")
    assert result.steps == 8
    saved = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt", _identity(small, tmp_path / "run"))
    assert saved["DataModule"]["draws"] == [8 * 2 * 2]


def _identity(recipe: Recipe, run: Path) -> str:
    from geodistill.training.folder import run_identity

    return run_identity(recipe, run)


@pytest.mark.slow
def test_a_run_whose_time_is_over_ends_with_a_segmenter(
    small: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(small, trainer=replace(small.trainer, max_hours=1e-9))
    result = fit(recipe, tmp_path / "run")
    assert result.steps == 1
    assert "trainer.max_hours is over at step 1" in capsys.readouterr().err
    assert (tmp_path / "run/segmenter").is_dir()


def test_the_account_of_self_training_is_of_the_sure_pixels_of_images_without_labels(small: Recipe) -> None:
    recipe = replace(small, losses=replace(small.losses, pseudo_confidence=0.8))
    data = DataModule(recipe.data)
    data.restart(unlabelled=True, plain=True)
    method = build_method(recipe, BuildContext(data.spec, class_pixels=(3, 1)))
    assert method.uses_unlabelled()
    loader = iter(data.train_dataloader())
    batch = next(batch for batch in loader if (batch["mask"] == 255).flatten(1).all(1).sum() == 1)
    logits = torch.randn(2, 2, 32, 32) * 3
    without = (batch["mask"] == 255).flatten(1).all(1)

    class Fixed(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> object:
            assert torch.equal(image, batch["plain"][without])  # the others have labels
            return type("Output", (), {"logits": logits[without]})

    method.teachers["teacher"].follow(Fixed())
    prepared = method.objective.prepare(batch)
    chances = logits.softmax(1).numpy()
    highest, classes = chances.max(1), chances.argmax(1)
    index = int(without.nonzero())
    valid = batch["valid"][index].numpy()
    means = np.array([highest[index][valid & (classes[index] == c)].mean() for c in (0, 1)])
    running = 0.99 * 1 + 0.01 * means
    sure = valid & (highest[index] >= (0.8 * running / running.max())[classes[index]])
    assert np.array_equal(prepared["confident"][index].numpy(), sure)
    assert not prepared["confident"][~without].any()
    (line,) = method.objective.lines()
    total = 100 * sure.sum() / valid.sum()
    assert line.startswith(f"self-training used {total:.1f} % of {valid.sum():,} pixels without labels: ground ")
    output = SegmentationOutput(torch.zeros(2, 2, 32, 32))
    terms = method.objective(output, prepared, 0)
    assert terms["pseudo"].item() == pytest.approx(np.log(2) * sure.sum() / valid.sum(), rel=1e-4)


def test_pixels_that_an_annotator_left_out_are_not_taken_for_an_image_without_labels(small: Recipe) -> None:
    data = DataModule(small.data)
    data.restart(unlabelled=False, plain=True)
    method = build_method(small, BuildContext(data.spec, class_pixels=(3, 1)))
    batch = next(iter(data.train_dataloader()))
    batch["mask"][1] = 255
    prepared = method.objective.prepare(batch)  # its teacher, which is asked for nothing, has no weights yet
    assert not prepared["confident"].any()
    assert method.objective.lines() == ["self-training saw no pixel without labels"]


def test_the_teacher_is_compared_with_labels_that_nothing_learns_from(small: Recipe) -> None:
    recipe = replace(small, losses=replace(small.losses, pseudo_confidence=0.8))
    data = DataModule(recipe.data)
    objective: Any = build_method(recipe, BuildContext(data.spec, class_pixels=(3, 1))).objective
    batch = next(iter(data.val_dataloader()))
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(len(batch["key"]), 2, 32, 32, generator=generator)
    network = torch.nn.Identity()
    network.forward = lambda image: type("Output", (), {"logits": logits})  # type: ignore[assignment, method-assign]
    objective._teacher.follow(network)
    objective.check(batch)
    chances, mask = logits.softmax(1).numpy(), batch["mask"].numpy()
    sure = (mask != 255) & (chances.max(1) >= 0.8)
    right = sure & (chances.argmax(1) == mask)
    assert objective.held_pixels.tolist() == [(mask != 255).sum(), sure.sum(), right.sum()]
    objective.unlabelled_pixels += 1
    assert objective.lines()[-1].endswith(f"right on {100 * right.sum() / sure.sum():.1f} % of those")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trainer.ema": "null"}, "without trainer.ema"),
        ({"data.unlabelled": "null"}, "without data.unlabelled"),
        ({"teacher.cache": "cache"}, "learns along"),
        ({"teacher.logits_stride": 4}, "teacher.logits_stride, which does nothing: teacher.segmenter is student"),
        ({"teacher.bands": "[2, 1, 0]"}, "teacher.bands, which does nothing"),
        ({"optimizer.freeze": 2}, "a share from 0 to 1"),
        ({"losses.weighting": "uncertainty"}, "weighting fixed"),
    ],
)
def test_what_does_not_go_together_is_refused(
    small: Recipe, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        fit(load_recipe(small, keys), tmp_path / "run")


def test_a_folder_called_student_is_nothing_that_the_run_depends_on(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(named_files(small)) == {"data.manifest", "data.unlabelled"}
    spec = Spec(Legend(("a", "b")), ("red", "green", "blue"))
    Segmenter("supervised", {"architecture": "unet", "encoder": "test_resnet"}, spec, 64, {}).save("student")
    assert set(named_files(small)) == {"data.manifest", "data.unlabelled"}
    assert set(named_files(load_recipe(small, {"teacher.segmenter": ["student"]}))) > {"teacher.segmenter"}
    Path("own.yaml").write_text(yaml.safe_dump(recipe_dict(small)), encoding="utf-8")
    assert "teacher (frozen, not kept)" not in inspect("own.yaml", size=64).modules
