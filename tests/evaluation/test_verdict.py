"""The answer to whether a way of training pays: right figures, and no answer where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from geodistill.evaluation.verdict import ArmRun, answer, compare_runs
from geodistill.evaluation.verdict_picture import verdict_picture


def run(seed: int, rights: list[int], minutes: float = 2.0) -> ArmRun:
    """Score places of 100 pixels of one class, so many of which are right."""
    counts = {f"p{i}": np.array([[right, 100 - right], [0, 0]], np.int64) for i, right in enumerate(rights)}
    return ArmRun(seed, minutes, counts)


def test_a_gain_at_every_place_is_a_yes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(20, 60, 12)
    plain = [run(seed, (hard + seed).tolist()) for seed in (0, 1)]
    better = [run(seed, (hard + seed + rng.integers(3, 7, 12)).tolist(), 3.0) for seed in (0, 1)]
    verdict = compare_runs({"plain": plain, "better": better}, [0], "10 steps each")
    first, second = verdict.arms
    assert first.miou == pytest.approx([hard.mean() / 100, (hard.mean() + 1) / 100])
    gains = [mine - its for mine, its in zip(second.miou, first.miou, strict=True)]
    assert second.gain == pytest.approx(np.mean(gains))
    assert second.low is not None
    assert second.high is not None
    # Places differ by 40 points, the gain by 4: pairs of places leave the gain's own spread alone.
    assert 0.03 < second.low < second.gain < second.high < 0.06
    assert second.verdict.startswith(f"yes, {100 * second.gain:+.1f}, 95 % interval ")
    assert second.verdict.endswith("at 1.5 times the time")
    assert str(verdict).splitlines()[-1] == f"better: {second.verdict}"
    verdict_picture(verdict, tmp_path / "v.png")
    assert Image.open(tmp_path / "v.png").size[0] == 900


def test_noise_and_few_places_give_no_answer() -> None:
    rng = np.random.default_rng(1)
    arms = {name: [run(0, rng.integers(20, 80, 10).tolist())] for name in ("a", "b")}
    assert "undecided with 10 test places" in compare_runs(arms, [0], "").arms[1].verdict
    few = {"a": [run(0, [10, 20])], "b": [run(0, [90, 90])]}
    verdict = compare_runs(few, [0], "")
    assert verdict.arms[1].low is None
    assert verdict.arms[1].verdict.startswith("undecided with 2 test places: +75.0")


def test_a_picture_says_where_it_draws_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("geodistill.evaluation.verdict_picture.write_figure", lambda _, figure: drawn.append(figure))
    verdict_picture(compare_runs({"a": [run(0, [40])], "b": [run(0, [43])]}, [0], "10 steps"), tmp_path / "v.png")
    left, right = drawn[0].axes
    assert right.get_xlabel() == "gain in mIoU, no interval: 1 place"
    assert drawn[0].get_suptitle() == "10 steps; 1 seed, 1 place"
    rights = list(range(30, 34))
    verdict_picture(compare_runs({"a": [run(0, rights)], "b": [run(0, rights)]}, [0], "10 steps"), tmp_path / "v.png")
    assert drawn[1].get_suptitle() == "10 steps; 1 seed, 4 places: uncertain"
    assert left.get_ylim() == (1.5, -0.5)


def test_seeds_that_disagree_widen_the_interval() -> None:
    def width(gains: tuple[int, int]) -> float:
        plain = [run(seed, [50] * 6) for seed in (0, 1)]
        other = [run(seed, [50 + gain] * 6) for seed, gain in enumerate(gains)]
        arm = compare_runs({"a": plain, "b": other}, [0], "").arms[1]
        assert arm.low is not None
        assert arm.high is not None
        return arm.high - arm.low

    assert width((4, 4)) == pytest.approx(0)
    assert width((0, 8)) == pytest.approx(0.08)


def test_harm_is_said() -> None:
    assert answer(-0.03, -0.05, -0.01, 1.0, 9).startswith("no, it does harm, -3.0, 95 % interval -5.0 to -1.0")
