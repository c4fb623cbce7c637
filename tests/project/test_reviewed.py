"""Labels of a project that a person went over where they lie: taken in, kept over a change, and nothing else let by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection_sets import make_detection_set, read_coco, write_boxes
from geodistill.errors import OutputError, RecipeError
from geodistill.folders import hold_folder
from geodistill.project.planning import Selection
from geodistill.project.run_project import run_project
from geodistill.review.review_labels import ReviewOptions, export_review, open_review

PROJECT = """\
label: {images: set/images, boxes: set/boxes.json, format: coco, segmenter: box, background: sea}
check:
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_detection_set(tmp_path / "set")
    (tmp_path / "town.yaml").write_text(PROJECT, encoding="utf-8")
    run(tmp_path / "town.yaml")
    return tmp_path / "town.yaml"


def run(project: Path, **selection: str) -> dict[str, tuple[str, str]]:
    summary = run_project(project, Selection(**selection), say=lambda line: None)
    return {name: (stage["state"], stage.get("reason", "")) for name, stage in summary["stages"].items()}


def review(labels: Path, *verdicts: str) -> None:
    """Decide about the first objects, and write it into the labels."""
    with open_review(labels, ReviewOptions(reviewer="Ada")) as (session, _):
        for number, verdict in enumerate(verdicts, 1):
            session.decide("c", "Ada", number, verdict, session.store.object(number)["last"])
    export_review(labels)


def reviewed(labels: Path) -> int:
    """Return how many decisions are in the labels."""
    return int(json.loads((labels / "label.json").read_text()).get("review", {}).get("decided", 0))


def test_an_exported_review_is_taken_in_and_what_depends_on_it_runs(project: Path) -> None:
    labels = project.with_suffix("") / "label"
    review(labels, "drop", "accept")
    planned = run_project(project, dry=True, say=lambda line: None)
    assert planned["label"] == {"state": "runs", "reason": "its result was reviewed"}
    assert planned["check"] == {"state": "perhaps", "reason": "unless label comes out as before"}
    with pytest.raises(OutputError, match="stage label, which check takes: its result was reviewed; run label too"):
        run(project, only="check")
    assert [state for state, _ in run(project).values()] == ["runs", "runs"]
    assert reviewed(labels) == 2
    assert [state for state, _ in run(project).values()] == ["unchanged"] * 2
    with open_review(labels, ReviewOptions()):
        pass  # an open review alone changes nothing
    assert [state for state, _ in run(project).values()] == ["unchanged"] * 2
    review(labels, "accept")  # the first object is no longer dropped
    assert run(project)["label"][0] == "runs"
    assert reviewed(labels) == 2


def test_a_dry_run_beside_a_review_writes_nothing(project: Path) -> None:
    labels = project.with_suffix("") / "label"
    review(labels, "drop")
    with (labels / ".journal.jsonl").open("ab") as file:
        file.write(b"a line that was cut")
    with hold_folder(labels, "review"):
        before = stamps(project.parent)
        planned = run_project(project, dry=True, say=lambda line: None)
        assert stamps(project.parent) == before
    assert planned["label"]["reason"] == "its result was reviewed"


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: ((stat := path.stat()).st_size, stat.st_mtime_ns) for path in folder.rglob("*")}


def test_decisions_outlive_labels_made_anew(project: Path) -> None:
    labels = project.with_suffix("") / "label"
    review(labels, "drop", "accept", "drop")
    coco = read_coco(project.parent / "set")
    coco["annotations"] = coco["annotations"][:-1]  # of the last image
    write_boxes(project.parent / "set", coco)
    assert run(project)["label"] == ("runs", "set/boxes.json has changed")
    assert reviewed(labels) == 3
    with open_review(labels, ReviewOptions()) as (session, sync):
        assert session.store.counts() == {"accept": 1, "drop": 2, "undecided": 8}
        assert sync.gone == 1


def test_what_a_hand_altered_beside_a_review_is_refused(project: Path) -> None:
    labels = project.with_suffix("") / "label"
    review(labels, "drop")
    mask = labels / "gray/scene_2.png"
    mask.write_bytes(mask.read_bytes() + b"by hand")
    with pytest.raises(OutputError, match=r"scene_2\.png was altered since stage label wrote it"):
        run(project)
    assert mask.read_bytes().endswith(b"by hand")


def test_a_page_of_all_results_goes_where_the_user_wants_it(project: Path) -> None:
    page, labels = project.with_name("town.html"), project.with_suffix("") / "label"
    run_project(project, report=page, say=lambda line: None)
    assert "sea" in page.read_text(encoding="utf-8")
    before = sorted(labels.iterdir())
    with pytest.raises(OutputError, match=r"page.html lies in the folder of stage label; expected another place"):
        run_project(project, report=labels / "page.html", say=lambda line: None)
    with pytest.raises(OutputError, match=r"expected .*\.html"):
        run_project(project, report=project.with_name("page.pdf"), say=lambda line: None)
    assert sorted(labels.iterdir()) == before


def test_a_page_that_would_show_nothing_is_refused_before_anything_runs(project: Path) -> None:
    bare = project.with_name("bare.yaml")
    bare.write_text("scan: {images: set/images, masks: town/label/gray}\ncheck:\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="a stage that it could show: label, teacher"):
        run_project(bare, report=project.with_name("page.html"), say=lambda line: None)
    assert not bare.with_suffix("").exists()
