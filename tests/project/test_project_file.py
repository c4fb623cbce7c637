"""A project file is strict: what it does not know, or cannot be, is one clear line before anything runs."""

from pathlib import Path

import pytest

from geodistill.cli import main
from geodistill.errors import GeodistillError
from geodistill.label.postprocess import Rules
from geodistill.project.data_stages import label_settings
from geodistill.project.map_stages import predict_options
from geodistill.project.project_file import read_project
from geodistill.project.wiring import wire
from projects import TOWN, write_town


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labl: {}", "unknown key of .*'labl'.* label"),
        (TOWN.replace("format:", "fromat:"), "unknown key of .*, label 'fromat'; .*format"),
        (TOWN + "scan:\n  images: i\n  split: {kinds: file}\n", "unknown key of .*, scan.split 'kinds'; .*kind"),
        (TOWN.replace("  format: coco", "  format: coco\n  tile: big"), r"label, tile: 'big'; expected .*integer"),
        (TOWN.replace("  boxes: boxes.json\n", ""), "label without boxes"),
        ("seed: 1\n", "without a stage"),
        ("- label\n", "is a list; expected a mapping of stages"),
        ("label: {}\nlabel: {}\n", "the key 'label' stands twice"),
        ("label: [a]\n", "label: \\['a'\\]; expected its keys, or the path"),
        ("teacher: {recipe: $distil, data.manifest: m}\ndistil: {recipe: $teacher}", "unknown recipe"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(GeodistillError, match=says):
        wire(read_project(write_town(tmp_path, text)))


def test_stages_that_wait_for_each_other_are_named(tmp_path: Path) -> None:
    stages = TOWN.replace("trainer.max_steps: 5", "init: $distil")
    with pytest.raises(GeodistillError, match=r"wait for each other \((teacher|distil) -> "):
        wire(read_project(write_town(tmp_path, stages)))


def test_what_goes_without_saying(tmp_path: Path) -> None:
    wired = wire(read_project(write_town(tmp_path, "seed: 3\n" + TOWN)))
    assert list(wired) == ["label", "check", "teacher", "distil", "evaluate", "predict", "export"]
    assert wired["teacher"].settings["data.manifest"] == "$label"
    assert wired["teacher"].settings["trainer.seed"] == 3
    assert wired["distil"].settings["teacher.segmenter"] == "$teacher"
    assert wired["predict"].settings["model"] == "$distil"
    assert wired["teacher"].needs == ("label",)
    assert wired["teacher"].after == ("check",)
    assert wired["label"].settings["seed"] == 3


def test_the_only_teacher_teaches_whatever_it_is_called(tmp_path: Path) -> None:
    assert "\nteacher:" in TOWN
    town = TOWN.replace("\nteacher:", "\nteacher-big:")
    assert wire(read_project(write_town(tmp_path, town)))["distil"].settings["teacher.segmenter"] == "$teacher-big"


def test_features_are_learnt_from_the_teachers_encoder(tmp_path: Path) -> None:
    adapt = "adapt: {recipe: ktda-folder}\n"
    text = TOWN.replace("trainer.max_steps: 5", "network.encoder: resnet50")
    wired = wire(read_project(write_town(tmp_path, text + adapt)))
    adapted = wired["adapt"].settings
    assert (adapted["teacher.weights"], adapted["teacher.encoder"]) == ("$teacher", "resnet50")
    assert adapted["trainer.max_steps"] == 0
    assert wired["distil"].settings["network.encoder_weights"] == "$adapt"


def test_several_sets_are_pre_trained_on(tmp_path: Path) -> None:
    text = "scan-a: {images: a}\nscan-b: {images: b}\nsep: {recipe: sep}\nteacher: {recipe: sep-finetune}\n"
    with pytest.raises(GeodistillError, match="teacher: stages of data: 2"):
        wire(read_project(write_town(tmp_path, text)))
    text += "scan: {images: images}\n"
    wired = wire(read_project(write_town(tmp_path, text)))
    assert wired["sep"].settings["data.manifests"] == ["$scan-a", "$scan-b", "$scan"]
    assert wired["teacher"].settings["init"] == "$sep"


def test_images_without_labels_are_no_set_to_pre_train_on(tmp_path: Path) -> None:
    text = "scan-a: {images: a}\nscan-x: {images: x, unlabelled: true}\ncheck:\nsep: {recipe: sep}\n"
    wired = wire(read_project(write_town(tmp_path, text)))
    assert wired["check"].settings["data"] == wired["sep"].settings["data.manifest"] == "$scan-a"
    wired = wire(read_project(write_town(tmp_path, "scan-b: {images: b}\n" + text.replace("check:\n", ""))))
    assert wired["sep"].settings["data.names"] == ["scan-b", "scan-a"]


def test_a_preset_counts_as_it_does_for_the_command(tmp_path: Path) -> None:
    text = "label: {{images: images, boxes: boxes.json, preset: sota, {}}}\npredict: {{scenes: a.tif, aoi: a.gpkg}}"
    project = read_project(write_town(tmp_path, text.format("rules: {fill_holes: true}")))
    settings = label_settings(project, project.stages["label"].settings)
    assert (settings.tile, settings.split, settings.fractions) == (1024, "source", (0.95, 0.05, 0.0))
    assert settings.rules == Rules(keep_component=False, fill_holes=True, max_outside=None, min_score=None)
    assert predict_options(project, project.stages["predict"].settings).aoi == str(tmp_path / "a.gpkg")
    project = read_project(write_town(tmp_path, text.format("lists: lists")))
    settings = label_settings(project, project.stages["label"].settings)
    assert (settings.split, settings.lists) == ("random", tmp_path / "lists")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("images: images", "images: pictures"), "pictures is not there"),
        (("scenes: scene.tif", "scenes: none.tif"), "none.tif is not there"),
        (("scenes: scene.tif", "scenes: scene.tif\n  overlap: 0.9"), "overlap 0.9"),
        (("scenes: scene.tif", "scenes: scene.tif\n  aoi: none.gpkg"), "none.gpkg is not there"),
        (("format: coco", "format: coco\n  lists: nowhere"), "nowhere is not there"),
        (("format: coco", "format: cocoa"), "unknown format of boxes 'cocoa'"),
        (("label:\n", "out: .\nlabel:\n"), "which is read"),
    ],
)
def test_inputs_are_looked_at_before_anything_runs(
    tmp_path: Path,
    change: tuple[str, str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geodistill.project.stage_keys.resolved_recipe", lambda *_: {})
    town = write_town(tmp_path, TOWN.replace(*change))
    assert main(["run", str(town), "--dry"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_the_command_prints_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.project.stage_keys.resolved_recipe", lambda *_: {})
    town = write_town(tmp_path)
    assert main(["run", str(town), "--dry"]) == 0
    assert "label        runs: it is not done yet" in capsys.readouterr().out
    assert main(["run", str(town), "--dry", "--only", "a", "--from", "b"]) == 2
    assert main(["run", str(town), "--dry", "--until", "lable"]) == 2
    assert "unknown stage 'lable'" in capsys.readouterr().err
