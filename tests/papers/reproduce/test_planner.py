"""Rows as runs: what decides a run's name, what rows share, what a smoke run leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import RecipeError
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.planner import Planner, TrainingRun, parse_overrides, put, why_open
from geodistill.papers.reproduce.smoke import STEPS, tiny_encoder
from geodistill.papers.row import PaperRow, Step
from geodistill.training.recipe import load_recipe

IDENTITIES = dict.fromkeys(CATALOG, "a set")


def plan(table: str, label: str, scale: str = "smoke", seed: int = 0, **overrides: str) -> TrainingRun:
    found = find_table(table)
    return Planner(scale, IDENTITIES, overrides).run(found, found.rows[label], seed)


def test_equal_rows_of_different_tables_are_one_run() -> None:
    full = plan("ktda/II", "full", "full")
    assert full.key == plan("ktda/IV", "N=4", "full").key == plan("ktda/III", "FAM and FMM", "full").key
    assert full.folder == f"ktda-grass-seed0-{full.key}"


@pytest.mark.parametrize(
    "other",
    [
        ("ktda/II", "w/o mse", "full", 0),
        ("ktda/II", "full", "full", 1),
        ("ktda/II", "full", "smoke", 0),
    ],
)
def test_another_row_seed_or_scale_is_another_run(other: tuple[str, str, str, int]) -> None:
    assert plan(*other).key != plan("ktda/II", "full", "full").key


def test_other_data_is_another_run() -> None:
    table = find_table("ktda/II")
    there = Planner("full", IDENTITIES | {"grass": "elsewhere"}, {}).run(table, table.rows["full"], 0)
    assert there.key != plan("ktda/II", "full", "full").key
    beside = Planner("full", IDENTITIES | {"potsdam": "elsewhere"}, {}).run(table, table.rows["full"], 0)
    assert beside.key == plan("ktda/II", "full", "full").key


def test_a_run_depends_on_those_before_it() -> None:
    one, other = plan("kda/V", "0.2 / 0.8", "full"), plan("kda/V", "0.4 / 0.6", "full")
    assert one.recipe == other.recipe
    assert one.before[0].run.key != other.before[0].run.key
    assert one.key != other.key
    assert plan("kda/IV", "UNet", "full").before[0].run.key == plan("kda/IV", "DCF", "full").before[0].run.key


def test_the_teacher_before_a_student_is_the_teachers_row() -> None:
    for scale in ("smoke", "full"):
        student, teacher = plan("maflnet/1", "student", scale), plan("maflnet/1", "teacher", scale)
        assert student.before[0].run.key == teacher.key


def test_full_rows_are_the_recipe_and_the_rows_overrides_alone() -> None:
    run = plan("ktda/II", "w/o aux", "full")
    expected = load_recipe("ktda-grass", ["--losses.weights.aux=0", "--trainer.seed=0"])
    assert run.recipe == expected


@pytest.mark.parametrize("name", ["samrs/4", "ktda/III", "kda/III", "maflnet/1", "metasegnet/I"])
def test_smoke_runs_are_short_and_need_no_weights(name: str) -> None:
    table = find_table(name)
    for label, row in table.rows.items():
        if why_open(row):
            continue
        run = plan(name, label)
        for one in (*(before.run for before in run.before), run):
            recipe: Any = one.recipe
            assert recipe.trainer.max_steps in (0, STEPS)
            assert (recipe.data.crop, recipe.trainer.accelerator) == (64, "cpu")
            assert recipe.network.encoder.split("(")[0] in ("test_resnet", "test_vit", "test_convnext")
            assert recipe.network.encoder_weights is None
            if recipe.teacher is not None:
                assert recipe.teacher.weights is None or recipe.teacher.segmenter is None


def test_a_smoke_run_keeps_what_makes_the_row() -> None:
    weights = [plan("ktda/II", label).recipe.losses.weights for label in ("w/o aux", "w/o mse", "w/o kl", "full")]
    assert [[w[k] for k in ("aux", "kt_mse", "kt_kl")] for w in weights] == [
        [0.0, 0.5, 0.5],
        [0.4, 0.0, 0.5],
        [0.4, 0.5, 0.0],
        [0.4, 0.5, 0.5],
    ]
    networks: list[Any] = [plan("ktda/IV", f"N={n}").recipe.network for n in range(5)]
    assert [network.fmm_blocks for network in networks] == [0, 1, 2, 3, 4]
    parts: list[Any] = [plan("maflnet/3", label).recipe.network for label in ("neither", "MACA", "LHFEM", "both")]
    switches = [(False, False), (True, False), (False, True), (True, True)]
    assert [(p.maca.enabled, p.lhfem.enabled) for p in parts] == switches
    assert parts[0].encoder == "test_vit(adapters=block)"
    phases: list[Any] = [plan("kda/V", f"{s:g} / {1 - s:g}").before[0].run.recipe for s in (0.2, 0.4, 0.6, 0.8)]
    assert [phase.losses.phase.weights["adversarial"] for phase in phases] == [0.2, 0.4, 0.6, 0.8]
    assert {phase.trainer.max_steps for phase in phases} == {0}


def test_few_labels_stay_fewer_and_are_never_none() -> None:
    rows = [f"U-Net ResNet-50 {percent} % IMP" for percent in (1, 3, 5)]
    recipes: list[Any] = [plan("samrs/5", label).recipe for label in rows]
    kept = [round(3 * recipe.data.fraction) for recipe in recipes]
    assert kept == [1, 2, 3]


def test_encoders_shrink_to_the_smallest_of_their_kind() -> None:
    assert tiny_encoder("vit_large_patch14_dinov2") == "test_vit"
    assert tiny_encoder("convnext_base(drop_path_rate=0.4, ls_init_value=1.0)") == "test_convnext"
    assert tiny_encoder("sam2_hiera_large(adapters=stage)") == "test_vit(adapters=stage)"
    assert tiny_encoder("pvt_kda") == "test_resnet"


def test_overrides_reach_the_runs_whose_recipe_has_the_key() -> None:
    run = plan("kda/II", "KDA", "full", **{"data.workers": "7", "losses.phase.patience": "3"})
    first: Any = run.before[0].run.recipe
    assert (run.recipe.data.workers, first.data.workers, first.losses.phase.patience) == (7, 7, 3)
    fcn = plan("kda/II", "FCN", "full", **{"losses.phase.patience": "3"})
    assert fcn.key == plan("kda/II", "FCN", "full").key


def test_a_phase_that_a_run_does_not_have_stays_away() -> None:
    run = plan("kda/II", "KDA", **{"trainer.max_steps": "3", "losses.phase.steps": "2"})
    first: Any = run.before[0].run.recipe
    last: Any = run.recipe
    assert (first.trainer.max_steps, first.losses.phase.steps) == (0, 2)
    assert (last.trainer.max_steps, last.losses.phase.steps) == (3, 0)


@pytest.mark.parametrize("pair", ["trainer.max_steps", "=3", "--=3"])
def test_an_override_is_a_key_and_a_value(pair: str) -> None:
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        parse_overrides([pair])
    assert parse_overrides(["--a.b=c=d", "e="]) == {"a.b": "c=d", "e": ""}


def test_put_reaches_into_parts() -> None:
    recipe = load_recipe("mafl-student")
    there = put(recipe, "teacher.segmenter", "runs/t")
    assert there.teacher is not None
    assert there.teacher.segmenter == "runs/t"
    assert recipe.teacher is not None
    assert recipe.teacher.segmenter == "./runs/mafl-teacher"
    with pytest.raises(RecipeError, match="without teacher"):
        put(load_recipe("supervised-folder"), "teacher.segmenter", "runs/t")


def test_a_row_is_open_where_it_says_so_or_its_recipe_is_not_there() -> None:
    assert why_open(PaperRow(recipe="ktda-grass")) == ""
    assert why_open(PaperRow(open="nobody keeps it")) == "nobody keeps it"
    assert why_open(PaperRow(recipe="sepia")) == "recipe sepia is not shipped"
    assert why_open(PaperRow(recipe="ktda-grass", before=(Step("sepia"),))) == "recipe sepia is not shipped"
    assert why_open(PaperRow({"network.fmm_blok": 2}, recipe="ktda-grass"), read=False) == ""
    assert why_open(PaperRow(recipe="sepia"), read=False) == "recipe sepia is not shipped"
    assert "network.fmm_blok" in why_open(PaperRow({"network.fmm_blok": 2}, recipe="ktda-grass"))
    assert "network.architecture" in why_open(PaperRow({"network.architecture": "vnet"}, recipe="supervised-folder"))
