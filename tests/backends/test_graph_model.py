"""Models that somebody else made, as ONNX files: what they say of themselves, what they give, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from geodistill.backends import graph_model
from geodistill.backends.graph_model import GraphFlags, GraphSegmenter
from geodistill.errors import ArtifactError, DataError, RecipeError
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import find_model
from geodistill.spec import Legend
from onnx_graphs import DEEPNESS, PIXELS, graph


def test_deepness_divides_by_255_and_standardises(tmp_path: Path) -> None:
    standard = {"standardization_mean": [0.1, 0.2, 0.3], "standardization_std": [0.5, 0.25, 2.0]}
    model = GraphSegmenter(graph(tmp_path / "m.onnx", metadata=DEEPNESS | standard))
    expected = (PIXELS.numpy() / 255 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape([0.5, 0.25, 2], (3, 1, 1))
    np.testing.assert_allclose(model(PIXELS).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert model.spec.legend.names == ("water", "forest", "road")
    assert (model.spec.gsd, model.tile, model.spec.channels) == (0.5, 8, 3)
    with pytest.raises(DataError, match="8-bit"):
        model(PIXELS * 100)
    assert GraphSegmenter(model.path, GraphFlags(scale="1", tile=8)).spec.std == (1, 1, 1)
    with pytest.raises(RecipeError, match=r"--tile 16 .* its fixed side, 8"):
        GraphSegmenter(model.path, GraphFlags(tile=16))


@pytest.mark.parametrize("names", ['{0: "a", 1: "b", 2: "c"}', '[{"0": "a", "1": "b", "2": "c"}]', '["a", "b", "c"]'])
def test_names_as_others_write_them(names: str, tmp_path: Path) -> None:
    model = GraphSegmenter(graph(tmp_path / "m.onnx", metadata={"names": names}), GraphFlags(scale="1/255"))
    assert model.spec.legend.names == ("a", "b", "c")
    assert model.spec.std == (255, 255, 255)


def test_an_item_beside_it_says_bands_scaling_and_classes(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", axes=("b", 3, "h", "w"))
    given = {
        "bands": ["red", {"name": "nir"}, "swir"],
        "input": {"shape": [-1, 3, 16, 16], "dim_order": ["batch", "bands", "height", "width"]},
        "value_scaling": [
            {"type": "z-score", "mean": 4, "stddev": 2},
            {"type": "min-max", "minimum": 10, "maximum": 20},
            {"type": "scale", "value": 5},
        ],
    }
    classes = [{"value": i, "name": f"c{i}", "title": f"Class {i}", "color_hint": f"00000{i}"} for i in (2, 0, 1)]
    properties = {"mlm:input": [given], "mlm:output": [{"classification:classes": classes}], "gsd": 10}
    item = {"properties": properties, "assets": {"model": {"href": "./m.onnx"}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    model = GraphSegmenter(path)
    assert (model.spec.bands, model.tile, model.spec.gsd) == (("red", "nir", "swir"), 16, 10)
    assert model.spec.legend == Legend(("Class 0", "Class 1", "Class 2"), ((0, 0, 0), (0, 0, 1), (0, 0, 2)))
    scaled = (PIXELS.numpy() - np.reshape([4, 10, 0], (3, 1, 1))) / np.reshape([2, 10, 5], (3, 1, 1))
    model.tile = 8
    np.testing.assert_allclose(model._run(scaled), scaled, rtol=1e-6)
    given["value_scaling"] = [{"type": "clip", "minimum": 0, "maximum": 1}]
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(ArtifactError, match="'clip'"):
        GraphSegmenter(path)


def test_a_graph_of_bytes_takes_samples_that_are_bytes(tmp_path: Path) -> None:
    floats = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    path = graph(tmp_path / "m.onnx", floats, takes=TensorProto.UINT8)
    model = GraphSegmenter(path, GraphFlags(scale="1"))
    torch.testing.assert_close(model(PIXELS - 0.4 * (PIXELS > 0)), PIXELS)
    torch.testing.assert_close(GraphSegmenter(path, GraphFlags(scale="255"))(PIXELS / 255), PIXELS)
    for images, says in ((PIXELS + 0.6 * 255, "to 408 under"), (PIXELS - 1, "samples of -1 to")):
        with pytest.raises(DataError, match=f"{says}.* 0 to 255: it takes bytes"):
            model(images)
    for metadata, flags in ((None, GraphFlags(scale="1/255")), (DEEPNESS, None)):
        graph(path, floats, metadata, takes=TensorProto.UINT8)
        with pytest.raises(ArtifactError, match=r"whole numbers, 0 to 255.*give --scale 1"):
            GraphSegmenter(path, flags)


ENDLESS = helper.make_graph(
    [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["v"], ["w"])],
    "body",
    [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ],
    [
        helper.make_tensor_value_info("d", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
    ],
)
HUGE = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "s")
FIRST = numpy_helper.from_array(np.array([0], np.int64), "a")
LONG = [numpy_helper.from_array(np.array(1 << 60, np.int64), "n"), numpy_helper.from_array(np.array(True), "t")]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"nodes": [helper.make_node("NoSuch", ["x"], ["y"])]}, "cannot be run|does not open"),
        ({"nodes": [helper.make_node("Evil", ["x"], ["y"], domain="mine")]}, "cannot be run|does not open"),
        ({"nodes": [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)]}, "a map with a channel per class"),
        (
            {
                "nodes": [
                    helper.make_node("ConstantOfShape", ["s"], ["h"]),
                    helper.make_node("ReduceMean", ["h"], ["m"]),
                    helper.make_node("Add", ["x", "m"], ["y"]),
                ],
                "weights": [HUGE],
            },
            "numbers; expected at most",
        ),
        ({"nodes": [helper.make_node("Loop", ["n", "t", "x"], ["y"], body=ENDLESS)], "weights": LONG}, "stopped after"),
        (
            {
                "nodes": [helper.make_node("ReduceMax", ["x", "a"], ["y"])],
                "weights": [FIRST],
                "axes": (1 << 40, 3, 8, 8),
            },
            "numbers; expected at most",
        ),
        (
            {"nodes": [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)], "kind": TensorProto.STRING},
            "values of the type",
        ),
        ({"axes": ("b", 3, 8, 16)}, "as high as they are wide"),
        ({"axes": ("b", 8, 8)}, r"images \(batch, bands"),
        ({"axes": ("b", "c", 8, 8)}, "takes 0 bands"),
        ({"metadata": DEEPNESS | {"model_type": "Detector"}}, "'detector' of Deepness"),
        ({"metadata": DEEPNESS | {"class_names": {"0": "a", "2": "b"}}}, "which are not 0, 1, 2"),
        ({"metadata": DEEPNESS | {"class_names": {"0": "a", "1": "b"}}}, "gives 3 classes, and 2 are named"),
        ({"metadata": DEEPNESS | {"class_names": "[" * 50_000}}, "metadata that cannot be used"),
        ({"metadata": DEEPNESS | {"standardization_mean": [1, 2], "standardization_std": [1, 2]}}, "scales 2 bands"),
        ({"metadata": DEEPNESS | {"seg_thresh": 3}}, "threshold 3"),
        ({"metadata": DEEPNESS | {"tile_size": "1e999"}}, "metadata that cannot be used"),
        ({"metadata": DEEPNESS | {"standardization_mean": f"[{'9' * 400}]"}}, "metadata that cannot be used"),
        ({"metadata": {}}, "nothing says how"),
        ({"metadata": {"task": "detect"}}, "'detect'"),
    ],
)
def test_what_is_refused(made: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_model, "SECONDS", 0.5)
    with pytest.raises(ArtifactError, match=says):
        GraphSegmenter(graph(tmp_path / "m.onnx", **{"metadata": DEEPNESS} | made))


def test_weights_outside_its_folder_and_what_is_no_graph_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    (tmp_path / "in").mkdir()
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    path = graph(tmp_path / "in" / "m.onnx", [helper.make_node("Add", ["x", "c"], ["y"])], DEEPNESS, weights=[tensor])
    with pytest.raises(ArtifactError, match=r"keeps weights in '\.\./secret'"):
        GraphSegmenter(path)
    for name, data in (("empty", b""), ("text", b"not a graph" * 50), ("cut", path.read_bytes()[:40])):
        (tmp_path / f"{name}.onnx").write_bytes(data)
        with pytest.raises(ArtifactError):
            GraphSegmenter(tmp_path / f"{name}.onnx")
    with pytest.raises(ArtifactError, match="cannot be read"):
        GraphSegmenter(tmp_path / "none.onnx")


def test_names_too_long_and_what_is_no_text_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w" * 5000)
    added = graph(tmp_path / "m.onnx", [helper.make_node("Add", ["x", "c"], ["y"])], DEEPNESS, weights=[tensor])
    with pytest.raises(ArtifactError, match=r"keeps weights in 'w+\.\.\.; expected a file beside it"):
        GraphSegmenter(added)
    with pytest.raises(ArtifactError, match=r"m{60}"):
        find_model("m" * 5000 + ".onnx", PredictOptions())
    named = graph(tmp_path / "n.onnx", [helper.make_node("Unknown", ["x"], ["y"])], DEEPNESS)
    named.write_bytes(named.read_bytes().replace(b"Unknown", b"Unkn\xf1wn"))
    with pytest.raises(ArtifactError, match="can't decode byte 0xf1"):
        GraphSegmenter(named)
    assert capfd.readouterr() == ("", "")


def test_an_item_with_numbers_too_large_is_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", metadata={})
    shape = {"shape": [-1, 3, 8, 8], "dim_order": ["batch", "bands", "height", "width"]}
    for given, gsd in (({"input": shape | {"shape": [-1, 3, 1e999, 8]}}, 1), ({"input": shape}, 10**400)):
        properties = {"mlm:input": [given], "mlm:output": [{}], "gsd": gsd}
        (tmp_path / "m.json").write_text(json.dumps({"properties": properties}).replace("Infinity", "1e999"))
        with pytest.raises(ArtifactError, match="cannot be used as a model's item"):
            GraphSegmenter(path)


def test_a_list_of_maps_is_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[0].CopyFrom(helper.make_node("SequenceConstruct", ["x"], ["y"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="values of the type list"):
        GraphSegmenter(path, GraphFlags(scale="1"))


def test_a_scale_is_a_number_or_a_fraction() -> None:
    assert GraphFlags(scale="1/4").facts().std == (4,)
    for text in ("0", "-1", "1/0", "red", "1e400"):
        with pytest.raises(RecipeError, match="fraction above 0"):
            GraphFlags(scale=text).facts()
