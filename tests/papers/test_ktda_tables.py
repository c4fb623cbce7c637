"""Shipped KTDA recipes and the tables made of them."""

import pytest

from geodistill.methods.ktda.training import KtdaRecipe
from geodistill.methods.supervised.training import SupervisedRecipe
from geodistill.papers.ktda_tables import TABLES
from geodistill.papers.reproduce.planner import as_flags, load_row
from geodistill.training.recipe import load_recipe


def test_rows_on_grass_have_its_length_and_those_on_clouds_theirs() -> None:
    for number, rows in TABLES.items():
        for row in rows.values():
            if not row.open:
                recipe = load_row(row.recipe, tuple(as_flags(row.overrides)))
                assert recipe.trainer.max_steps == (80000 if number == "VI" else 23000)


def test_the_full_rows_change_nothing() -> None:
    for number, label in (("II", "full"), ("III", "FAM and FMM"), ("IV", "N=4"), ("V", "KTDA")):
        row = TABLES[number][label]
        assert (row.recipe, row.overrides) == ("ktda-grass", {})
    assert TABLES["IV"]["N=0"].overrides == TABLES["III"]["FAM w/ loss"].overrides


def test_grass_follows_the_released_schedule() -> None:
    recipe = load_recipe("ktda-grass")
    assert isinstance(recipe, KtdaRecipe)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (6e-4, 0.01)
    assert recipe.schedule.factor(575, 23000) == pytest.approx(0.5005)
    assert recipe.network.fmm_blocks == 4
    assert recipe.losses.weights == {"ce": 1.0, "aux": 0.4, "kt_mse": 0.5, "kt_kl": 0.5}


def test_the_folder_recipes_differ_in_the_transfer_alone() -> None:
    taught, alone = load_recipe("ktda-folder"), load_recipe("supervised-folder")
    assert isinstance(taught, KtdaRecipe)
    assert isinstance(alone, SupervisedRecipe)
    assert taught.network.encoder == alone.network.encoder
    assert (taught.network.decoder, taught.network.decode_from) == (alone.network.architecture, "encoder")
    assert (taught.optimizer, taught.schedule, taught.trainer) == (alone.optimizer, alone.schedule, alone.trainer)
    assert load_recipe("ktda-twin").losses.phase.forced == 0.5
