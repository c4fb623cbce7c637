"""Rows as runs: what decides a run's name, what rows share, what a smoke run leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import RecipeError
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.planner import Planner, TrainingRun
from geodistill.papers.reproduce.row_recipe import parse_overrides, put, why_open
from geodistill.papers.reproduce.smoke import STEPS, tiny_encoder
from geodistill.papers.table import PaperRow, Step
from geodistill.training.recipe import load_recipe

IDENTITIES = dict.fromkeys(CATALOG, "a set")


def plan(table: str, label: str, scale: str = "smoke", seed: int = 0, **overrides: str) -> TrainingRun:
    found = find_table(table)
    return Planner(scale, IDENTITIES, overrides).run(found, found.rows[label], seed)


def test_equal_rows_of_different_tables_are_one_run() -> None:
    full = plan("ktda/II", "all losses", "full")
    assert full.key == plan("ktda/IV", "4", "full").key == plan("ktda/V", "Ours", "full").key
    assert full.folder == f"ktda-grass-seed0-{full.key}"


@pytest.mark.parametrize(
    "other",
    [
        ("ktda/II", "without L_mse", "full", 0),
        ("ktda/II", "all losses", "full", 1),
        ("ktda/II", "all losses", "smoke", 0),
    ],
)
def test_another_row_seed_or_scale_is_another_run(other: tuple[str, str, str, int]) -> None:
    assert plan(*other).key != plan("ktda/II", "all losses", "full").key


def test_other_data_is_another_run() -> None:
    table = find_table("ktda/II")
    there = Planner("full", IDENTITIES | {"grass": "elsewhere"}, {}).run(table, table.rows["all losses"], 0)
    assert there.key != plan("ktda/II", "all losses", "full").key
    beside = Planner("full", IDENTITIES | {"potsdam": "elsewhere"}, {}).run(table, table.rows["all losses"], 0)
    assert beside.key == plan("ktda/II", "all losses", "full").key


def test_a_run_depends_on_those_before_it() -> None:
    one, other = plan("kda/I", "0.5 x KL + 0.5 x MSE", "full"), plan("kda/I", "0.7 x KL + 0.3 x MSE", "full")
    assert one.recipe == other.recipe
    assert one.before[0].run.key != other.before[0].run.key
    assert one.key != other.key
    assert (
        plan("kda/IV", "UNet-Head", "full").before[0].run.key == plan("kda/IV", "DCF(Ours)", "full").before[0].run.key
    )


@pytest.mark.slow
def test_the_teacher_before_a_student_is_the_teachers_row() -> None:
    for scale in ("smoke", "full"):
        student, teacher = plan("maflnet/1", "MAFLNet-S", scale), plan("maflnet/1", "MAFLNet-T", scale)
        assert student.before[0].run.key == teacher.key


def test_full_rows_are_the_recipe_and_the_rows_overrides_alone() -> None:
    run = plan("ktda/II", "without L_aux", "full")
    expected = load_recipe("ktda-grass", ["--preset=printed", "--losses.weights.aux=0", "--trainer.seed=0"])
    assert run.recipe == expected


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_smoke_run_keeps_what_makes_the_row() -> None:
    weights = [
        plan("ktda/II", label).recipe.losses.weights
        for label in ("without L_aux", "without L_mse", "without L_kl", "all losses")
    ]
    assert [[w[k] for k in ("aux", "kt_mse", "kt_kl")] for w in weights] == [
        [0.0, 0.5, 0.5],
        [0.4, 0.0, 0.5],
        [0.4, 0.5, 0.0],
        [0.4, 0.5, 0.5],
    ]
    networks: list[Any] = [plan("ktda/IV", str(n)).recipe.network for n in range(5)]
    assert [network.fmm_blocks for network in networks] == [0, 1, 2, 3, 4]
    parts: list[Any] = [
        plan("maflnet/3", label).recipe.network
        for label in ("Baseline", "Baseline+MACA", "Baseline+LHFEM", "SAM2-MAFLNet")
    ]
    switches = [(False, False), (True, False), (False, True), (True, True)]
    assert [(p.maca.enabled, p.lhfem.enabled) for p in parts] == switches
    assert parts[0].encoder == "test_vit(adapters=block)"
    phases: list[Any] = [plan("kda/I", label).before[0].run.recipe for label in find_table("kda/I").rows]
    assert [phase.losses.phase.weights["adversarial"] for phase in phases] == [0.5, 0.4, 0.3]
    assert {phase.trainer.max_steps for phase in phases} == {0}


def test_few_labels_stay_fewer_and_are_never_none() -> None:
    table = find_table("samrs/5")
    planner, row = Planner("smoke", IDENTITIES), table.rows["UNet, IMP, ResNet-50"]
    recipes: list[Any] = [planner.run(table, row, 0, column.overrides).recipe for column in table.columns]
    assert [round(3 * recipe.data.fraction) for recipe in recipes] == [3, 2, 1]


def test_encoders_shrink_to_the_smallest_of_their_kind() -> None:
    assert tiny_encoder("vit_large_patch14_dinov2") == "test_vit"
    assert tiny_encoder("convnext_base(drop_path_rate=0.4, ls_init_value=1.0)") == "test_convnext"
    assert tiny_encoder("sam2_hiera_large(adapters=stage)") == "test_vit(adapters=block)"
    assert tiny_encoder("pvt_kda") == "test_resnet"


def test_overrides_reach_the_runs_whose_recipe_has_the_key() -> None:
    run = plan("kda/II", "KDA(Ours)", "full", **{"data.workers": "7", "losses.phase.patience": "3"})
    first: Any = run.before[0].run.recipe
    assert (run.recipe.data.workers, first.data.workers, first.losses.phase.patience) == (7, 7, 3)
    fcn = plan("kda/II", "FCN", "full", **{"losses.phase.patience": "3"})
    assert fcn.key == plan("kda/II", "FCN", "full").key


@pytest.mark.parametrize("of_row", [False, True])
def test_keys_that_work_together_reach_a_row_in_which_each_alone_does_nothing(of_row: bool) -> None:
    table, label = find_table("kda/IV"), "DCF(Ours)"

    def schedule(**keys: str) -> Any:
        given = {f"schedule.{key}": value for key, value in keys.items()}
        planner = Planner("full", IDENTITIES, {} if of_row else given, {label: given} if of_row else {})
        return planner.run(table, table.rows[label], 0).recipe.schedule

    poly, warm = schedule(kind="poly", power="0.5"), schedule(warmup_steps="100", warmup_start="0.1")
    assert (poly.kind, poly.power, warm.warmup_steps, warm.warmup_start) == ("poly", 0.5, 100, 0.1)


def test_a_phase_that_a_run_does_not_have_stays_away() -> None:
    run = plan("kda/II", "KDA(Ours)", **{"trainer.max_steps": "3", "losses.phase.steps": "2"})
    first: Any = run.before[0].run.recipe
    last: Any = run.recipe
    assert (first.trainer.max_steps, first.losses.phase.steps) == (0, 2)
    assert (last.trainer.max_steps, last.losses.phase.steps) == (3, 0)


@pytest.mark.parametrize("pair", ["trainer.max_steps", "=3", "--=3"])
def test_an_override_is_a_key_and_a_value(pair: str) -> None:
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        parse_overrides([pair])
    assert parse_overrides(["--a.b=c=d", "e="]) == {"": {"a.b": "c=d", "e": ""}}
    rows = ["Single-Scale (n = 1)", "FCN"]
    given = ["Single-Scale (n = 1):a.b=c:d=e", "FCN:a.b=2", "c=C:/x"]
    assert parse_overrides(given, rows) == {"": {"c": "C:/x"}, rows[0]: {"a.b": "c:d=e"}, "FCN": {"a.b": "2"}}


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
    assert why_open(PaperRow("x", recipe="ktda-grass")) == ""
    assert why_open(PaperRow("x", open="nobody keeps it")) == "nobody keeps it"
    assert why_open(PaperRow("x", recipe="sepia")) == "recipe sepia is not shipped"
    assert why_open(PaperRow("x", recipe="ktda-grass", before=(Step("sepia"),))) == "recipe sepia is not shipped"
    assert why_open(PaperRow("x", recipe="ktda-grass", overrides={"network.fmm_blok": 2}), read=False) == ""
    assert why_open(PaperRow("x", recipe="sepia"), read=False) == "recipe sepia is not shipped"
    assert "network.fmm_blok" in why_open(PaperRow("x", recipe="ktda-grass", overrides={"network.fmm_blok": 2}))
    assert "network.architecture" in why_open(
        PaperRow("x", recipe="supervised-folder", overrides={"network.architecture": "vnet"})
    )


def test_an_override_of_a_row_is_not_for_the_others() -> None:
    table = find_table("kda/II")
    planner = Planner("full", IDENTITIES, {"data.workers": "7"}, {"FCN": {"network.encoder_weights": "fcn.pth"}})
    fcn, unet = (planner.run(table, table.rows[label], 0).recipe for label in ("FCN", "UNet"))
    assert (fcn.network.encoder_weights, unet.network.encoder_weights) == ("fcn.pth", "pretrained")
    assert fcn.data.workers == unet.data.workers == 7


def test_a_baseline_takes_over_what_its_table_shares_and_keeps_its_own_network() -> None:
    for scale in ("smoke", "full"):
        ours, fcn = plan("ktda/V", "Ours", scale).recipe, plan("ktda/V", "FCN", scale).recipe
        assert (fcn.method, fcn.network.architecture) == ("supervised", "fcn")
        assert (fcn.data, fcn.optimizer, fcn.schedule, fcn.trainer) == (
            ours.data, ours.optimizer, ours.schedule, ours.trainer,
        )  # fmt: skip
