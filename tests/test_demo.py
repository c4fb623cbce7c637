"""The demo, made small: what it leaves and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geodistill.demo import demo
from geodistill.errors import OutputError
from geodistill.segmenter import Segmenter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    table = demo(out, seed=1, size=96, scene_size=192, steps=6)
    assert "student labels alone" in table
    assert str(out / "prediction.tif") in table
    return out


def test_it_leaves_segmenters_scores_a_scene_its_map_and_a_picture(results: Path) -> None:
    scores = json.loads((results / "metrics.json").read_text())
    for name in ("teacher", "student", "student_labels_alone"):
        assert all(0 <= scores[name][region]["miou"] <= 1 for region in ("south", "north"))
        assert Segmenter.load(results / name).spec.classes == 7
    with rasterio.open(results / "scene.tif") as scene, rasterio.open(results / "prediction.tif") as prediction:
        assert (prediction.crs, prediction.transform) == (scene.crs, scene.transform)
        assert prediction.shape == scene.shape == (192, 192)
        assert set(np.unique(prediction.read(1))) <= set(range(7))
    assert (results / "demo.png").stat().st_size > 10_000


def test_both_students_have_the_same_steps_and_labels(results: Path) -> None:
    recipes = [Segmenter.load(results / n).provenance["recipe"] for n in ("student", "student_labels_alone")]
    taught, alone = recipes
    assert taught["trainer"]["max_steps"] == alone["trainer"]["max_steps"]
    assert taught["data"]["manifest"] == alone["data"]["manifest"]
    for key in ("encoder", "decoder_channels"):
        assert taught["network"][key] == alone["network"][key]
    assert taught["optimizer"] == alone["optimizer"]
    assert taught["schedule"] == alone["schedule"]
    assert taught["trainer"] == alone["trainer"]


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds no demo"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
