"""The layer of class sets: which classes each pixel may have, as the probabilities and the model's threshold say."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from factories import make_raster
from geodistill.cli import main
from geodistill.description import ModelSettings
from geodistill.errors import RecipeError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.set_coverage import count_sets, set_figures
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.segmenter import Segmenter
from scored import make_scored_set
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def stating(least: float) -> Segmenter:
    model = tiny_segmenter()
    model.settings = ModelSettings(temperature=20.0, class_sets={"0.9": least})
    return model


@pytest.mark.parametrize("least", [0.0, 0.34, 1.0])
def test_a_set_holds_what_is_probable_enough_and_the_class_itself(least: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 40, 50)).astype(np.uint8)
    pixels[:, :5, :5] = 0
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=0)
    stating(least).save(tmp_path / "model")
    options = PredictOptions(backend="torch", probabilities="uint8", class_sets=0.9)
    (made,) = predict(tmp_path / "model", [scene], tmp_path / "map.tif", options)
    assert made.class_sets == tmp_path / "map_class_sets.tif"
    assert '"2 classes"' in made.class_sets.with_suffix(".qml").read_text()
    with rasterio.open(made.class_sets) as sets, rasterio.open(made.path) as classes:
        layers, chosen = sets.read(), classes.read(1)
        assert (sets.descriptions, sets.tags()["COVERAGE"]) == (("classes in the set", "c0", "c1", "c2"), "0.9")
        assert sets.nodata == 255
    with rasterio.open(made.probabilities) as file:
        steps = file.read()
    valid = chosen != 255
    assert (layers[:, ~valid] == 255).all()
    assert 0 < valid.sum() < valid.size
    wanted = (steps >= round(250 * least)) | (np.arange(3)[:, None, None] == chosen)
    np.testing.assert_array_equal(layers[1:, valid], wanted[:, valid])
    np.testing.assert_array_equal(layers[0, valid], wanted.sum(0)[valid])
    # What `evaluate` counts is what the layer holds.
    truth = rng.integers(0, 3, chosen.shape).astype(np.uint8)
    counted, held, size = count_sets(steps, chosen, truth, valid, {"0.9": least})[0]
    inside = np.take_along_axis(layers[1:], truth[None], 0)[0]
    assert (counted, held, size) == (valid.sum(), inside[valid].sum(), layers[0, valid].sum())


def test_figures_are_means_over_images() -> None:
    images = [np.array([[100, 90, 150]]), np.array([[10, 5, 30]]), np.array([[0, 0, 0]])]
    (figures,) = set_figures({"0.9": 0.2}, images)
    assert figures == {"stated": 0.9, "coverage": pytest.approx(0.7), "classes": pytest.approx(18 / 11), "images": 2}
    assert set_figures({"0.9": 0.2}, []) == []


def test_a_coverage_that_the_model_does_not_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_raster(tmp_path / "scene.tif")
    stating(0.2).save(tmp_path / "model")
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--out", str(tmp_path / "m.tif")]
    assert main([*command, "--class-sets", "0.95"]) == 2
    assert "class sets of coverage 0.95 from this model; expected one of 0.9" in capsys.readouterr().err
    assert not (tmp_path / "m.tif").exists()
    with pytest.raises(RecipeError, match=r"fitted with trainer\.calibrate on enough images"):
        predict(tiny_segmenter(), [scene], tmp_path / "m.tif", PredictOptions(class_sets=0.9))
    with pytest.raises(RecipeError, match=r"one of 0\.8, 0\.9, 0\.95, 0\.99"):
        PredictOptions(class_sets=0.5)


def test_evaluation_measures_what_was_stated(tmp_path: Path) -> None:
    manifest = make_scored_set(tmp_path / "set")
    split = manifest.entries[0].split
    evaluate(stating(0.3), manifest, split, tmp_path / "scores")
    (figures,) = json.loads((tmp_path / "scores" / "metrics.json").read_text())["class_sets"]
    assert figures["stated"] == 0.9
    assert 0 < figures["coverage"] <= 1 <= figures["classes"] <= 3
