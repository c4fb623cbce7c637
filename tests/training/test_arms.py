"""Recipes trained against each other: an equal budget, resumed where it stopped, one verdict."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import GeodistillWarning, RecipeError
from geodistill.evaluation.evaluate import place_counts
from geodistill.evaluation.verdict import ArmRun
from geodistill.methods.schema import Recipe
from geodistill.training import arms, student_plan
from geodistill.training.arms import ArmsOptions, compare_arms, seconds_before
from geodistill.training.fit import FitResult
from geodistill.training.folder import prepare_run
from geodistill.training.recipe import load_recipe
from geodistill.training.student_plan import plan_recipe
from towns import LEGEND, write_town

ARMS = ("slow", "fast")


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    """Two ways to train for a moment, which name different lengths."""
    paths = []
    for name, steps, lr in (("slow", 2, 1e-3), ("fast", 50, 2e-2)):
        keys = {
            "method": "supervised",
            "data": {"crop": 32, "batch_size": 2, "workers": 0},
            "network": {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8},
            "optimizer": {"lr": lr},
            "trainer": {"max_steps": steps, "pictures": 0, "accelerator": "cpu"},
        }
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(keys))
    return [str(path) for path in paths]


@pytest.mark.slow
def test_arms_have_one_budget_and_what_is_done_is_kept(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = ["compare", "--ab", *recipes, "--manifest", str(town), "--split", "val", "--out", str(out), "--seeds", "0"]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "2 steps each; 1 seed," in shown
    kept = {name: json.loads((out / f"{name}-0/counts.json").read_text()) for name in ARMS}
    assert {load_recipe(out / f"{name}-0/recipe.yaml").trainer.max_steps for name in ARMS} == {2}
    assert {path.name for path in out.iterdir()} == {"slow-0", "fast-0", "verdict.json", "verdict.png"}
    (out / "fast-0/counts.json").write_text(json.dumps(kept["fast"] | {"counts": {}}))  # stopped while it was scored
    monkeypatch.setattr(arms, "fit", lambda *arguments: pytest.fail("trained again"))
    assert main(argv) == 0
    assert json.loads((out / "fast-0/counts.json").read_text()) == kept["fast"]
    assert capsys.readouterr().out == shown
    damaged = out / "slow-0/counts.json"
    for text in ("{", json.dumps({"split": "val", "counts": {"here": "there"}})):
        damaged.write_text(text)
        _refused(argv, "remove it, and call again", capsys)
    damaged.unlink()  # as after a kill before it was written
    assert main(argv) == 0
    again = json.loads(damaged.read_text())
    assert again["counts"] == kept["slow"]["counts"]
    assert 0 < again["minutes"] < kept["slow"]["minutes"] + 0.1
    capsys.readouterr()
    _refused([*argv, "--steps", "3"], "slow-0 holds a run of another recipe (trainer.max_steps was 2, is 3)", capsys)
    changed = Path(recipes[1])
    text = changed.read_text()
    changed.write_text(text.replace("decoder_channels: 8", "decoder_channels: 16"))
    _refused(argv, "fast-0 holds a run of another recipe (network.decoder_channels was 8, is 16)", capsys)
    changed.write_text(text)
    manifest = Manifest.load(town)
    replace(manifest, entries=manifest.entries[:-1]).save(town)
    _refused(argv, f"{town} (data.manifest) has changed since the run in {out / 'slow-0'}", capsys)


def _refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_corrected_masks_are_scored_again_where_nothing_was_learnt_from_them(
    recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_town(tmp_path / "town")
    town, out = tmp_path / "town/manifest.parquet", tmp_path / "out"
    scan(town.parent, out=town, legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
    manifest, options = Manifest.load(town), ArmsOptions(town, (0,))
    slow = yaml.safe_load(Path(recipes[0]).read_text())
    slow["data"]["batch_size"] = "auto"  # the run keeps the number
    Path(recipes[0]).write_text(yaml.safe_dump(slow))
    compare_arms(recipes, out, options)
    monkeypatch.setattr(arms, "fit", lambda *arguments: pytest.fail("trained again"))
    test, val = (manifest.rows(split)[0].mask for split in ("test", "val"))
    assert test is not None
    assert val is not None
    with rasterio.open(test, "r+") as mask:
        mask.write(1 - mask.read().clip(0, 1))
    said: list[str] = []
    for _ in range(2):
        compare_arms(recipes, out, options, said.append)
    assert [line.partition(":")[0] for line in said if "scored again" in line] == ["slow-0", "fast-0"]
    for name in ARMS:
        counts = place_counts(out / f"{name}-0", manifest, "test")
        kept = json.loads((out / f"{name}-0/counts.json").read_text())["counts"]
        assert kept == {place: matrix.tolist() for place, matrix in counts.items()}
    os.utime(val)
    with pytest.raises(RecipeError, match=rf"{val.name} has changed since the run in .*slow-0 began; .*another --out"):
        compare_arms(recipes, out, options)


def test_minutes_are_those_of_all_calls_up_to_where_each_was_taken_up(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stamps of files stand for time that passes: a call begins so many seconds before it writes a resume point."""
    stops = {"slow": [(60.0, "transfer"), (None, ""), (30.0, "last"), (500.0, "best-000001")]}

    def fitted(recipe: Recipe, run: Path) -> FitResult:
        if not (left := stops.get(run.name[:-2])):
            return FitResult(run / "segmenter", 0.5, 2, 2, 0.25)
        seconds, name = left.pop(0)
        clock, points = run.with_name(f"{run.name}.clock.json"), run / "checkpoints"
        points.mkdir(parents=True, exist_ok=True)
        if seconds is not None:
            begun = clock.stat().st_mtime - 1000 - 100 * len(left)  # calls in their order, before now
            os.utime(clock, (begun, begun))
            (points / f"{name}.ckpt").touch()
            os.utime(points / f"{name}.ckpt", (begun + seconds, begun + seconds))
        raise KeyboardInterrupt

    monkeypatch.setattr(arms, "fit", fitted)
    monkeypatch.setattr(arms, "place_counts", lambda *arguments: {"here": np.eye(2, dtype=np.int64)})
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            compare_arms(recipes, tmp_path / "out", ArmsOptions(town, (0,)))
    compare_arms(recipes, tmp_path / "out", ArmsOptions(town, (0,)))
    minutes = {name: json.loads((tmp_path / f"out/{name}-0/counts.json").read_text())["minutes"] for name in ARMS}
    assert minutes == {"slow": pytest.approx(1.0 + 0.5 + 0.25, abs=1e-3), "fast": 0.25}
    assert not list((tmp_path / "out").glob("*.clock.json"))


def test_a_call_killed_after_its_training_took_until_that_was_over(tmp_path: Path) -> None:
    run, clock = tmp_path / "run", tmp_path / "clock.json"
    stamps = {"recipe.yaml": 400, "checkpoints/last.ckpt": 550, "segmenter/segmenter.json": 640}
    for name, stamp in stamps.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
        os.utime(run / name, (stamp, stamp))
    assert seconds_before(run, clock) == 240
    clock.write_text('{"seconds": 50}')
    os.utime(clock, (600, 600))
    assert seconds_before(run, clock) == 50 + 40


def test_a_finished_arm_that_an_earlier_version_planned_otherwise_is_taken_as_it_is(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a recipe of one's own is not: there the warm-up is the user's."""

    def fitted(recipe: Recipe, run: Path) -> FitResult:
        run.mkdir()
        prepare_run(run, recipe, False, dict)
        (run / "segmenter").mkdir()
        return FitResult(run / "segmenter", 0.5, 2, 2, 0.25)

    monkeypatch.setattr(student_plan, "_missing_weights", lambda recipe: "weights")
    monkeypatch.setattr(arms, "fit", fitted)
    monkeypatch.setattr(arms, "place_counts", lambda *arguments: {"here": np.eye(2, dtype=np.int64)})
    monkeypatch.setattr("geodistill.training.folder.changed_input", lambda *_: None)
    compared, out = ([recipes[0], "student"], tmp_path / "out"), ArmsOptions(town, (0,), steps=20)
    compare_arms(*compared, out)
    saved = {name: tmp_path / f"out/{name}-0/recipe.yaml" for name in ("student", "slow")}
    saved["student"].write_text(saved["student"].read_text().replace("warmup_steps: 2", "warmup_steps: 50"))
    with pytest.warns(GeodistillWarning, match=r"earlier version planned .schedule.warmup_steps was 50, is 2."):
        compare_arms(*compared, out)
    saved["slow"].write_text(saved["slow"].read_text().replace("warmup_steps: 0", "warmup_steps: 5"))
    with pytest.raises(RecipeError, match="warmup_steps was 5, is 0"):
        compare_arms(*compared, out)


def test_the_printed_command_leaves_steps_for_both(town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "distil.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("geodistill compare --ab"))
    asked: list[Recipe] = []

    def trained(recipe: Recipe, run: Path, seed: int, *_: object) -> ArmRun:
        asked.append(recipe)
        return ArmRun(seed, 1.0, {"here": np.eye(2, dtype=np.int64)})

    monkeypatch.setattr(arms, "_run", trained)
    argv = line.replace("town.parquet", str(town)).replace("runs/pays", str(tmp_path / "out")).split()[1:]
    assert main(argv) == 0
    assert {recipe.phase_steps + recipe.trainer.max_steps for recipe in asked} == {3000}
    assert min(recipe.trainer.max_steps for recipe in asked) >= 1000


@pytest.mark.parametrize("budget", [{"steps": 60}, {"minutes": 3.0}])
def test_an_arm_is_planned_for_the_budget_as_fit_plans_it(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: dict[str, Any]
) -> None:
    """Without ``steps`` the budget is that of the first arm, which has 2."""
    monkeypatch.setattr(student_plan, "_missing_weights", lambda recipe: "weights")
    asked: list[Recipe] = []

    def trained(recipe: Recipe, run: Path, seed: int, *_: object) -> ArmRun:
        asked.append(recipe)
        return ArmRun(seed, 1.0, {"here": np.eye(2, dtype=np.int64)})

    monkeypatch.setattr(arms, "_run", trained)
    compare_arms([recipes[0], "student"], tmp_path / "out", ArmsOptions(town, (0,), **budget))
    keys = {"data.manifest": str(town), "trainer.max_steps": budget.get("steps", 2)}
    hours = {"trainer.max_hours": budget["minutes"] / 60} if "minutes" in budget else {}
    assert asked[1] == plan_recipe("student", keys | hours)[0]
    assert asked[1].schedule.warmup_steps == max(keys["trainer.max_steps"] // 10, 1)


def test_each_arm_s_start_is_printed_once_and_kept(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"here": np.eye(2, dtype=np.int64)}
    monkeypatch.setattr(arms, "_run", lambda recipe, run, seed, *_: ArmRun(seed, 1.0, counts))
    said: list[str] = []
    compare_arms(recipes, tmp_path / "out", ArmsOptions(town, (0, 1)), said.append)
    starts = json.loads((tmp_path / "out" / "verdict.json").read_text())["starts"]
    assert set(starts) == set(ARMS)
    for name, line in starts.items():
        assert line.startswith("start: ")
        assert "from random weights" in line
        assert said.count(f"{name}, {line}") == 1


@pytest.mark.parametrize(("steps", "seeds"), [(0, (0,)), (None, ()), (None, (1, 1))])
def test_budgets_that_make_no_sense_are_refused(town: Path, steps: int | None, seeds: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError):
        ArmsOptions(town, seeds, steps)


def test_the_device_reaches_the_training_and_is_checked_before_the_first_run(
    town: Path, recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in map(Path, recipes):
        path.write_text(path.read_text().replace("accelerator: cpu", "accelerator: auto"))
    asked: list[str] = []

    def fitted(recipe: Recipe, run: Path) -> FitResult:
        asked.append(recipe.trainer.accelerator)
        return FitResult(run / "segmenter", 0.5, 2, 2, 0.25)

    monkeypatch.setattr(arms, "fit", fitted)
    monkeypatch.setattr(arms, "place_counts", lambda *arguments: {"here": np.eye(2, dtype=np.int64)})
    for device in ("auto", "cpu"):
        compare_arms(recipes, tmp_path / device, ArmsOptions(town, (0,), device=device))
    assert asked == ["auto", "auto", "cpu", "cpu"]
    with pytest.raises(RecipeError, match="device 'mtia'"):
        compare_arms(recipes, tmp_path / "out", ArmsOptions(town, (0,), device="mtia"))
    with pytest.raises(RecipeError, match="CUDA_VISIBLE_DEVICES"):
        ArmsOptions(town, device="cuda:1")
    second = Path(recipes[1])
    second.write_text(second.read_text().replace("accelerator: auto", "accelerator: tpu"))
    with pytest.raises(RecipeError, match=r"trainer\.accelerator 'tpu'"):
        compare_arms(recipes, tmp_path / "out", ArmsOptions(town, (0,)))
    assert len(asked) == 4


def test_one_arm_alone_is_no_comparison(town: Path, recipes: list[str], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two or more"):
        compare_arms(recipes[:1], tmp_path / "out", ArmsOptions(town))


def test_flags_of_the_other_kind_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "--steps", "3"]) == 2
    assert "--steps without --ab" in capsys.readouterr().err
    assert main(["compare", "--ab", "a", "b", "--repeats", "2"]) == 2
    assert "--repeats with --ab" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert capsys.readouterr().out.count("not with --ab") == 3
    assert main(["compare", "--ab", "a", "b"]) == 2
    assert "--manifest and --out" in capsys.readouterr().err
