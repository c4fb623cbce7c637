from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, UnknownNameError
from geodistill.evaluation.classmap import OTHER, make_class_map, read_pairs
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend

MODEL = Legend(("background", "house", "shed", "tree"))
HELD = Legend(("road", "building", "wood"))


def test_several_classes_of_the_model_may_stand_for_one() -> None:
    mapped = make_class_map({"house": "building", "shed": "building", "tree": "wood"}, MODEL, HELD)
    assert mapped.legend.names == ("building", "wood", OTHER)
    assert mapped.subset == ("building", "wood")
    assert mapped.prediction[[0, 1, 2, 3, IGNORE_INDEX]].tolist() == [2, 0, 0, 1, IGNORE_INDEX]
    assert mapped.truth[[0, 1, 2, IGNORE_INDEX]].tolist() == [2, 0, 1, IGNORE_INDEX]


def test_names_that_are_not_there_are_told() -> None:
    with pytest.raises(UnknownNameError, match="class of the model 'hous'"):
        make_class_map({"hous": "building"}, MODEL, HELD)
    with pytest.raises(UnknownNameError, match="class of the set 'buildin'"):
        make_class_map({"house": "buildin"}, MODEL, HELD)
    with pytest.raises(DataError, match="0 pairs"):
        make_class_map({}, MODEL, HELD)


def test_pairs_from_words_and_from_a_file(tmp_path: Path) -> None:
    assert read_pairs("house=building tree=wood") == {"house": "building", "tree": "wood"}
    (tmp_path / "map.yaml").write_text("house: building\n")
    assert read_pairs(str(tmp_path / "map.yaml")) == {"house": "building"}
    for bad in ("house", "=building", str(tmp_path / "none.yaml")):
        with pytest.raises(DataError, match=r"class map|cannot be read"):
            read_pairs(bad)
    (tmp_path / "map.yaml").write_text("- house\n")
    with pytest.raises(DataError, match="a mapping"):
        read_pairs(str(tmp_path / "map.yaml"))


def test_scores_on_common_classes_are_those_of_the_whole_matrix(
    manifest: Manifest, segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"))
    names = segmenter.spec.legend.names
    legend = manifest.legend
    assert legend is not None
    renamed = replace(manifest, legend=replace(legend, names=("x", "y", "z")))
    with pytest.raises(DataError, match="--class-map"):
        evaluate(segmenter, renamed, options=EvaluateOptions(device="cpu"))
    scores = evaluate(
        segmenter, renamed, out=tmp_path / "out", options=EvaluateOptions(device="cpu", class_map={names[1]: "y"})
    )
    # Pixels of the two other classes count as wrong where the model calls them its second class, and nowhere else.
    assert scores.names == ("y", OTHER)
    assert scores.subset == ("y",)
    np.testing.assert_allclose(scores.iou[0], whole.iou[1])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["about"]["class_map"] == {names[1]: "y"}
    assert (tmp_path / "out" / "shown" / "shown.json").is_file()
    segmenter.save(tmp_path / "model")
    renamed.save(tmp_path / "m.parquet")
    command = ["evaluate", "--model", str(tmp_path / "model"), "--manifest", str(tmp_path / "m.parquet")]
    command += ["--out", str(tmp_path / "cli"), "--class-map", f"{names[1]}=y", "--device", "cpu", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["y"]["iou"] == pytest.approx(float(scores.iou[0]))
