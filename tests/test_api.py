"""`import geodistill`: its names, that it costs nothing, and the way from a folder to a map in Python alone."""

import importlib
import json
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import rasterio

import geodistill as gd
from geodistill.errors import RecipeError
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.inference.options import PredictChoices, PredictOptions
from geodistill.label.config import LabelChoices, LabelSettings
from towns import write_town

NAMES = {
    *("Segmenter", "Prediction", "predict", "fit", "evaluate", "compare", "scan", "label_boxes", "export"),
    *("Manifest", "Legend", "Spec", "Raster", "Grid", "Window", "Scores"),
    *("load_recipe", "list_recipes", "build_encoder", "list_encoders", "GeodistillError", "__version__"),
}
SMALL = {
    "network.encoder": "test_resnet",
    "network.decoder_channels": 16,
    "data.crop": 32,
    "data.batch_size": 4,
    "data.workers": 0,
    "optimizer.lr": 2e-3,
    "trainer.accelerator": "cpu",
    "trainer.pictures": 0,
    "trainer.max_steps": 30,
    "trainer.val_every_steps": 30,
}


def test_the_names_are_these() -> None:
    assert set(gd.__all__) == NAMES
    assert set(dir(gd)) == NAMES
    for name in NAMES - {"__version__"}:
        assert getattr(gd, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gd.nothing  # noqa: B018 - the error is what is looked at


def test_the_import_brings_no_library() -> None:
    code = "import sys, geodistill; print([n for n in ('torch', 'numpy', 'rasterio', 'lightning') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_hides_a_name() -> None:
    """A module below the package becomes its attribute, whenever it is imported."""
    for module in ("exports", "evaluation", "inference", "label", "training.fit", "data.scan"):
        importlib.import_module(f"geodistill.{module}")
    assert [name for name in NAMES - {"__version__"} if not callable(getattr(gd, name))] == []


@pytest.mark.parametrize(
    ("choices", "settings", "given"),
    [(PredictChoices, PredictOptions, set()), (LabelChoices, LabelSettings, {"images", "boxes", "format", "colours"})],
)
def test_keyword_arguments_are_the_fields(choices: type, settings: type, given: set[str]) -> None:
    assert set(get_type_hints(choices)) == {field.name for field in fields(settings)} - given


def test_the_defaults_of_evaluate_are_those_of_its_options() -> None:
    parameters = signature(gd.evaluate).parameters.values()
    for each in (each for each in parameters if each.kind is each.KEYWORD_ONLY):
        assert each.default == getattr(EvaluateOptions, each.name), each.name


@pytest.mark.slow
def test_from_a_folder_to_a_map(tmp_path: Path) -> None:
    write_town(tmp_path / "town", count=8)
    manifest = gd.scan(
        tmp_path / "town",
        out=tmp_path / "manifest.parquet",
        legend=["ground", "building"],
        split={"fractions": (0.5, 0.25, 0.25)},
        progress=False,
    )
    assert isinstance(manifest, gd.Manifest)
    assert (len(manifest.rows("train")), len(manifest.rows("val")), len(manifest.rows("test"))) == (4, 2, 2)
    assert "4 train, 2 val, 2 test, 3 bands" in str(manifest)
    assert "ground" in manifest._repr_html_()

    result = gd.fit("supervised-folder", tmp_path / "run", data=manifest, settings=SMALL)
    assert result.miou is not None
    assert result.miou > 0.6
    scores = gd.evaluate(tmp_path / "run", manifest, device="cpu")
    assert int(scores.support.sum()) == 2 * 96 * 96
    assert str(scores).splitlines()[1].startswith("ground")
    assert "building" in scores._repr_html_()

    student = gd.Segmenter.load(tmp_path / "run")
    assert "building" in student._repr_html_()
    scene = next((tmp_path / "town" / "images").iterdir())
    prediction = student.predict(scene)
    (made,) = gd.predict(student, scene, tmp_path / "map.tif", vector="gpkg", device="cpu", backend="torch")
    with rasterio.open(made.path) as file:
        np.testing.assert_array_equal(prediction.classes, file.read(1))
    assert made.vectors == tmp_path / "map.gpkg"

    table = gd.compare(tmp_path / "run", data=manifest, device="cpu")
    assert table.models[0].miou == pytest.approx(scores.miou)
    assert "mIoU" in table._repr_html_()
    gd.export(student, "onnx", tmp_path / "student.onnx", size=32)
    assert (tmp_path / "student.onnx").stat().st_size > 0


def test_models_to_compare_are_arguments_each() -> None:
    with pytest.raises(gd.GeodistillError, match="make each an argument"):
        gd.compare(["runs/student"])  # type: ignore[arg-type]


def test_labels_from_boxes(tmp_path: Path) -> None:
    write_town(tmp_path / "town", count=2)
    names = sorted(path.name for path in (tmp_path / "town" / "images").iterdir())
    images = [{"id": i, "file_name": name, "width": 96, "height": 96} for i, name in enumerate(names, 1)]
    boxes = [
        {"id": i, "image_id": i, "category_id": i, "bbox": [20, 20, 30, 30], "area": 900, "iscrowd": 0} for i in (1, 2)
    ]
    classes = [{"id": 1, "name": "building"}, {"id": 2, "name": "car"}]
    coco = {"images": images, "annotations": boxes, "categories": classes}
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    labels = gd.label_boxes(
        tmp_path / "town" / "images", tmp_path / "boxes.json", tmp_path / "out", "coco", segmenter="box", progress=False
    )
    assert labels.manifest.legend is not None
    assert labels.manifest.legend.names == ("building", "car")
    assert len(labels.manifest.entries) == 2
    assert "2" in str(labels)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("\n".join(names))
    place = tmp_path / "town" / "images", tmp_path / "boxes.json", tmp_path / "listed", "coco"
    listed = gd.label_boxes(*place, segmenter="box", progress=False, lists=str(tmp_path / "lists"))
    assert [row.split for row in listed.manifest.entries] == ["train", "train"]
    # Beyond those of a recipe, its defaults are those of the command line.
    assert labels.account["settings"]["rules"] is not None


def test_recipes_take_names_mappings_and_themselves() -> None:
    named = gd.load_recipe("ktda-folder", {"trainer.max_steps": 7, "data.crop": 64})
    assert (named.trainer.max_steps, named.data.crop) == (7, 64)
    assert gd.load_recipe(named) == named
    assert gd.load_recipe({"method": "ktda", "trainer": {"max_steps": 7}}).trainer.max_steps == 7
    assert "ktda-folder" in gd.list_recipes()
    with pytest.raises(gd.GeodistillError, match=r"trainer\.max_step"):
        gd.load_recipe("ktda-folder", {"trainer.max_step": 7})


def test_what_was_not_written_cannot_be_trained_on(tmp_path: Path) -> None:
    manifest = gd.Manifest((), ("red",))
    with pytest.raises(RecipeError, match="not written"):
        gd.fit("supervised-folder", tmp_path / "run", data=manifest)
    with pytest.raises(RecipeError, match="fields of ExportOptions"):
        gd.export(tmp_path, "onnx", tmp_path / "a.onnx", nothing=1)
