"""The recipe of those who name none: adapted to what there is, and told in four lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from control_worlds import write_world
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, RecipeError
from geodistill.spec import Legend
from geodistill.training import student_plan
from geodistill.training.student_plan import plan_recipe


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pretrained weights can be had."""

    def absent(*arguments: object) -> None:
        raise ArtifactError("weights that are not there", "some")

    monkeypatch.setattr(student_plan, "build_encoder", absent)


def test_without_weights_it_starts_at_random_and_says_how_to_name_some(town: Path) -> None:
    recipe, lines = plan_recipe("student", {"data.manifest": town})
    assert recipe.network.encoder_weights is None
    assert recipe.optimizer.encoder_lr is None
    assert recipe.teacher is None
    assert len(lines) == 4
    assert lines[0].startswith("start: mobilenetv2_100 from random weights, for weights that are not there")
    labels = "labels: 3 training images of 2 classes, none below 5 % of the pixels: all pixels count alike"
    shown = "; objects are shown in other colours or with the ground inside too"
    hint = "; where colour tells them, as with plants, name --data.recolour 0 --data.hollow 0"
    assert lines[1] == labels + shown + hint
    assert lines[2].startswith("images without labels: none")
    assert "on 2 validation images" in lines[3] or "on 1 validation images" in lines[3]


def test_with_weights_the_encoder_learns_more_slowly(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_plan, "build_encoder", lambda *arguments: None)
    recipe, lines = plan_recipe("student", {"data.manifest": town})
    assert recipe.network.encoder_weights == "pretrained"
    assert recipe.optimizer.encoder_lr is not None
    assert recipe.optimizer.encoder_lr < recipe.optimizer.lr
    assert "pretrained weights" in lines[0]


def test_a_rare_class_counts_more(tmp_path: Path) -> None:
    world = write_world("class-weights", tmp_path, 0, train=2, test=1)
    recipe, lines = plan_recipe("student", {"data.manifest": world.manifest})
    assert recipe.losses.class_weights == "auto"
    assert "target below 5 %" in lines[1]
    assert "the average of the last weights" in lines[3]


def test_images_without_labels_wait_for_a_teacher(tmp_path: Path) -> None:
    world = write_world("self-training", tmp_path, 0, train=2, test=1, unlabelled=2)
    asked = {"data.manifest": world.manifest, "data.unlabelled": world.unlabelled, "trainer.ema": 0.9}
    recipe, lines = plan_recipe("student", asked)
    assert recipe.teacher is None
    assert "pseudo" not in recipe.losses.weights
    assert lines[2].startswith("images without labels: left aside")
    taught, lines = plan_recipe("student", {**asked, "teacher.segmenter": "student"})
    assert taught.teacher is not None
    assert taught.trainer.ema == 0.9
    assert taught.losses.weights == {**recipe.losses.weights, "pseudo": 0.5}
    assert lines[2] == "images without labels: 38 % of the crops, under the teacher student"
    named = {**asked, "teacher.segmenter": "student", "losses.weights.pseudo": 1.0}
    assert plan_recipe("student", named)[0].losses.weights["pseudo"] == 1.0
    other = {**asked, "teacher.segmenter": "run", "losses.weights.kd": 0.7}
    assert "pseudo" not in plan_recipe("student", other)[0].losses.weights


@pytest.mark.parametrize(("encoder", "frozen", "share", "line"), [
    ("test_resnet", False, 0.2, ""),
    ("test_vit", False, 0.0, "; no style noise, for want of stages"),
    ("test_resnet", True, 0.0, "; no style noise, as it stands still"),
])  # fmt: skip
def test_an_encoder_that_cannot_use_style_noise_gets_none(
    town: Path, encoder: str, frozen: bool, share: float, line: str
) -> None:
    asked = {"data.manifest": town, "network.encoder": encoder, "network.frozen_encoder": frozen}
    recipe, lines = plan_recipe("student", asked)
    assert recipe.network.style_noise == share
    assert lines[0].partition("--network.encoder_weights FILE or FOLDER")[2] == line


def test_colours_that_tell_several_classes_apart_are_left_as_they_are(town: Path, tmp_path: Path) -> None:
    two = Manifest.load(town)
    manifest = tmp_path / "three.parquet"
    replace(two, legend=Legend(("ground", "building", "water"))).save(manifest)
    two_classes, _ = plan_recipe("student", {"data.manifest": town})
    assert two_classes.network.style_noise > 0
    assert min(two_classes.data.recolour, two_classes.data.hollow) > 0
    recipe, lines = plan_recipe("student", {"data.manifest": manifest})
    assert (recipe.network.style_noise, recipe.data.recolour, recipe.data.hollow) == (0, 0, 0)
    assert lines[1].endswith("; colours tell them apart and stay")
    shipped = (two_classes.network.style_noise, two_classes.data.recolour)
    for values in ((0.7, 0.3), shipped):  # also the recipe's own, where they are asked for
        asked = {"data.manifest": manifest, "network.style_noise": values[0], "data.recolour": values[1]}
        recipe, lines = plan_recipe("student", asked)
        assert (recipe.network.style_noise, recipe.data.recolour) == values
        assert lines[1].endswith("; objects are shown in other colours too")
    _, lines = plan_recipe("student", {"data.manifest": manifest, "data.hollow": 0.1})
    assert lines[1].endswith("; objects are shown with the ground inside too")


@pytest.mark.parametrize(("names", "what"), [
    (("background", "vegetation"), "vegetation"),
    (("other", "Tree crowns"), "Tree crowns"),
    (("non-forest", "forest"), "non-forest, forest"),
    (("rest", "LowVegetation"), "LowVegetation"),
    (("rest", "LOW_SHRUBS"), "LOW_SHRUBS"),
    (("rest", "greenhouse"), None),
    (("street", "roofs"), None),
    (("background", "water"), None),
])  # fmt: skip
def test_plants_keep_their_colours(town: Path, tmp_path: Path, names: tuple[str, str], what: str | None) -> None:
    manifest = tmp_path / "plants.parquet"
    replace(Manifest.load(town), legend=Legend(names)).save(manifest)
    recipe, lines = plan_recipe("student", {"data.manifest": manifest})
    kept = (recipe.network.style_noise, recipe.data.recolour, recipe.data.hollow) == (0, 0, 0)
    assert kept == (what is not None)
    assert lines[1].endswith("--data.hollow 0" if what is None else f"; colours tell {what} and stay")
    asked = plan_recipe("student", {"data.manifest": manifest, "data.recolour": 1.0})
    assert asked[0].data.recolour == 1.0
    assert ("where colour tells them" in asked[1][1]) == (what is None)


def test_what_the_user_asks_for_stays(town: Path, tmp_path: Path) -> None:
    world = write_world("class-weights", tmp_path, 0, train=2, test=1)
    flags = ["--data.manifest", str(world.manifest), "--losses.class_weights", "null"]
    recipe, lines = plan_recipe("student", flags)
    assert recipe.losses.class_weights is None
    assert lines[1].startswith(
        "labels: 2 training images of 2 classes, target below 5 % of the pixels: weighed as asked"
    )
    random = ["--data.manifest", str(town), "--network.encoder_weights", "null"]
    recipe, lines = plan_recipe("student", random)
    assert recipe.optimizer.encoder_lr is None
    assert lines[0] == "start: mobilenetv2_100 from random weights, as asked"
    assert plan_recipe("student", [*random, "--optimizer.encoder_lr=1e-4"])[0].optimizer.encoder_lr == 1e-4
    assert plan_recipe("supervised-folder", random)[1] == []


def test_values_asked_for_in_a_mapping_of_a_part_stay_too(town: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "three.parquet"
    replace(Manifest.load(town), legend=Legend(("ground", "building", "water"))).save(manifest)
    parts = {"optimizer": {"encoder_lr": 1e-4}, "network": {"style_noise": 0.5}, "data": {"recolour": 1.0}}
    flags = [text for part, values in parts.items() for text in (f"--{part}", json.dumps(values))]
    for recipe, _ in (
        plan_recipe("student", [*flags, "--data.manifest", str(manifest)]),
        plan_recipe("student", {**parts, "data.manifest": manifest}),
    ):
        assert recipe.optimizer.encoder_lr == 1e-4
        assert (recipe.network.style_noise, recipe.data.recolour) == (0.5, 1.0)
        assert recipe.network.encoder_weights is None  # nobody asked for them, and there are none


def test_what_is_asked_of_a_teacher_stays(tmp_path: Path) -> None:
    world = write_world("self-training", tmp_path, 0, train=2, test=1, unlabelled=2)
    asked = {"data.manifest": world.manifest, "data.unlabelled": world.unlabelled, "teacher.segmenter": "student"}
    for recipe in ("student", "self-training"):
        assert plan_recipe(recipe, {**asked, "losses.weights.pseudo": 0})[0].losses.weights["pseudo"] == 0
    confident, _ = plan_recipe("student", {**asked, "losses.pseudo_confidence": 0.9})
    assert confident.losses.weights["pseudo"] == 0.5
    encoder, _ = plan_recipe("student", {**asked, "teacher.segmenter": None, "teacher.encoder": "test_vit"})
    assert "pseudo" not in encoder.losses.weights
    other = {**asked, "teacher.segmenter": "run", "teachers.big.segmenter": "run", "losses.weights.big.pseudo": 0.5}
    both, lines = plan_recipe("student", other)
    assert (both.losses.weights["pseudo"], both.losses.weights["big.pseudo"]) == (0.5, 0.5)
    assert lines[2].endswith("under the teacher run, run")


def test_a_teacher_without_unlabelled_images_teaches_on_the_labelled_ones(town: Path, tmp_path: Path) -> None:
    recipe, lines = plan_recipe("student", {"data.manifest": town, "teacher.segmenter": "run"})
    assert recipe.losses.weights == {"ce": 1.0, "aux": 0.0, "dist_intra": 1.0}
    assert lines[2] == "images without labels: none; the teacher run on labelled ones"
    manifest = tmp_path / "three.parquet"
    replace(Manifest.load(town), legend=Legend(("ground", "building", "water"))).save(manifest)
    recipe, _ = plan_recipe("student", {"data.manifest": manifest, "teacher.segmenter": "run"})
    assert recipe.losses.weights == {"ce": 1.0, "aux": 0.0, "dist_intra": 1.0, "dist_inter": 1.0}


def test_unlabelled_images_may_be_left_aside(tmp_path: Path) -> None:
    world = write_world("self-training", tmp_path, 0, train=2, test=1, unlabelled=2)
    both = tmp_path / "both.parquet"
    assert world.unlabelled is not None
    labelled, others = Manifest.load(world.manifest), Manifest.load(world.unlabelled)
    replace(labelled, entries=(*labelled.entries, *others.entries)).save(both)
    asked = {"data.manifest": both, "teacher.segmenter": "run"}
    assert plan_recipe("student", asked)[0].data.unlabelled == str(both)
    recipe, lines = plan_recipe("student", {**asked, "data.unlabelled": None})
    assert recipe.data.unlabelled is None
    assert lines[2] == "images without labels: left aside; the teacher run on labelled ones"


def test_a_trained_model_is_a_start(town: Path) -> None:
    recipe, lines = plan_recipe("student", {"data.manifest": town, "init": "runs/first"})
    assert recipe.optimizer.encoder_lr == 3e-4
    assert lines[0].startswith("start: runs/first, a trained model")


def test_a_file_of_that_name_is_a_recipe_as_any_other(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(plan_recipe(Path("student"), {"data.manifest": town})[1]) == 4
    monkeypatch.chdir(tmp_path)
    Path("student").write_text("method: ktda\n")
    assert plan_recipe("student", {"data.manifest": town})[1] == []


def test_a_short_training_warms_up_for_a_tenth(town: Path) -> None:
    for steps, warmup in ((5, 1), (20, 2), (500, 50), (2000, 50)):
        recipe, _ = plan_recipe("student", {"data.manifest": town, "trainer.max_steps": steps})
        assert recipe.schedule.warmup_steps == warmup
    plan_recipe("student", {"data.manifest": town, "trainer.max_steps": 5, "schedule.warmup_start": 0.01})
    asked = {"data.manifest": town, "trainer.max_steps": 20, "schedule.warmup_steps": 15}
    assert plan_recipe("student", asked)[0].schedule.warmup_steps == 15


def test_negative_steps_are_refused_with_their_name(town: Path) -> None:
    with pytest.raises(RecipeError, match=r"trainer.max_steps -5"):
        plan_recipe("student", {"data.manifest": town, "trainer.max_steps": -5})


def test_lines_say_what_is_kept(town: Path) -> None:
    _, lines = plan_recipe("student", {"data.manifest": town, "trainer.ema": None})
    assert "the best weights on" in lines[3]


def test_the_printed_recipe_is_the_one_that_is_trained(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "three.parquet"
    replace(Manifest.load(town), legend=Legend(("ground", "building", "water"))).save(manifest)
    assert main(["fit", "student", str(manifest), "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["recolour"] == 0
    assert main(["fit", "student", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["recolour"] > 0


def test_the_lines_wait_for_a_run_that_begins(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["fit", "student", str(town), "--teacher.segmenter", str(tmp_path / "gone"), "--out", str(tmp_path / "run")]
    assert main(argv) == 2
    assert "start:" not in capsys.readouterr().err


@pytest.mark.slow
def test_fit_without_a_recipe_trains_it(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = "--network.encoder test_resnet --network.decoder_channels 8 --data.crop 32 --data.batch_size 2"
    steps = "--trainer.max_steps 2 --trainer.accelerator cpu --data.workers 0 --trainer.pictures 0"
    flags = ["--data.manifest", str(town), "--out", str(tmp_path / "run"), *tiny.split(), *steps.split()]
    assert main(["fit", *flags]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in shown[:4]] == ["start", "labels", "images without labels", "steps"]
    saved = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert saved["data"]["recolour"] > 0
