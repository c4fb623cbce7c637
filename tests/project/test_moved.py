"""A project that is copied or moved reads what lies beside it, and nothing of where it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detection_sets import make_detection_set
from factories import make_raster
from geodistill.data.manifest import Manifest
from geodistill.label import build_labels
from geodistill.project.fingerprints import stamp_file
from geodistill.project.planning import Selection
from geodistill.project.run_project import run_project
from geodistill.project.stage_keys import KeyParts
from geodistill.review.review_labels import ReviewOptions, export_review, open_review


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for seed, name in enumerate("abcd"):
        pixels = np.random.default_rng(seed).integers(0, 255, (3, 8, 8)).astype(np.uint8)
        make_raster(tmp_path / "here" / "town" / "images" / f"{name}.tif", pixels=pixels)
        make_raster(tmp_path / "here" / "town" / "masks" / f"{name}.tif", pixels=np.eye(8, dtype=np.uint8)[None])
    text = "scan: {images: town/images, masks: town/masks}\ncheck:\n"
    (tmp_path / "here" / "p.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "here" / "p.yaml"


def run(project: Path) -> dict[str, str]:
    summary = run_project(project, say=lambda line: None)
    return {name: stage["state"] for name, stage in summary["stages"].items()}


def files_of(project: Path) -> set[Path]:
    rows = Manifest.load(project.parent / "p" / "scan").entries
    return {file.parent.parent for row in rows for file in (row.image, row.mask) if file}


def test_a_copy_reads_its_files(project: Path, tmp_path: Path) -> None:
    run(project)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    copy = tmp_path / "there" / "p.yaml"
    assert files_of(copy) == {tmp_path / "there" / "town"}
    assert set(run(copy).values()) == {"unchanged"}


def write_as_before(project: Path) -> Path:
    """Run ``scan``, and leave its manifest as versions before wrote it: with whole paths."""
    run_project(project, Selection(until="scan"), say=lambda line: None)
    file, done = project.parent / "p" / "scan" / "manifest.parquet", project.parent / "p" / "done" / "scan.json"
    Manifest.load(file).save(file)
    record = json.loads(done.read_text(encoding="utf-8"))
    done.write_text(json.dumps(record | {"outputs": {file.name: stamp_file(file)}}), encoding="utf-8")
    return file


def test_whole_paths_of_before_are_made_anew_where_they_moved_and_nothing_else(project: Path, tmp_path: Path) -> None:
    write_as_before(project)
    assert run(project) == {"scan": "unchanged", "check": "runs"}
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "p.yaml"
    assert run(moved) == {"scan": "runs", "check": "unchanged"}
    assert files_of(moved) == {tmp_path / "there" / "town"}
    assert set(run(moved).values()) == {"unchanged"}


def test_a_lost_manifest_of_before_runs_nothing_else(project: Path, tmp_path: Path) -> None:
    file = write_as_before(project)
    run(project)
    file.unlink()
    assert run(project) == {"scan": "runs", "check": "unchanged"}
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "p.yaml"
    run(moved)
    (tmp_path / "there" / "p" / "scan" / "manifest.parquet").unlink()
    assert run(moved) == {"scan": "runs", "check": "unchanged"}
    assert files_of(moved) == {tmp_path / "there" / "town"}


def test_a_lost_manifest_of_before_that_comes_out_otherwise_runs_what_takes_it(project: Path) -> None:
    (project.parent / "p.yaml").write_text("scan: {images: town/images}\ncheck:\n", encoding="utf-8")
    file = write_as_before(project)
    done = project.parent / "p" / "done" / "scan.json"
    record = json.loads(done.read_text(encoding="utf-8"))
    del record["parts"]["files"]["masks beside the images"]  # which was not watched then
    record["key"] = KeyParts(**record["parts"]).key
    done.write_text(json.dumps(record), encoding="utf-8")
    run(project)
    file.unlink()
    make_raster(project.parent / "town" / "masks" / "a.tif", pixels=np.ones((1, 8, 8), np.uint8))
    assert run(project) == {"scan": "runs", "check": "runs"}


@pytest.mark.parametrize("place", ["scratch", "here/deep/results"])
def test_a_results_folder_that_is_a_link_has_a_manifest_for_both_its_names(
    project: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    (project.parent / "p").symlink_to(tmp_path / place)
    run(project)
    assert files_of(project) == {tmp_path / "here" / "town"}
    rows = Manifest.load(tmp_path / place / "scan").entries
    assert all(row.image.is_file() and row.mask is not None and row.mask.is_file() for row in rows)
    assert set(run(project).values()) == {"unchanged"}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Write a project of labels that have the images outside their folder."""
    make_detection_set(tmp_path / "here" / "set")
    text = "label: {images: set/images, boxes: set/boxes.json, format: coco, segmenter: box, background: sea}\ncheck:\n"
    (tmp_path / "here" / "p.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "here" / "p.yaml"


def images_of(project: Path) -> set[Path]:
    return {row.image.parent for row in Manifest.load(project.parent / "p" / "label").entries}


def test_a_copy_reads_the_images_of_its_labels(labels: Path, tmp_path: Path) -> None:
    run(labels)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    copy = tmp_path / "there" / "p.yaml"
    assert images_of(copy) == {tmp_path / "there" / "set" / "images"}
    assert set(run(copy).values()) == {"unchanged"}


def test_a_review_leaves_the_manifest_of_labels_as_it_is(labels: Path) -> None:
    run(labels)
    file = labels.parent / "p" / "label" / "manifest.parquet"
    before = file.read_bytes()
    with open_review(file.parent, ReviewOptions(reviewer="Ada")) as (session, _):
        session.decide("c", "Ada", 1, "accept", session.store.object(1)["last"])
    export_review(file.parent)
    assert file.read_bytes() == before
    assert run(labels)["label"] == "runs"
    assert file.read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*manifest.parquet is not as it was written and is made again")
def test_labels_of_before_are_made_anew_where_they_moved_and_else_go_on_as_they_are(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(build_labels, "moving_root", lambda *_: {})
        run(labels)
    file = labels.parent / "p" / "label" / "manifest.parquet"
    written = file.read_bytes()
    assert set(run(labels).values()) == {"unchanged"}
    file.unlink()
    assert run(labels) == {"label": "runs", "check": "unchanged"}
    assert file.read_bytes() == written
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "p.yaml"
    assert run(moved) == {"label": "runs", "check": "unchanged"}
    assert images_of(moved) == {tmp_path / "there" / "set" / "images"}
    assert set(run(moved).values()) == {"unchanged"}
