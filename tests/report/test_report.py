"""The page of a run: its figures are those of the run, its policy fits it, and what is altered is refused."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from geodistill.cli import main
from geodistill.errors import DataError, GeodistillError, OutputError
from geodistill.report.report_options import ReportOptions
from geodistill.report.write import write_report
from reported import ROWS, figures_of

QUICK = ReportOptions(speed=False)


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    return write_report(run, run.parent / "report.html", QUICK)


def metrics(run: Path) -> Any:
    return json.loads((run / "test" / "metrics.json").read_text())


def test_scores_are_those_of_the_evaluation(run: Path, page: Path) -> None:
    figures, known = figures_of(page), metrics(run)
    for key in ("miou", "oa", "mf1", "classes", "means_over"):
        assert figures["scores"][key] == known[key]
    assert figures["scores"]["groups"] == 3
    assert figures["scores"]["intervals"]["miou"] == known["intervals"]["miou"]
    assert figures["scores"]["intervals"]["class c1"] == known["intervals"]["classes"]["c1"]
    assert figures["confusion"]["pixels"] == known["confusion"]
    assert figures["confidence"]["calibration"]["ece"] == known["calibration"]["ece"]
    assert [each["image"] for each in figures["images"]["images"]] == [
        str(run.parent / "data" / f"image <{k}>.tif") for k in (2, 1, 0)
    ]


def test_curves_are_those_of_the_logs(page: Path) -> None:
    curves = {each["name"]: (each["steps"], each["values"]) for each in figures_of(page)["training"]["curves"]}
    for column, name in enumerate(("train/loss", "train/ce", "val/miou"), 1):
        known = [(row[0], row[column]) for row in ROWS if row[column] is not None]
        assert list(zip(*curves[name], strict=True)) == known
    assert figures_of(page)["training"]["kept_step"] == 20


def test_the_balance_is_that_of_the_manifest(page: Path) -> None:
    figures = figures_of(page)["data"]
    assert figures["images"] == {"test": 3}
    assert sum(figures["class_pixels"]["test"]) == sum(figures_of(page)["confusion"]["pixels"][k][j]
                                                       for k in range(3) for j in range(3))  # fmt: skip


def test_what_people_read_is_what_programs_read(page: Path) -> None:
    text, figures = page.read_text(), figures_of(page)
    assert f"{100 * figures['scores']['miou']:.1f}" in text
    assert "trained for 30 steps of 4 crops of 16 pixels" in text
    assert "step 20, the best" in text


def test_the_policy_names_the_only_style_and_script(page: Path) -> None:
    text = page.read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#x27;", "'").split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert not re.findall(r'\b(?:src|href)="(?!data:|#)', text.split("<script>")[0])
    assert not re.findall(r"""\s(?:on\w+|style)=""", text.split("<script>")[0])


def test_an_evaluation_alone_finds_its_run(run: Path, tmp_path: Path) -> None:
    figures = figures_of(write_report(run / "test", tmp_path / "page.html", QUICK))
    assert figures["scores"]["miou"] == metrics(run)["miou"]
    assert figures["training"]["kept_step"] == 20


def test_a_class_has_one_colour_in_all_tables(run: Path, tmp_path: Path) -> None:
    """Of a set with other classes, those of the page's legend have its colours and the others a plain one."""
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run / "test", tmp_path / "run" / "test2")
    path = tmp_path / "run/test2/metrics.json"
    path.write_text(path.read_text().replace('"c0"', '"moor"').replace('"c1"', '"c0"'))
    text = write_report(tmp_path / "run", tmp_path / "page.html", QUICK).read_text()
    (tables,) = [re.findall(r'id="scores.*?</section>', text, re.DOTALL)]
    colours = [re.findall(r'<svg class="swatch (\w+)".*?</svg>(\w+)</th>', table) for table in tables]
    assert colours == [
        [("k0", "c0"), ("k1", "c1"), ("k2", "c2")],
        [("plain", "moor"), ("k0", "c0"), ("k2", "c2")],
    ]


def test_models_are_compared(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "--out", str(tmp_path / "page.html"), "--device", "cpu"]) == 0
    (model,) = figures_of(tmp_path / "page.html")["models"]["models"]
    assert model["parameters"] == 12  # a 1 x 1 convolution from three bands to three classes
    assert model["file_bytes"] == (run / "segmenter" / "model.safetensors").stat().st_size
    assert model["miou"] == 0.625


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder / "run")
    return folder / "run"


def test_a_run_that_is_not_finished(run: Path, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    shutil.rmtree(other / "segmenter")
    shutil.rmtree(other / "test")
    text = write_report(other, tmp_path / "page.html", QUICK).read_text()
    assert "not finished: 30 of 30 steps are logged" in text
    assert "was not evaluated yet" in text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("recipe.yaml", "- 1", "holds no recipe"),
        ("logs/csv/from_000000/metrics.csv", "step,train/ce\n1,one\n", "is no log of a run"),
        ("test/metrics.json", "{}", "not as it was written"),
        ("test/metrics.json", '{"about": {"model": "m"}, "classes": {"a": {}}, "confusion": [["x"]]}', "not as it was"),
        ("test/shown/shown.json", '{"images": [{"stem": "../../secret", "choice": "worst"}]}', "not as it was written"),
    ],
)
def test_what_was_altered_is_one_line(run: Path, tmp_path: Path, name: str, content: str, says: str) -> None:
    other = copied(run, tmp_path)
    (other / name).write_text(content)
    with pytest.raises(GeodistillError, match=says):
        write_report(other, tmp_path / "page.html", QUICK)
    assert not (tmp_path / "page.html").exists()


def test_a_picture_that_is_none_is_refused(run: Path, tmp_path: Path) -> None:
    other = copied(run, tmp_path)
    (other / "test" / "shown" / "best-001-truth.png").write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(DataError, match="no WebP and PNG"):
        write_report(other, tmp_path / "page.html", QUICK)


def test_places_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.html"):
        write_report(run, tmp_path / "page.txt", QUICK)
    with pytest.raises(DataError, match="holds nothing that a report is made of"):
        write_report(tmp_path, tmp_path / "page.html", QUICK)


def test_results_get_their_page(run: Path, tmp_path: Path) -> None:
    argv = ["evaluate", str(run), str(run.parent / "manifest.parquet"), "--device", "cpu"]
    assert main([*argv, "--report", str(tmp_path / "page.html")]) == 0
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    for page in (tmp_path / "page.html", tmp_path / "out" / "report.html"):
        assert figures_of(page)["scores"]["miou"] == metrics(run)["miou"]
    assert main([*argv, "--report", str(run.parent / "manifest.parquet")]) == 2


def test_runs_of_a_folder_stand_beside_each_other(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs" / "<i>first")
    shutil.copytree(run, tmp_path / "runs" / "second")
    shutil.rmtree(tmp_path / "runs" / "second" / "segmenter")
    page = write_report(tmp_path / "runs", tmp_path / "page.html", ReportOptions(device="cpu"))
    figures = figures_of(page)
    assert [Path(each["run"]).name for each in figures["runs"]["runs"]] == ["<i>first", "second"]
    first, second = figures["runs"]["runs"]
    assert first["evaluations"][0]["miou"] == metrics(run)["miou"]
    assert first["evaluations"][0]["interval"] == metrics(run)["intervals"]["miou"]
    assert (first["validation_miou"], second["validation_miou"]) == (0.625, None)
    assert [model["name"] for model in figures["models"]["models"]] == [str(tmp_path / "runs" / "<i>first")]
    assert "2 runs of training" in page.read_text()
    assert "test, test" not in page.read_text()
