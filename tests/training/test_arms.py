"""Recipes trained against each other: an equal budget, resumed where it stopped, one verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import RecipeError
from geodistill.training import arms
from geodistill.training.arms import ArmsOptions, compare_arms


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
    kept = {name: json.loads((out / f"{name}-0/counts.json").read_text()) for name in ("slow", "fast")}
    assert {about["steps"] for about in kept.values()} == {2}
    assert {path.name for path in out.iterdir()} == {"slow-0", "fast-0", "verdict.json", "verdict.png"}
    (out / "fast-0/counts.json").write_text(json.dumps(kept["fast"] | {"counts": {}}))  # stopped while it was scored
    monkeypatch.setattr(arms, "fit", lambda *arguments: pytest.fail("trained again"))
    assert main(argv) == 0
    assert json.loads((out / "fast-0/counts.json").read_text()) == kept["fast"]
    assert capsys.readouterr().out == shown
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


@pytest.mark.parametrize(("steps", "seeds"), [(0, (0,)), (None, ()), (None, (1, 1))])
def test_budgets_that_make_no_sense_are_refused(town: Path, steps: int | None, seeds: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError):
        ArmsOptions(town, seeds, steps)


def test_one_arm_alone_is_no_comparison(town: Path, recipes: list[str], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two or more"):
        compare_arms(recipes[:1], tmp_path / "out", ArmsOptions(town))


def test_flags_of_the_other_kind_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "--steps", "3"]) == 2
    assert "--steps without --ab" in capsys.readouterr().err
    assert main(["compare", "--ab", "a", "b", "--repeats", "2"]) == 2
    assert "--repeats with --ab" in capsys.readouterr().err
    assert main(["compare", "--ab", "a", "b"]) == 2
    assert "--manifest and --out" in capsys.readouterr().err
