"""Maps by ONNX files: our own exports give the Segmenter's map, and others' have blending, nodata and resume too."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
from onnx import TensorProto, helper

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.errors import OutputError, RecipeError
from geodistill.exports.exporters import export
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def brightest_band(path: Path, **metadata: object) -> Path:
    """Write a graph for bytes as 0..1 whose probabilities are the softmax of its bands."""
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=1)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3, 16, 16)) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.save(model, path)
    return path


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "qgis"])
def test_our_exports_give_the_segmenters_map(form: str, tmp_path: Path) -> None:
    segmenter = tiny_segmenter("context", tile=32)
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 70, 90)))
    from geodistill.exports.exporters import ExportOptions

    export(segmenter, form, tmp_path / "model.onnx", ExportOptions(resolution=50) if form == "qgis" else None)
    options = PredictOptions(backend="torch", gsd="native")
    (expected,) = predict(segmenter, [scene], tmp_path / "a.tif", options)
    (found,) = predict(tmp_path / "model.onnx", [scene], tmp_path / "b.tif", options)
    assert (classes(found.path) == classes(expected.path)).mean() > 0.999
    assert found.windows == expected.windows


@pytest.mark.slow
def test_a_model_of_others_from_the_command_line(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50))
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=pixels[0, 0, 0])
    model = brightest_band(tmp_path / "theirs.onnx", class_names={"0": "sea", "1": "sand", "2": "rock"})
    flags = ["--model", str(model), "--input", str(scene), "--scale", "1/255", "--classes", "water,land,ice"]
    objects = ["--vector", "gpkg", "--objects", "land"]
    assert main(["predict", *flags, "--out", str(tmp_path / "map.tif"), "--workers", "2", *objects]) == 0
    assert (tmp_path / "map_objects.gpkg").is_file()
    with rasterio.open(tmp_path / "map.tif") as file:
        valid = ~(pixels == pixels[0, 0, 0]).all(0)
        np.testing.assert_array_equal(file.read(1)[valid], pixels.argmax(0)[valid])
        assert file.tags()["CLASS_0"] == "water"
    before = (tmp_path / "map.tif").read_bytes()
    assert main(["predict", *flags, "--out", str(tmp_path / "map.tif"), "--confidence", "--resume"]) == 0
    assert (tmp_path / "map.tif").read_bytes() == before


def test_what_does_not_go_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 20, 20)))
    model = brightest_band(tmp_path / "theirs.tif.onnx", seg_thresh=0)
    with pytest.raises(RecipeError, match="ONNX Runtime in fp32"):
        predict(model, [scene], tmp_path / "map.tif", PredictOptions(backend="openvino"))
    argv = ["predict", "--input", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*argv, "--model", "runs/student", "--scale", "1"]) == 2
    assert "--scale without an ONNX file as --model" in capsys.readouterr().err
    model.rename(tmp_path / "scene.onnx")
    (tmp_path / "scene.json").write_text("{}")  # beside it, and no item of a model
    with pytest.raises(OutputError, match="scene"):
        predict(tmp_path / "scene.onnx", [scene], scene, PredictOptions())
