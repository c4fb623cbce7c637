"""Students beside their teacher."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, DataError, RecipeError
from geodistill.evaluation.comparison import Comparison, compare, flops, images_per_second
from geodistill.evaluation.evaluate import evaluate
from geodistill.segmenter import Segmenter
from reported import figures_of
from tiny import tiny_segmenter


def save(
    folder: Path, kind: str = "band", teacher: Path | None = None, miou: float | None = 0.5, data: str = "m.parquet"
) -> Path:
    """Leave a run whose recipe names a teacher."""
    segmenter = tiny_segmenter(kind)
    recipe: dict[str, Any] = {"teacher": None if teacher is None else {"segmenter": str(teacher)}}
    segmenter.provenance = {"recipe": recipe, "scores": {"validation_miou": miou}, "manifest": data}
    segmenter.save(folder / "segmenter")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    teacher = save(tmp_path / "teacher", "context", miou=0.8)
    return {
        "teacher": teacher,
        "student": save(tmp_path / "student", teacher=teacher, miou=0.6),
        "other": save(tmp_path / "other", teacher=teacher, miou=0.76),
        "alone": save(tmp_path / "alone", miou=0.55),
    }


def short(*models: Path, **options: Any) -> Comparison:
    return compare(models, **{"size": 16, "batch_size": 1, "repeats": 2} | options)


def test_a_teacher_is_found_and_comes_before_its_students(runs: dict[str, Path]) -> None:
    found = short(runs["student"], runs["alone"], runs["other"])
    names = [Path(model.name).name for model in found.models]
    assert names in (["alone", "teacher", "student", "other"], ["teacher", "student", "other", "alone"])
    by_name = {Path(model.name).name: model for model in found.models}
    assert by_name["student"].teacher == by_name["other"].teacher == str(runs["teacher"])
    assert by_name["teacher"].teacher is None
    assert by_name["alone"].teacher is None
    assert by_name["student"].kept == pytest.approx(0.75)
    assert by_name["other"].kept == pytest.approx(0.95)
    assert by_name["teacher"].kept is None
    assert found.notes == ()


def test_figures_are_those_of_the_models(runs: dict[str, Path]) -> None:
    found = short(runs["teacher"], runs["alone"])
    for model in found.models:
        segmenter = Segmenter.load(model.name)
        assert model.parameters == sum(p.numel() for p in segmenter.parameters())
        assert model.images_per_second > 0
    context = found.models[0]
    # Two 5 x 5 convolutions: 3 -> 8 and 8 -> 3 channels; a multiply-add is two.
    assert context.flops == 2 * 16 * 16 * 25 * (3 * 8 + 8 * 3)
    assert flops(Segmenter.load(context.name), 32) == 4 * context.flops
    assert found.size == 16
    assert short(runs["alone"], size=None).size == 16


def test_scores_of_a_manifest_are_evaluates_own(runs: dict[str, Path], manifest: Manifest) -> None:
    manifest.save(manifest.path)
    found = short(runs["student"], manifest=manifest.path)
    expected = {name: evaluate(str(runs[name]), manifest, "test").miou for name in ("teacher", "student")}
    teacher, student = found.models
    assert teacher.miou == pytest.approx(expected["teacher"])
    assert student.miou == pytest.approx(expected["student"])
    assert student.kept == pytest.approx(expected["student"] / expected["teacher"])
    assert "mIoU of test" in found.scored_on


def test_a_named_teacher_stands_for_what_recipes_say(runs: dict[str, Path]) -> None:
    found = short(runs["student"], runs["alone"], teacher=runs["other"])
    assert [Path(model.name).name for model in found.models] == ["other", "student", "alone"]
    assert [model.teacher for model in found.models] == [None, str(runs["other"]), str(runs["other"])]
    assert found.models[2].kept == pytest.approx(0.55 / 0.76)


def test_what_cannot_be_compared_is_said(tmp_path: Path, runs: dict[str, Path]) -> None:
    orphan = save(tmp_path / "orphan", teacher=tmp_path / "gone")
    stranger = save(tmp_path / "stranger", teacher=runs["teacher"], data="other.parquet")
    unscored = save(tmp_path / "unscored", teacher=runs["teacher"], miou=None)
    found = short(orphan, stranger, unscored)
    by_name = {Path(model.name).name: model for model in found.models}
    assert [by_name[name].kept for name in ("orphan", "stranger", "unscored")] == [None] * 3
    assert "which is not here" in found.notes[0]
    assert "validated on different data" in found.notes[1]
    assert all(note in str(found) for note in found.notes)


def test_models_that_teach_each_other_are_each_listed_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    save(first, teacher=second)
    save(second, teacher=first)
    assert len(short(first, second).models) == 2


@pytest.mark.parametrize(
    "provenance",
    [{}, {"recipe": None}, {"recipe": {"teacher": {"segmenter": 3}}}, {"recipe": [1], "scores": [2]}, {"scores": {}}],
)
def test_a_description_of_another_shape_is_no_teacher_and_no_score(tmp_path: Path, provenance: dict[str, Any]) -> None:
    segmenter = tiny_segmenter()
    segmenter.provenance = provenance
    segmenter.save(tmp_path / "s")
    (model,) = short(tmp_path / "s").models
    assert (model.teacher, model.miou, model.kept) == (None, None, None)
    assert f"{'-':>8}" in str(short(tmp_path / "s"))


def test_models_are_timed_in_turn() -> None:
    calls: list[str] = []
    models = []
    for name in ("a", "b"):
        segmenter = tiny_segmenter()
        segmenter.register_forward_hook(lambda module, args, out, name=name: calls.append(name))
        models.append(segmenter)
    rates = images_per_second(models, 16, batch_size=2, repeats=3)
    assert calls == ["a", "b"] * 4
    assert len(rates) == 2
    assert min(rates) > 0


def test_table_json_and_csv_agree(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [str(runs["student"]), "--size", "16", "--repeats", "1", "--csv", str(tmp_path / "c.csv")]
    assert main(["compare", *flags]) == 0
    text = capsys.readouterr().out
    assert main(["compare", *flags, "--json", "--report", str(tmp_path / "page.html")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert figures_of(tmp_path / "page.html")["models"] == data
    assert main(["compare", *flags, "--report", str(tmp_path / "page.txt")]) == 2
    with (tmp_path / "c.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [model["name"] for model in data["models"]]
    assert float(lines[1]["kept"]) == data["models"][1]["kept"] == pytest.approx(0.75)
    assert lines[0]["kept"] == ""
    assert "75.0 %" in text
    assert "GFLOPs" in text


def test_mistakes_are_refused(runs: dict[str, Path], tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="no Segmenter"):
        short(tmp_path / "nothing" / "there")
    with pytest.raises(RecipeError, match="at least 1"):
        short(runs["student"], size=0)
    with pytest.raises(RecipeError, match="device"):
        short(runs["student"], device="no-such-device")
    with pytest.raises(DataError):
        short(runs["student"], manifest=tmp_path / "none.parquet")


def test_the_models_weights_are_not_changed(runs: dict[str, Path]) -> None:
    before = Segmenter.load(runs["teacher"]).state_dict()
    short(runs["student"])
    after = Segmenter.load(runs["teacher"]).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_folder_that_is_called_student_taught_nobody_that_taught_itself(
    tmp_path: Path, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    itself = save(tmp_path / "itself", teacher=Path("student"))
    for folder in (tmp_path, tmp_path / "nobody"):  # with a run called student, and without
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        found = short(itself)
        assert [(model.name, model.teacher) for model in found.models] == [(str(itself), None)]
        assert found.notes == ()
