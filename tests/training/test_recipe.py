"""Recipes: layers, overrides, unknown keys with their neighbours."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodistill.errors import GeodistillError, RecipeError, UnknownNameError
from geodistill.methods.ktda.training import KtdaRecipe
from geodistill.methods.method import METHODS
from geodistill.methods.supervised.training import SupervisedRecipe
from geodistill.training.recipe import list_recipes, load_recipe, recipe_dict, recipe_files, recipe_keys


@pytest.mark.slow
@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method in METHODS


def test_a_recipe_survives_being_written_and_read(tmp_path: Path) -> None:
    recipe = load_recipe("ktda-folder", ["--losses.weights.kt_mse", "3", "--data.crop", "96"])
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe_dict(recipe)))
    assert load_recipe(path) == recipe


def test_without_a_file_the_defaults_of_the_method_hold() -> None:
    assert load_recipe(None) == SupervisedRecipe()
    assert isinstance(load_recipe(None, ["--method", "ktda"]), KtdaRecipe)


def test_flags_win_over_the_file_and_weights_merge_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("method: ktda\nlosses: {weights: {kt_mse: 2.0}}\ntrainer: {max_steps: 7, seed: 3}\n")
    recipe = load_recipe(path, ["--trainer.max_steps", "9", "--losses.weights.kt_kl=0.5"])
    assert (recipe.trainer.max_steps, recipe.trainer.seed) == (9, 3)
    assert recipe.losses.weights["kt_mse"] == 2.0
    assert recipe.losses.weights["kt_kl"] == 0.5
    assert recipe.losses.weights["ce"] == KtdaRecipe().losses.weights["ce"]


def test_a_preset_lies_under_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("method: ktda\npreset: released\n")
    released = load_recipe(path)
    assert released.losses.kl_axis == "width"
    assert load_recipe(path, ["--losses.kl_axis", "channel"]).losses.kl_axis == "channel"
    assert load_recipe(None, ["--method", "ktda"]).losses.kl_axis == "channel"


def test_what_a_file_says_of_a_preset_lies_over_the_file_and_under_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "method: supervised\ntrainer: {max_steps: 7}\npresets: {printed: {trainer: {max_steps: 8}, data: {crop: 96}}}\n"
    )
    steps = [load_recipe(path, flags).trainer.max_steps for flags in ([], ["--preset", "printed"])]
    assert steps == [7, 8]
    flags = ["--preset", "printed", "--trainer.max_steps", "9"]
    recipe = load_recipe(path, flags)
    assert (recipe.preset, recipe.trainer.max_steps, recipe.data.crop) == ("printed", 9, 96)
    with pytest.raises(RecipeError, match=r"preset released of method supervised.*coherent, printed"):
        load_recipe(path, ["--preset", "released"])


@pytest.mark.parametrize("name", ["ktda-folder", "kda-folder", "metasegnet-folder"])
@pytest.mark.parametrize("preset", ["printed", "released"])
def test_a_preset_leaves_rates_batch_and_lengths_to_the_recipe(name: str, preset: str) -> None:
    plain, other = load_recipe(name), load_recipe(name, ["--preset", preset])
    assert other.losses != plain.losses
    assert (other.schedule, other.trainer, other.data.batch_size) == (
        plain.schedule, plain.trainer, plain.data.batch_size,
    )  # fmt: skip
    assert replace(other.optimizer, decay_vectors=False) == plain.optimizer


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--network.decode_from", "encoder", "--network.fmm_blocks", "2"], r"network.fmm_blocks.*leaves FMM out"),
        (["--network.decode_from", "encoder", "--network.order", "neck_fmm"], r"network.order.*leaves FMM out"),
        (["--losses.transfer_end", "50"], r"losses.transfer_end.*transfer_decay is none"),
        (["--losses.phase.forced", "0.5"], r"losses.phase.forced.*steps is 0"),
        (["--losses.kd_temperature", "2"], r"losses.kd_temperature.*no kd"),
        (["--data.mix_kind", "cutmix"], r"data.mix_kind.*data.mix is 0"),
        (["--data.fraction_choice", "place"], r"data.fraction_choice.*data.fraction is not given"),
        (["--trainer.ema_warmup", "4"], r"trainer.ema_warmup.*trainer.ema is not given"),
        (["--trainer.ema_warmup", "4", "--trainer.average_last", "3"], r"trainer.ema_warmup.*trainer.ema is not given"),
        (["--schedule.warmup_start", "0.5"], r"schedule.warmup_start.*warmup_steps is 0"),
        (["--schedule.kind", "cosine", "--schedule.power", "2"], r"schedule.power.*kind is cosine, not poly"),
        (["--schedule.kind", "constant", "--schedule.cycles", "2"], r"schedule.cycles.*kind is constant"),
        (["--schedule.kind", "constant", "--schedule.end_lr_factor", "0.5"], r"end_lr_factor.*kind is constant"),
        (["--teacher.views", "4"], r"teacher.views.*teacher.cache is not given"),
        (["--teacher.cache_gb", "4"], r"teacher.cache_gb.*teacher.cache is not given"),
        (["--teacher.logits_stride", "4"], r"teacher.logits_stride.*no term on the teacher's logits"),
        (["--data.unlabelled_from", "0.5"], r"data.unlabelled_from.*data.unlabelled is not given"),
    ],
)
def test_keys_that_do_nothing_are_refused_with_the_reason(flags: list[str], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load_recipe(None, ["--method", "ktda", *flags])


@pytest.mark.parametrize(
    ("config", "flags", "reason"),
    [
        ("supervised-folder", {"data.unlabelled": "m.parquet"}, r"data.unlabelled.*no term on a teacher"),
        ("student", {"network.frozen_encoder": True, "optimizer.freeze": 0.5}, "optimizer.freeze.*frozen_encoder"),
        ("student", {"network.frozen_encoder": True, "optimizer.encoder_lr": 1}, "encoder_lr.*frozen_encoder is true"),
        ("mafl-teacher", {"network.trained": "none", "optimizer.freeze": 0.5}, "optimizer.freeze.*trained is none"),
        ("mafl-teacher", {"network.trained": "none", "optimizer.layer_decay": 0.5}, "layer_decay.*trained is none"),
        ("mafl-teacher", {"network.trained": "none", "schedule.encoder_end_lr_factor": 0.5}, "encoder_end.*is none"),
        ("kda-folder", {"losses.weights.focal": 0, "losses.gamma": 3}, "losses.gamma.*focal is 0"),
        (
            "kda-folder",
            {"losses.phase.weights.adversarial": 0, "losses.phase.discriminator.width": 8},
            "discriminator.width.*adversarial is 0",
        ),
        ("metasegnet-folder", {"text.kind": "none", "text.zone": "Cfb"}, "text.zone.*text.kind is none"),
        ("student", {"data.unlabelled_from": 0.5}, "unlabelled_from.*data.unlabelled is not given"),
    ],
)
def test_keys_of_what_a_method_leaves_out_are_refused(config: str, flags: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load_recipe(config, flags)


def test_what_is_taken_away_or_left_aside_is_not_refused() -> None:
    frozen = {"network.frozen_encoder": True, "network.style_noise": 0.0, "optimizer.encoder_lr": None}
    assert load_recipe("student", frozen).optimizer.encoder_lr is None
    assert load_recipe("student", {"data.unlabelled": "m.parquet"}).data.unlabelled == "m.parquet"
    assert load_recipe("distil-folder", {"teacher.segmenter": "run"}).teacher is not None
    without_fmm = {"method": "ktda", "preset": "released", "network": {"decode_from": "encoder", "order": "fmm_neck"}}
    assert load_recipe(without_fmm).network.order == "fmm_neck"  # the preset's is neck_fmm


def test_flags_may_bring_to_life_what_a_file_has_settings_for(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("teacher: {segmenter: run, views: 4}\nlosses: {weights: {kd: 1.0}}\n")
    with pytest.raises(RecipeError, match=r"teacher.views.*teacher.cache is not given"):
        load_recipe(path)
    assert load_recipe(path, {"teacher.cache": "views"}).teacher.views == 4  # type: ignore[union-attr]


def test_weights_of_classes_without_the_term_that_they_are_for_are_refused() -> None:
    flags = ["--losses.class_weights", "auto", "--losses.weights.dice", "1"]
    with pytest.raises(RecipeError, match=r"losses.class_weights.*losses.weights.ce is 0"):
        load_recipe("supervised-folder", [*flags, "--losses.weights.ce", "0"])
    assert load_recipe("supervised-folder", flags).losses.class_weights == "auto"


def test_a_balance_of_gradients_on_an_encoder_that_has_none_is_refused() -> None:
    flags = ["--network.frozen_encoder", "true", "--losses.weighting"]
    with pytest.raises(RecipeError, match=r"losses.weighting, which does nothing: network.frozen_encoder is true"):
        load_recipe("supervised-folder", [*flags, "gradient_balance"])
    assert load_recipe("supervised-folder", [*flags, "uncertainty"]).losses.weighting == "uncertainty"


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--trainer.max_steps=five", "recipe student: trainer.max_steps five; expected a whole number"),
        ("--trainer.ema=high", "recipe student: trainer.ema high; expected a number or null"),
        (
            "--trainer.ema_warmup=1",
            "ema_warmup 1.0; expected a share above 0 and below 1, such as 0.99, and a number from 2",
        ),
        ("--data.flips=perhaps", "recipe student: data.flips perhaps; expected true or false"),
        ("--trainer.precision=8", "trainer.precision 8; expected auto, 32-true, bf16-mixed, 16-mixed"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_its_key_takes(flag: str, text: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("student", [flag])
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "key",
    [
        "losses.kd_temperature",
        "losses.cwd_temperature",
        "losses.dist_temperature",
        "optimizer.lr",
        "optimizer.encoder_lr",
        "optimizer.weight_decay",
        "optimizer.clip_norm",
    ],
)
def test_numbers_by_which_nothing_is_learnt_are_refused(key: str) -> None:
    weights = [f"--losses.weights.{term}=1" for term in ("kd", "cwd", "dist_inter")]
    with pytest.raises(RecipeError, match=f"{key} -1"):
        load_recipe("distil-folder", [*weights, f"--{key}=-1"])


@pytest.mark.parametrize("flags", [[], ["--losses.phase.steps", "0"]])
def test_a_written_recipe_with_idle_keys_is_read_again(tmp_path: Path, flags: list[str]) -> None:
    recipe = load_recipe("ktda-folder", flags)  # without a phase the recipe's own losses.phase.lr does nothing
    path = tmp_path / "recipe.yaml"
    written = recipe_dict(recipe)
    for _ in range(2):
        path.write_text(json.dumps(written))
        assert load_recipe(path) == recipe
        assert written["data"].pop("hollow", 0.0) == 0  # a version that did not know the key yet


def test_a_preset_does_not_give_an_earlier_run_what_it_has_since_become() -> None:
    written = recipe_dict(load_recipe("sep", ["--preset", "printed"]))
    assert written["network"].pop("head_kernel") == 1
    assert load_recipe(written).network.head_kernel == 3  # that of a version without the key
    assert load_recipe({"method": "sep", "preset": "printed"}).network.head_kernel == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method: ktda\ntrainer: {max_stepz: 3}\n", "trainer.max_steps"),
        ("method: ktda\nnetwrok: {}\n", "network"),
        ("method: supervised\nnetwork: {fmm_blocks: 2}\n", "unknown recipe key 'network.fmm_blocks'"),
        ("teacher: {segmentor: runs}\n", "teacher.segmenter"),
        ("teachers: {big: {segmentor: runs}}\n", "segmentor"),
        ("method: kdta\n", "ktda"),
        ("- 1\n", "expected a mapping"),
        ("a: [\n", "not YAML"),
        ("trainer: {max_steps: soon}\n", "soon"),
        ("preset: relaesed\nmethod: ktda\n", "released"),
        ("method: ktda\npresets: released\n", "presets"),
        ("method: ktda\npresets: {relesed: {}}\n", "released"),
        ("method: ktda\npresets: {released: {trainer: {max_stepz: 3}}}\n", "trainer.max_steps"),
    ],
)
def test_mistakes_name_the_key_and_its_neighbours(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises((RecipeError, UnknownNameError)) as told:
        load_recipe(path)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_teachers_have_names_and_their_terms_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "several.yaml"
    path.write_text(
        "losses: {weights: {ce: 0.5, big.kd: 2.0}}\nteacher: {encoder: mit_b0}\nteachers: {big: {segmenter: runs/a}}\n"
    )
    flags = ["--losses.weights.big.kd", "3", "--losses.weights.kd=0.25", "--losses.weighting", "uncertainty"]
    flags += ["--teachers.big.bands", "[red, 2]", "--teachers.small.encoder", "mit_b1", "--teacher.views", "4"]
    flags += ["--teacher.cache", "views"]
    recipe = load_recipe(path, flags)
    assert recipe.losses.weights == {"ce": 0.5, "aux": 0.0, "big.kd": 3.0, "kd": 0.25}
    assert recipe.losses.weighting == "uncertainty"
    assert recipe.teacher is not None
    assert (recipe.teacher.encoder, recipe.teacher.views) == ("mit_b0", 4)
    assert recipe.teachers["big"].segmenter == "runs/a"
    assert recipe.teachers["big"].bands == ("red", 2)
    assert recipe.teachers["small"].encoder == "mit_b1"
    path.write_text(yaml.safe_dump(recipe_dict(recipe)))
    assert load_recipe(path) == recipe


def test_a_missing_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(GeodistillError, match="ktda-folder"):
        load_recipe("ktda-foldre")


def test_keys_are_dotted_and_complete() -> None:
    keys = recipe_keys(KtdaRecipe)
    assert {"method", "data.manifest", "network.encoder", "teacher.encoder", "losses.weights", "trainer.seed"} <= set(
        keys
    )


def test_a_flag_may_switch_off_what_the_file_has_settings_for() -> None:
    recipe = load_recipe("kda-folder", ["--losses.phase.steps", "0"])
    assert recipe.phase_steps == 0
    with pytest.raises(RecipeError, match=r"losses\.phase\.lr.*steps is 0"):
        load_recipe("kda-folder", ["--losses.phase.steps", "0", "--losses.phase.lr", "0.5"])


def test_a_recipe_whose_settings_a_flag_switched_off_is_taken_again() -> None:
    recipe = load_recipe("kda-landslide-distil", {"losses.phase.steps": 0})
    assert load_recipe(recipe) == recipe


def test_a_device_is_the_trainer_s_accelerator() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe key 'device'.*it is trainer\.accelerator"):
        load_recipe("student", ["--device", "cuda"])


def test_a_mistake_in_a_nested_setting_names_the_key_and_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe key 'trainer\.max_stepz'.*trainer\.max_steps"):
        load_recipe("student", {"trainer": {"max_stepz": 3}})
    assert load_recipe("ktda-folder", {"trainer": {"max_steps": 3}}).trainer.max_steps == 3


def test_files_that_a_recipe_names_by_key_and_what_they_are() -> None:
    values = {
        "data.manifests": ["a.parquet", "", "b.parquet"],
        "data.unlabelled": None,
        "data.crop": 64,
        "teacher.segmenter": ["student", "runs/teacher"],
        "teachers.old.segmenter": "student",  # the student itself, and no folder
        "network.encoder": "resnet18",
        "text.encoder": "bert",
        "losses.weights": {},
    }
    assert list(recipe_files(values)) == [
        ("data.manifests", "a.parquet", "manifest"),
        ("data.manifests", "b.parquet", "manifest"),
        ("teacher.segmenter", "student", "model"),
        ("teacher.segmenter", "runs/teacher", "model"),
        ("text.encoder", "bert", "model"),
    ]
