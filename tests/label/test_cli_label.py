from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from detection_sets import make_detection_set
from factories import truncate
from geodistill.cli import main
from geodistill.cli.arguments import parse
from geodistill.cli.label import LABEL_VERBS, build_parser, settings_of
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.label.ablation import PromptAblation
from geodistill.label.build_labels import WorkerOptions
from geodistill.label.config import LabelSettings
from geodistill.label.postprocess import NO_RULES, Rules
from geodistill.label.presets import PRESETS


def settings_from(*flags: str) -> LabelSettings:
    return settings_of(parse(build_parser(), ["--images", "i", "--boxes", "b", "--out", "o", *flags]))


def test_defaults() -> None:
    settings = settings_from("--format", "coco")
    assert settings == LabelSettings(Path("i"), Path("b"), "coco", rules=Rules(min_score=0.75))
    assert settings_from("--format", "coco", "--segmenter", "box").rules == Rules()
    assert settings_from("--format", "coco", "--min-score", "none").rules == Rules()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_sets_everything_and_flags_win(name: str) -> None:
    settings = settings_from("--preset", name)
    preset = PRESETS[name]
    assert (settings.format, settings.classes, settings.tile) == (preset.format, preset.classes, preset.tile)
    assert settings.rules == NO_RULES
    assert settings.colours == preset.colours
    assert (settings.fractions, settings.split) == ((0.95, 0.05, 0.0), "source")
    assert settings_from("--preset", name, "--lists", "lists").lists == Path("lists")
    other = settings_from("--preset", name, "--segmenter", "grabcut", "--tile", "512", "--fill-holes", "yes")
    assert (other.segmenter, other.tile) == ("grabcut", 512)
    assert other.rules == Rules(keep_component=False, max_outside=None)


FLAGS: list[tuple[list[str], dict[str, Any]]] = [
    (["--category-field", "kind"], {"category_field": "kind"}),
    (["--segmenter", "sam:weights"], {"segmenter": "sam:weights"}),
    (["--prompt", "cp+hbox"], {"prompt": "cp+hbox"}),
    (["--tile", "64", "--overlap", "8"], {"tile": 64, "overlap": 8}),
    (["--share", "0.25"], {"share": 0.25}),
    (["--bands", "4", "3", "2"], {"bands": (4, 3, 2)}),
    (["--background", "ground"], {"background": "ground"}),
    (["--empty", "keep"], {"empty": "keep"}),
    (["--difficult", "drop"], {"keep_difficult": False}),
    (["--order", "annotation"], {"order": "annotation"}),
    (["--fractions", "0.5", "0.3", "0.2"], {"fractions": (0.5, 0.3, 0.2)}),
    (["--split", "source"], {"split": "source"}),
    (["--lists", "lists"], {"lists": Path("lists")}),
    (["--group-regex", r"Tile_\d"], {"group_regex": r"Tile_\d"}),
    (["--seed", "9"], {"seed": 9}),
]
WORK: list[tuple[list[str], dict[str, Any]]] = [
    (["--engine", "ray", "--address", "auto", "--gpus", "0.5"], {"engine": "ray", "address": "auto", "gpus": 0.5}),
    (["--workers", "3", "--batch-size", "2", "--device", "cpu"], {"workers": 3, "batch": 2, "device": "cpu"}),
]


@pytest.mark.parametrize(("flags", "changed"), FLAGS, ids=str)
def test_each_flag_reaches_its_setting(flags: list[str], changed: dict[str, Any]) -> None:
    rules = Rules() if "--segmenter" in flags else Rules(min_score=0.75)
    assert settings_from("--format", "coco", *flags) == LabelSettings(
        Path("i"), Path("b"), "coco", rules=rules, **changed
    )


@pytest.mark.parametrize(("flags", "changed"), WORK, ids=str)
def test_each_flag_reaches_the_work(flags: list[str], changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def stop(*_: object, **named: Any) -> None:
        calls.append(named)
        raise RecipeError("stop", "")

    monkeypatch.setattr("geodistill.label.build_labels.build", stop)
    given = ["--images", "i", "--boxes", "b", "--out", "o", "--format", "coco"]
    assert main(["label", "build", *given, *flags, "--resume", "--keep-going"]) == 2
    assert calls == [{"work": WorkerOptions(**changed), "resume": True, "keep_going": True, "progress": True}]


def test_no_flag_of_build_is_left_out_here() -> None:
    tried = {flag for flags, _ in FLAGS + WORK for flag in flags if flag.startswith("--")}
    known = {flag for action in build_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    elsewhere = {"--help", "--images", "--boxes", "--out", "--format", "--json", "--report", "--resume", "--keep-going"}
    rules = {
        "--keep-component",
        "--no-keep-component",
        "--fill-holes",
        "--no-fill-holes",
        "--max-outside",
        "--min-score",
    }
    assert known - tried == elsewhere | rules | {"--preset", "--classes", "--legend"}


def test_ablate_takes_what_build_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def stop(*given: Any, **named: Any) -> None:
        calls.append((given, named))
        raise RecipeError("stop", "")

    monkeypatch.setattr("geodistill.label.ablation.ablate", stop)
    given = ["label", "ablate", "--images", "i", "--boxes", "b", "--format", "geojson"]
    flags = ["--category-field", "kind", "--tile", "64", "--overlap", "8", "--share", "0.25", "--instances", "true"]
    assert main([*given, *flags, "--prompts", "hbox", "--segmenter", "box", "--bands", "1", "--workers", "2"]) == 2
    question = PromptAblation("box", (("hbox",),), tile=64, overlap=8, share=0.25, bands=(1,), instances=Path("true"))
    (((*place, asked), named),) = calls
    assert (place, asked) == (["geojson", Path("b"), Path("i")], question)
    assert named == {"category_field": "kind", "work": WorkerOptions(workers=2), "progress": True}
    assert main([*given, "--share", "0"]) == 2
    assert "share 0.0; expected above 0, at most 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "rest", "background", "told"),
    [
        ((None, None), "", False, ""),
        ((0, 1), "", False, ""),
        ((1, 2), "", True, ""),
        ((0, 1), "ignore: [255, '#ffffff']\n", False, ""),  # as a label set has it
        ((7, 1), "", False, "values 0 to 1 in the order of the classes"),
        ((1, 0), "", False, "values 0 to 1 in the order of the classes"),
        ((1, 2), "", False, "values 0 to 1 in the order of the classes"),
        ((7, 8), "", True, "values 1 to 2 in the order of the classes"),
        ((0, 1), "ignore: [9]\n", False, "255 for no label"),
    ],
)
def test_mask_values_of_a_legend_are_told_where_the_masks_will_have_others(
    values: tuple[int | None, int | None],
    rest: str,
    background: bool,
    told: str,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    warnings.simplefilter("always")
    legend = tmp_path / "legend.yaml"
    entries = [
        f"  {name}: {{colour: '#{n}{n}0000'{'' if value is None else f', value: {value}'}}}\n"
        for n, (name, value) in enumerate(zip(("ship", "dock"), values, strict=True), 1)
    ]
    legend.write_text(f"classes:\n{''.join(entries)}{rest}")
    ground = ["--background", "ground"] if background else []
    assert settings_from("--format", "dota", "--legend", str(legend), *ground).classes == ("ship", "dock")
    assert [told in str(one.message) for one in recwarn] == ([True] if told else [])


def test_classes_and_legend(tmp_path: Path) -> None:
    legend = tmp_path / "legend.yaml"
    legend.write_text("classes: {ship: '#ff0000', dock: '#00ff00'}\n")
    settings = settings_from("--format", "dota", "--legend", str(legend))
    assert (settings.classes, settings.colours) == (("ship", "dock"), ((255, 0, 0), (0, 255, 0)))
    assert settings_from("--format", "dota", "--classes", "a", "b").classes == ("a", "b")
    with pytest.raises(RecipeError, match="one of them"):
        settings_from("--format", "dota", "--classes", "a", "--legend", str(legend))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--preset", "sito"], UnknownNameError),
        ([], RecipeError),
        (["--format", "coco", "--fill-holes", "perhaps"], RecipeError),
        (["--format", "coco", "--max-outside", "much"], RecipeError),
        (["--format", "coco", "--difficult", "no"], UnknownNameError),
    ],
)
def test_wrong_flags(flags: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        settings_from(*flags)


def test_rules_from_flags() -> None:
    settings = settings_from(
        "--format", "coco", "--max-outside", "none", "--min-score", "0.4", "--keep-component", "no"
    )
    assert settings.rules == Rules(keep_component=False, max_outside=None, min_score=0.4)


@pytest.mark.slow
def test_build_and_ablate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 4)
    where = ["--images", str(source / "images"), "--boxes", str(source / "boxes.json"), "--format", "coco"]
    out = tmp_path / "out"
    assert main(["label", "build", *where, "--out", str(out), "--max-outside", "0.9"]) == 0
    told = capsys.readouterr().out
    assert "4 images in: 3 labelled, 1 empty, 0 failed" in told
    assert "12 boxes in: 12 labelled" in told
    assert main(["label", "build", *where, "--out", str(out)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["label", "build", *where, "--out", str(out), "--max-outside", "0.9", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["boxes"]["in"] == 12
    assert main(["label", "ablate", *where, "--prompts", "hbox", "cp+hbox", "--out", str(tmp_path / "table")]) == 0
    table = capsys.readouterr().out
    assert "cp+hbox" in table
    assert "(H-Box filled)" in table
    assert (tmp_path / "table/ablation.csv").is_file()
    assert (
        main(["label", "stats", "--set", str(out), str(source / "boxes.json"), "--out", str(tmp_path / "stats")]) == 0
    )
    assert "12 instances" in capsys.readouterr().out
    assert (tmp_path / "stats/comparison.csv").is_file()
    assert main(["label", "stats", "--set", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["instances"] == [6, 6]


def test_the_status_tells_of_images_that_do_not_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    truncate(source / "images/scene_0.png")
    where = ["--images", str(source / "images"), "--boxes", str(source / "boxes.json"), "--format", "coco"]
    build = ["label", "build", *where, "--segmenter", "box"]
    assert main([*build, "--out", str(tmp_path / "a")]) == 2
    assert "1 of 3 images failed" in capsys.readouterr().err
    assert main([*build, "--out", str(tmp_path / "b"), "--keep-going"]) == 0
    assert "1 failed" in capsys.readouterr().out
    compare = ["label", "ablate", *where, "--segmenter", "box", "--prompts", "hbox"]
    assert main(compare) == 2
    assert main([*compare, "--keep-going"]) == 0
    assert "failed: " in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(LABEL_VERBS))
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["label", verb, "--help"])
    assert stop.value.code == 0
    assert f"example:\n  geodistill label {verb}" in capsys.readouterr().out
