"""Shipped KDA recipes and the tables made of them."""

import pytest

from geodistill.methods.kda.training import KdaRecipe
from geodistill.papers.kda_tables import DISTIL, TABLES
from geodistill.papers.reproduce.planner import as_flags, load_row
from geodistill.papers.row import Step
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe


def test_every_row_is_phase_1_then_the_published_length_on_labels() -> None:
    for label, row in [item for rows in TABLES.values() for item in rows.items() if not item[1].open]:
        recipe = load_row(row.recipe, tuple(as_flags(row.overrides)))
        assert recipe.trainer.max_steps == 208600
        for step in row.before:
            first = load_row(step.recipe, tuple(as_flags(step.overrides)))
            assert isinstance(first, KdaRecipe)
            assert first.trainer.max_steps == 0
            assert (step.into, step.part) == ("network.encoder_weights", "encoder")
            # What phase 1 taught is what phase 2 begins with.
            assert first.network.encoder == recipe.network.encoder, label


def test_the_decoders_share_one_phase_1_and_the_factors_do_not() -> None:
    assert len({str(row.before) for row in TABLES["IV"].values()}) == 1
    assert len({str(row.before) for row in TABLES["V"].values()}) == len(TABLES["V"])
    assert TABLES["VI"]["no phase 1"].before == ()
    assert TABLES["II"]["KDA"].before == TABLES["IV"]["DCF"].before == (Step(DISTIL),)


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
