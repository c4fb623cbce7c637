"""Which stages run, and why: what depends on a change, and nothing else; what is gone, altered, or was stopped."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from factories import make_raster
from geodistill.errors import BusyError, DataError, OutputError
from geodistill.folders import HOLDER, LOCK, hold_folder
from geodistill.project.fingerprints import Fingerprints, stamp_file
from geodistill.project.map_stages import find_results
from geodistill.project.planning import Selection, result_of
from geodistill.project.project_file import read_project
from geodistill.project.run_project import run_project
from geodistill.project.stage_keys import KeyParts, key_parts
from geodistill.project.stage_recipe import in_full
from geodistill.project.wiring import wire
from geodistill.report.report_options import ReportOptions
from projects import ORDER, TOWN, StubStages, write_town


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> StubStages:
    return StubStages(monkeypatch)


@pytest.fixture
def town(tmp_path: Path) -> Path:
    return write_town(tmp_path)


def run(town: Path, **selection: str) -> dict[str, str]:
    summary = run_project(town, Selection(**selection), say=lambda line: None)
    return {name: stage["state"] for name, stage in summary["stages"].items()}


def plan(town: Path) -> dict[str, tuple[str, str]]:
    plans = run_project(town, dry=True, say=lambda line: None)
    return {name: (each["state"], each["reason"]) for name, each in plans.items()}


def test_all_runs_once_and_nothing_twice(town: Path, stages: StubStages) -> None:
    run(town)
    assert stages.taken() == ORDER
    assert set(run(town).values()) == {"unchanged"}
    assert stages.taken() == []
    done = json.loads((town.parent / "town" / "done" / "label.json").read_text())
    assert len(done["key"]) == 64
    assert list(done["outputs"]) == ["manifest.parquet"]


def test_a_changed_legend_reruns_what_depends_on_it_and_nothing_else(tmp_path: Path, stages: StubStages) -> None:
    scan = "scan:\n  images: images\n  masks: images\n  legend: names.yaml\n"
    town = write_town(tmp_path, TOWN + scan + "evaluate-labels: {data: $label}\n")
    (tmp_path / "names.yaml").write_text("classes: [a]\n", encoding="utf-8")
    run(town)
    stages.taken()
    (tmp_path / "legend.yaml").write_text("classes: [roof, street]\n", encoding="utf-8")
    planned = plan(town)
    assert planned["label"] == ("runs", "legend.yaml has changed")
    assert planned["evaluate-labels"] == ("runs", "label runs")
    assert {name for name, (state, _) in planned.items() if state == "unchanged"} == {
        *("scan", "check", "teacher", "distil", "evaluate", "predict", "export")
    }
    run(town)
    assert stages.taken() == ["label", "evaluate-labels"]


def test_a_dry_run_propagates_and_writes_nothing(town: Path, stages: StubStages) -> None:
    assert {state for state, _ in plan(town).values()} == {"runs"}
    assert not (town.parent / "town").exists()
    run(town)
    town.write_text(TOWN.replace("max_steps: 5", "max_steps: 6"), encoding="utf-8")
    planned = plan(town)
    assert planned["teacher"] == ("runs", "trainer.max_steps was 5, is 6")
    assert planned["distil"] == ("runs", "teacher runs")
    assert planned["predict"] == ("runs", "distil runs")
    assert [planned[name][0] for name in ("label", "check")] == ["unchanged"] * 2
    stages.taken()
    run(town)
    assert stages.taken() == ORDER[2:]


def test_settings_that_another_version_added_are_named() -> None:
    before, now = (KeyParts("teacher", 1, settings, {}, {}) for settings in ({"a": 1, "b": None}, {"a": 1, "c": None}))
    assert now.difference(asdict(before)) == "b is gone"
    assert KeyParts("teacher", 1, {"a": 1, "b": None, "c": 2}, {}, {}).difference(asdict(before)) == "c is new"
    assert KeyParts("teacher", 1, {"a": 2, "c": 2}, {}, {}).difference(asdict(before)) == "a was 1, is 2"


def test_content_counts_and_not_the_time_of_change(town: Path, stages: StubStages) -> None:
    run(town)
    image = town.parent / "images" / "a.tif"
    os.utime(image, (1, 1))
    assert {state for state, _ in plan(town).values()} == {"unchanged"}
    image.write_text("another image", encoding="utf-8")
    assert plan(town)["label"] == ("runs", "images has changed")


@pytest.mark.parametrize("name", ["tiles.parquet", "item.json", "scene.vrt"])
def test_what_scenes_are_made_of_counts(town: Path, stages: StubStages, name: str) -> None:
    part, made = make_raster(town.parent / "parts" / "a.tif"), town.parent / name
    if name == "tiles.parquet":
        pyarrow.parquet.write_table(pyarrow.table({"location": ["parts/a.tif"]}), made)
    elif name == "item.json":
        asset = {"href": "parts/a.tif", "type": "image/tiff"}
        made.write_text(json.dumps({"type": "Feature", "id": "x", "assets": {"data": asset}}), encoding="utf-8")
    else:
        made.write_text(f"<VRTDataset><SourceFilename>{part}</SourceFilename></VRTDataset>", encoding="utf-8")
    town.write_text(TOWN.replace("scenes: scene.tif", f"scenes: {name}"), encoding="utf-8")
    run(town)
    assert {state for state, _ in plan(town).values()} == {"unchanged"}
    make_raster(part, seed=7)
    assert plan(town)["predict"] == ("runs", f"{name} has changed")


def test_machines_and_devices_are_no_part_of_a_result(town: Path, stages: StubStages) -> None:
    run(town)
    town.write_text("workers: 4\ndevice: cpu\n" + TOWN, encoding="utf-8")
    assert {state for state, _ in plan(town).values()} == {"unchanged"}


def test_a_deleted_output_is_made_again_and_what_takes_it_only_where_it_differs(town: Path, stages: StubStages) -> None:
    run(town)
    stages.taken()
    (town.parent / "town" / "label" / "manifest.parquet").unlink()
    planned = plan(town)
    assert planned["label"] == ("runs", "manifest.parquet is gone")
    assert planned["teacher"] == ("perhaps", "unless label comes out as before")
    assert planned["distil"] == ("perhaps", "unless label and teacher come out as before")
    run(town)
    assert stages.taken() == ["label+"]
    stages.contents["teacher"] = "other weights"
    (town.parent / "town" / "teacher" / "segmenter").unlink()
    run(town)
    assert stages.taken() == ["teacher+", "distil", "evaluate", "predict", "export"][:2]


def test_an_output_altered_by_hand_is_refused(town: Path, stages: StubStages) -> None:
    run(town)
    stages.taken()
    output = town.parent / "town" / "label" / "manifest.parquet"
    output.write_text("by hand", encoding="utf-8")
    with pytest.raises(OutputError, match=r"manifest\.parquet was altered since stage label wrote it"):
        run(town)
    assert output.read_text(encoding="utf-8") == "by hand"
    assert stages.taken() == []


def test_a_file_of_somebody_else_is_not_removed(town: Path, stages: StubStages) -> None:
    run(town)
    notes = town.parent / "town" / "predict" / "notes.txt"
    notes.write_text("mine", encoding="utf-8")
    (town.parent / "scene.tif").write_text("another scene", encoding="utf-8")
    with pytest.raises(OutputError, match=r"holds notes\.txt, which stage predict did not write"):
        run(town)
    assert notes.read_text(encoding="utf-8") == "mine"


def test_a_failed_stage_resumes_and_what_was_done_stays(town: Path, stages: StubStages) -> None:
    stages.failing = "distil"
    with pytest.raises(DataError):
        run(town)
    summary = json.loads((town.parent / "town" / "run.json").read_text())
    assert summary["stages"]["distil"]["state"] == "failed"
    assert summary["stages"]["label"]["state"] == "runs"
    stages.failing = ""
    stages.taken()
    assert plan(town)["distil"] == ("resumes", "it was stopped")
    run(town)
    assert stages.taken() == ["distil+", "evaluate", "predict", "export"]


def test_a_stopped_stage_begins_anew_where_its_settings_changed(town: Path, stages: StubStages) -> None:
    stages.failing = "distil"
    with pytest.raises(DataError):
        run(town)
    stages.failing = ""
    stages.taken()
    town.write_text(TOWN.replace("distil-folder", "distil-folder\n  trainer.max_steps: 9"), encoding="utf-8")
    assert plan(town)["distil"] == ("runs", "it was begun with other settings, inputs or versions")
    run(town)
    assert stages.taken()[0] == "distil"


def test_stages_are_chosen(town: Path, stages: StubStages) -> None:
    with pytest.raises(OutputError, match="stage label, which teacher takes, is not done"):
        run(town, only="teacher")
    assert run(town, until="teacher")["distil"] == "left out"
    assert stages.taken() == ["label", "check", "teacher"]
    run(town, start="distil")
    assert stages.taken() == ["distil", "evaluate", "predict", "export"]
    (town.parent / "legend.yaml").write_text("classes: [roof]\n", encoding="utf-8")
    assert run(town, only="export")["export"] == "unchanged"
    assert stages.taken() == []


def test_a_stage_is_given_from_outside(tmp_path: Path, stages: StubStages) -> None:
    for name in ("segmenter.json", "model.safetensors"):
        (tmp_path / "big").mkdir(exist_ok=True)
        (tmp_path / "big" / name).write_text(name, encoding="utf-8")
    text = TOWN.replace("teacher:\n  recipe: supervised-folder\n  trainer.max_steps: 5\n", "teacher: big\n")
    town = write_town(tmp_path, text)
    assert run(town)["teacher"] == "given"
    assert stages.taken() == [name for name in ORDER if name != "teacher"]
    (tmp_path / "big" / "model.safetensors").write_text("others", encoding="utf-8")
    assert plan(town)["distil"] == ("runs", "teacher has changed")


def test_a_live_run_keeps_the_folder_and_a_dead_one_does_not(town: Path, stages: StubStages) -> None:
    out = town.parent / "town"
    with hold_folder(out, "run"), pytest.raises(BusyError, match="in use by 'geodistill run'"):
        run(town)
    assert stages.taken() == []
    (out / LOCK).touch()
    (out / HOLDER).write_text('{"verb": "run", "process": 1, "machine": "gone", "since": 0}', encoding="utf-8")
    run(town)
    assert stages.taken() == ORDER


def test_one_record_holds_inputs_seeds_scores_and_seconds(town: Path, stages: StubStages) -> None:
    run(town)
    summary = json.loads((town.parent / "town" / "run.json").read_text())
    assert set(summary["inputs"]) == {"images", "boxes.json", "legend.yaml", "scene.tif"}
    label = summary["stages"]["label"]
    assert label["facts"] == {"seed": 0}
    assert label["seconds"] >= 0
    assert "geodistill" in label["versions"]
    assert label["files"] == 1


def test_a_folder_called_student_is_no_part_of_a_recipe_that_teaches_itself(town: Path, stages: StubStages) -> None:
    itself = "distil:\n  recipe: student\n  teacher.segmenter: student\n"
    town.write_text(TOWN.replace("distil:\n  recipe: distil-folder\n", itself), encoding="utf-8")
    run(town)
    folder = town.parent / "student"
    folder.mkdir()
    (folder / "segmenter.json").write_text("{}", encoding="utf-8")
    assert {state for state, _ in plan(town).values()} == {"unchanged"}
    project = read_project(town)
    assert in_full(project, "teacher.segmenter", "student") == "student"
    assert in_full(project, "teacher.segmenter", ["student"]) == [str(folder)]
    assert in_full(project, "init", "student") == str(folder)


def test_masks_that_are_found_count(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, "scan: {images: images}\nteacher: {recipe: supervised-folder}\n")
    run(town)
    stages.taken()
    masks = make_raster(tmp_path / "masks" / "a.tif", channels=1)
    assert plan(town)["scan"] == ("runs", "masks beside the images has changed")
    run(town)
    assert stages.taken() == ["scan", "teacher"]
    masks.unlink()
    assert plan(town)["teacher"] == ("runs", "scan runs")


def test_a_result_of_before_masks_counted_stays_and_is_watched_from_now_on(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, "scan: {images: images}\nteacher: {recipe: supervised-folder}\n")
    run(town)
    scan_key = ""
    for name in ("scan", "teacher"):  # as the versions before wrote them
        file = tmp_path / "town" / "done" / f"{name}.json"
        record = json.loads(file.read_text(encoding="utf-8"))
        del record["besides"]
        record["parts"]["files"].pop("masks beside the images", None)
        record["parts"]["needs"] = {"scan": scan_key} if scan_key else {}
        scan_key = record["key"] = KeyParts(**record["parts"]).key
        file.write_text(json.dumps(record), encoding="utf-8")
    stages.taken()
    run(town)
    assert stages.taken() == []
    make_raster(tmp_path / "masks" / "a.tif", channels=1)
    run(town)
    assert stages.taken() == ["scan", "teacher"]


def test_class_names_above_yolos_boxes_count(tmp_path: Path, stages: StubStages) -> None:
    text = "label: {images: images, boxes: train/labels, format: yolo}\n"
    town, names = write_town(tmp_path, text), tmp_path / "data.yaml"
    (tmp_path / "train" / "labels").mkdir(parents=True)
    names.write_text("names: [roof, road]\n", encoding="utf-8")
    run(town)
    names.write_text("names: [road, roof]\n", encoding="utf-8")
    assert plan(town)["label"] == ("runs", "list of classes has changed")


def test_labels_begun_before_class_names_counted_go_on(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path, "label: {images: images, boxes: images, format: yolo}\n")
    stages.failing = "label"
    with pytest.raises(DataError):
        run(town)
    started = tmp_path / "town" / "done" / "label.started.json"
    project = read_project(town)
    parts = key_parts(project, wire(project)["label"], {}, Fingerprints(tmp_path / "memo.json"))
    assert parts.former[-1].key != parts.key
    started.write_text(json.dumps({"key": parts.former[-1].key, "taken": {}}), encoding="utf-8")
    stages.failing = ""
    run(town)
    assert stages.taken() == ["label", "label+"]


def test_a_file_of_somebody_else_outlives_a_stage_that_was_stopped(town: Path, stages: StubStages) -> None:
    run(town)
    folder = town.parent / "town" / "export"
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "result.txt").unlink()
    for to in ("onnx", "hub"):  # the same result, which would be stopped, and then another
        town.write_text(TOWN.replace("to: onnx", f"to: {to}"), encoding="utf-8")
        with pytest.raises(OutputError, match=r"holds notes\.txt, which stage export did not write"):
            run(town)
    assert (folder / "notes.txt").is_file()


def test_statistics_that_qgis_writes_beside_a_map_alter_nothing(town: Path, stages: StubStages) -> None:
    run(town)
    folder, done = town.parent / "town" / "predict", town.parent / "town" / "done" / "predict.json"
    side = folder / "scene.tif.aux.xml"
    side.write_text("classes", encoding="utf-8")
    record = json.loads(done.read_text(encoding="utf-8"))  # versions before watched it
    record["outputs"][side.name] = stamp_file(side)
    done.write_text(json.dumps(record), encoding="utf-8")
    side.write_text("classes and statistics", encoding="utf-8")
    assert plan(town)["predict"][0] == "unchanged"
    (folder / "result.txt").unlink()
    (folder / "another.tif.aux.xml").touch()
    stages.taken()
    run(town)
    assert stages.taken() == ["predict+"]


def test_a_page_shows_no_model_of_before_where_another_is_given(town: Path, stages: StubStages) -> None:
    run(town)
    shown = find_results(read_project(town), ["teacher"], ReportOptions())[1]
    assert shown == town.parent / "town" / "teacher"
    town.write_text("teacher: big\n", encoding="utf-8")
    with pytest.raises(DataError, match="no stage to write one about"):
        find_results(read_project(town), ["teacher"], ReportOptions())


def test_a_model_of_the_hub_is_given_by_its_name(tmp_path: Path) -> None:
    project = read_project(write_town(tmp_path, "teacher: owner/name\nevaluate: {data: m}\nscan: owner/name\n"))
    wired = wire(project)
    assert result_of(project, wired, "teacher") == "owner/name"
    assert result_of(project, wired, "scan") == str(tmp_path / "owner" / "name")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert result_of(project, wired, "teacher") == str(tmp_path / "owner" / "name")


def test_what_was_trained_when_a_device_counted_stays(tmp_path: Path, stages: StubStages) -> None:
    text = "scan: {images: images, masks: images}\nteacher: {recipe: supervised-folder}\n"
    town = write_town(tmp_path, "device: cpu\n" + text)
    run(town)
    done = tmp_path / "town" / "done" / "teacher.json"
    record = json.loads(done.read_text(encoding="utf-8"))
    assert record["parts"]["settings"]["trainer.accelerator"] == "auto"
    del record["besides"]
    record["parts"]["settings"]["trainer.accelerator"] = "cpu"
    record["key"] = KeyParts(**record["parts"]).key
    done.write_text(json.dumps(record), encoding="utf-8")
    assert plan(town)["teacher"][0] == "unchanged"
    town.write_text(text, encoding="utf-8")
    assert run(town)["teacher"] == "unchanged"


def test_what_was_begun_elsewhere_begins_anew(tmp_path: Path, stages: StubStages) -> None:
    town = write_town(tmp_path / "here", "label: {images: images, boxes: boxes.json, format: coco}\n")
    stages.failing = "label"
    with pytest.raises(DataError):
        run(town)
    (tmp_path / "here").rename(tmp_path / "there")
    stages.failing, town = "", tmp_path / "there" / "town.yaml"
    run(town)
    (tmp_path / "there").rename(tmp_path / "again")
    town = tmp_path / "again" / "town.yaml"
    assert run(town) == {"label": "unchanged"}
    (tmp_path / "again" / "town" / "label" / "manifest.parquet").unlink()
    run(town)
    assert stages.taken() == ["label", "label", "label"]
