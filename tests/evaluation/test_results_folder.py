"""Where an evaluation writes: nothing that is read or another's is ever written over."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factories import make_raster
from geodistill.data.manifest import Manifest
from geodistill.errors import BusyError, DataError, OutputError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.scoring import ScoringSettings, score_image
from geodistill.folders import MARKER, foreign_files, hold_folder, mark_folder
from geodistill.inference.network import as_network
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from tiny import tiny_segmenter


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "per_image.csv", "confusion.png", "report.html"])
def test_a_persons_file_of_that_name_is_left_alone(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter, name: str
) -> None:
    (tmp_path / name).write_text("years of work")
    with pytest.raises(OutputError, match=name):
        evaluate(segmenter, manifest, "test", tmp_path, EvaluateOptions(device="cpu"))
    assert (tmp_path / name).read_text() == "years of work"


def test_a_persons_folder_of_that_name_is_left_alone(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    (tmp_path / "out" / "shown").mkdir(parents=True)
    (tmp_path / "out" / "shown" / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        evaluate(segmenter, manifest, "test", tmp_path / "out", EvaluateOptions(device="cpu"))
    evaluate(segmenter, manifest, "test", tmp_path / "other", EvaluateOptions(device="cpu"))
    (tmp_path / "other" / "shown" / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        evaluate(segmenter, manifest, "test", tmp_path / "other", EvaluateOptions(device="cpu"))
    assert (tmp_path / "other" / "shown" / "mine.txt").read_text() == "years of work"


def test_an_image_in_the_place_of_a_result_is_left_alone(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter
) -> None:
    row = manifest.rows("test")[0]
    image = tmp_path / "confusion.png"
    image.hardlink_to(row.image)
    with pytest.raises(OutputError, match=r"confusion\.png"):
        evaluate(segmenter, manifest, "test", tmp_path, EvaluateOptions(device="cpu"))
    assert image.read_bytes() == row.image.read_bytes()


def test_a_second_evaluation_is_told_who_is_at_work(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    with hold_folder(tmp_path / "out", "evaluate"), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        evaluate(segmenter, manifest, "test", tmp_path / "out", EvaluateOptions(device="cpu"))


def test_a_model_or_a_run_is_no_place_for_results(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    segmenter.save(tmp_path / "model")
    (tmp_path / "run").mkdir()
    mark_folder(tmp_path / "run", "run of fit", ["recipe.yaml"])
    for name, kind in (("model", "Segmenter"), ("run", "run of fit")):
        before = (tmp_path / name / MARKER).read_bytes()
        with pytest.raises(OutputError, match=f"holds a {kind}"):
            evaluate(segmenter, manifest, "test", tmp_path / name, EvaluateOptions(device="cpu"))
        assert (tmp_path / name / MARKER).read_bytes() == before


def test_all_that_it_leaves_is_listed_as_its_own(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    evaluate(segmenter, manifest, "test", tmp_path / "out", EvaluateOptions(device="cpu"))
    assert foreign_files(tmp_path / "out") == []


@pytest.mark.parametrize(
    "window", [Window(0, 0, 10**12, 10), Window(0, 0, 0, 0), Window(-5, 0, 10, 10), Window(0, 0, 10, 10**9)]
)
def test_an_area_that_the_image_has_not_is_refused(manifest: Manifest, segmenter: Segmenter, window: Window) -> None:
    row = replace(manifest.rows("test")[0], window=window)
    with pytest.raises(DataError, match="size it had when scanned"):
        score_image(as_network(segmenter), row, segmenter.spec.legend, ScoringSettings())


def test_names_are_no_formulas_and_no_markup(tmp_path: Path, manifest: Manifest) -> None:
    names = ("=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a\x1b]0;x")
    model = tiny_segmenter("band")
    odd = Segmenter("band", {}, replace(model.spec, legend=Legend(names)), model.tile, {}).eval()
    odd.load_state_dict(model.state_dict())
    row = manifest.rows("test")[0]
    image = tmp_path / "<b>\x1b[31m.tif"
    image.write_bytes(row.image.read_bytes())
    held = replace(manifest, entries=(replace(row, image=image),), legend=Legend(names))
    evaluate(odd, held, "test", tmp_path / "out", EvaluateOptions(device="cpu"))
    text = (tmp_path / "out" / "metrics.csv").read_text()
    assert "\x1b" not in text
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert cells[1] == "'=cmd|' /C calc'!A0"


def test_nothing_to_score_is_an_error_that_writes_nothing(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter
) -> None:
    row = manifest.rows("test")[0]
    height, width = row.window.height, row.window.width
    mask = make_raster(tmp_path / "mask.tif", pixels=np.full((1, height, width), 255, np.uint8))
    held = replace(manifest, entries=(replace(row, mask=mask),))
    with pytest.raises(DataError, match="no labelled pixel"):
        evaluate(segmenter, held, "test", tmp_path / "out", EvaluateOptions(device="cpu"))
    assert not (tmp_path / "out" / "metrics.json").exists()
