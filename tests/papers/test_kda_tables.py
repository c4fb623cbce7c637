"""Shipped KDA recipes and the tables made of them."""

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.methods.kda.training import KdaRecipe
from geodistill.papers.registry import all_tables, find_table
from geodistill.papers.reproduce.planner import Planner
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe

TABLES = [table for table in all_tables().values() if table.paper == "kda"]


def test_every_row_of_the_method_is_phase_1_then_labels() -> None:
    rows = [(table, row) for table in TABLES for row in table.rows.values() if row.recipe and row.like is None]
    assert len(rows) == 3 + 1 + 12 + 5
    planner = Planner("full", dict.fromkeys(CATALOG, ""))
    for table, row in rows:
        run = planner.run(table, row, 0)
        assert run.recipe.trainer.max_steps == 208600
        (before,) = run.before
        assert before.run.recipe.trainer.max_steps == 0
        assert (before.step.into, before.step.part) == ("network.encoder_weights", "encoder")
        # What phase 1 taught is what phase 2 begins with.
        assert before.run.recipe.network.encoder == run.recipe.network.encoder, row.label


def test_the_decoders_share_one_phase_1_and_the_factors_do_not() -> None:
    assert len({str(row.before) for row in find_table("kda/IV").rows.values()}) == 1
    assert len({str(row.before) for row in find_table("kda/I").rows.values()}) == 3
    plain = find_table("kda/III").rows["KD / Dinov2-L"].before[0]
    assert plain.overrides == {"losses.phase.weights.adversarial": 0.0, "losses.phase.weights.kl": 1.0}
    assert find_table("ours/kda-phase-1").rows["no phase 1"].before == ()
    assert find_table("kda/II").rows["KDA(Ours)"].before == find_table("kda/IV").rows["DCF(Ours)"].before


def test_rates_fall_by_epochs_from_start_to_end_on_both_sides() -> None:
    recipe = load_recipe("kda-landslide")
    schedule, steps = recipe.schedule, recipe.trainer.max_steps
    assert (recipe.optimizer.lr, recipe.optimizer.encoder_lr) == (5e-4, 5e-6)
    assert schedule.factor(0, steps) == schedule.factor(1042, steps) == 1.0
    assert schedule.factor(1043, steps) < 1.0
    assert 5e-4 * schedule.factor(steps, steps) == pytest.approx(5e-6)
    assert 5e-6 * schedule.factor(steps, steps, encoder=True) == pytest.approx(5e-9)


def test_phase_1_is_as_published() -> None:
    recipe = load_recipe("kda-landslide-distil")
    assert isinstance(recipe, KdaRecipe)
    assert recipe.teacher is not None
    assert recipe.teacher.encoder == "vit_large_patch14_dinov2"
    phase = recipe.losses.phase
    assert (phase.lr, phase.end_lr) == (5e-5, 5e-8)
    assert (phase.discriminator_lr, phase.discriminator_end_lr) == (5e-6, 5e-9)
    assert phase.weights == {"adversarial": 0.4, "kl": 0.6, "feature": 0.0}
    assert (phase.temperature, recipe.data.batch_size, recipe.data.crop) == (5.0, 8, 224)
    assert phase.steps == 200 * phase.epoch_steps


@pytest.mark.slow
def test_inspect_gives_the_published_counts() -> None:
    assert inspect("kda-landslide", size=64).inference_parameters == 66_407_906
    distil = inspect("kda-landslide-distil", size=64)
    assert distil.inference_parameters == 66_407_906
    # DINOv2-L without its class token's use, as phase 1 holds it frozen.
    assert distil.modules["teacher (frozen, not kept)"] / 1e6 == pytest.approx(304.37, abs=0.01)


def test_the_folder_recipe_runs_both_phases() -> None:
    recipe, alone = load_recipe("kda-folder"), load_recipe("supervised-folder")
    assert isinstance(recipe, KdaRecipe)
    assert recipe.losses.phase.steps > 0
    assert recipe.trainer == alone.trainer
    assert recipe.network.encoder == alone.network.encoder


def test_the_printed_preset_is_heavier_by_its_convolutions() -> None:
    printed = load_recipe("kda-landslide", ["--preset", "printed"])
    assert isinstance(printed, KdaRecipe)
    assert printed.network.project == "conv3x3_bn_relu"
    assert printed.losses.phase.discriminator.form == "patch"
