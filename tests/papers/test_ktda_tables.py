"""Shipped KTDA recipes and the tables made of them."""

import pytest

from geodistill.methods.ktda.training import KtdaRecipe
from geodistill.methods.supervised.training import SupervisedRecipe
from geodistill.papers.registry import all_tables, find_table
from geodistill.training.recipe import load_recipe


def test_the_full_rows_change_nothing() -> None:
    for number, label in (("II", "all losses"), ("IV", "4"), ("V", "Ours")):
        row = find_table(f"ktda/{number}").rows[label]
        assert (row.recipe, row.overrides) == ("ktda-grass", {})
    fewest, with_loss = find_table("ktda/IV").rows["0"], find_table("ktda/III").rows["✓ (w/ loss)"]
    assert fewest.overrides == with_loss.overrides


def test_a_baseline_is_of_its_tables_own_run() -> None:
    for table in all_tables().values():
        own = {row.recipe for row in table.rows.values() if row.recipe and row.like is None}
        assert all(row.like.recipe in own for row in table.rows.values() if row.like is not None)


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
