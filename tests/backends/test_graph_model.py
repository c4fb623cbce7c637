"""Models that somebody else made, as ONNX files: what they say of themselves, what they give, what is refused."""

import json
import pickle
from collections.abc import Sequence
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

DEEPNESS = {"model_type": "Segmentor", "class_names": {"0": "water", "1": "forest", "2": "road"}, "resolution": 50}
PIXELS = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(1)).float()


def graph(
    path: Path,
    nodes: Sequence[Any] = (),
    metadata: dict[str, Any] | None = None,
    *,
    axes: Sequence[Any] = ("batch", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    weights: Sequence[Any] = (),
    takes: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph from ``x`` to ``y``; without nodes, ``y`` is ``x``."""
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    given = [helper.make_tensor_value_info("x", takes, axes)]
    result = [helper.make_tensor_value_info("y", kind, None)]
    made = helper.make_graph(nodes, "g", given, result, list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()})
    onnx.save(model, path)
    return path


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


def shares(text: str) -> torch.Tensor:
    """Return probabilities such as ``.2 .8`` at each of 8 x 8 pixels of one image."""
    return torch.tensor([float(part) for part in text.split()])[None, :, None, None].expand(1, -1, 8, 8)


@pytest.mark.parametrize(
    ("given", "threshold", "expected"),
    [
        (".1 .3 .6", 0.0, 2),
        (".3 .1 .6", 0.7, 0),
        (".3 .4 .3", 0.4, 1),
        (".5 .3 .2", 0.0, 0),
        (".6", 0.5, 1),
        (".6", 0.7, 0),
        (".4", 0.3, 1),
    ],
)
def test_probabilities_and_their_threshold(given: str, threshold: float, expected: int, tmp_path: Path) -> None:
    """As Deepness: what is below the threshold is 0, then the highest; one channel against the threshold alone."""
    names = DEEPNESS if " " in given else DEEPNESS | {"class_names": {"0": "road"}}
    values = shares(given)
    constant = numpy_helper.from_array(values.contiguous().numpy(), "c")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=1),
        helper.make_node("Mul", ["m", "zero"], ["z"]),
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    weights = [constant, numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    path = graph(tmp_path / "m.onnx", nodes, names | {"seg_thresh": threshold}, axes=(1, 3, 8, 8), weights=weights)
    model = GraphSegmenter(path)
    assert (model(PIXELS[:1]).argmax(1) == expected).all()
    if not threshold:  # and the probabilities are the graph's
        torch.testing.assert_close(model(PIXELS[:1]).softmax(1), values, rtol=1e-4, atol=1e-5)
    if " " not in given:
        assert model.spec.legend.names == ("background", "road")


def test_classes_coarse_maps_and_a_fixed_batch(tmp_path: Path) -> None:
    highest = [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)]
    path = graph(tmp_path / "a.onnx", highest, DEEPNESS, axes=(2, 3, 8, 8), kind=TensorProto.INT64)
    model = GraphSegmenter(path)
    assert torch.equal(model(PIXELS).argmax(1), PIXELS.argmax(1))
    assert torch.equal(pickle.loads(pickle.dumps(model))(PIXELS), model(PIXELS))
    pooled = [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[4, 4], strides=[4, 4])]
    model = GraphSegmenter(graph(tmp_path / "p.onnx", pooled, DEEPNESS))
    means = torch.nn.functional.avg_pool2d(PIXELS / 255, 4)
    coarse = torch.nn.functional.interpolate(means, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(model(PIXELS), coarse)


AXIS = numpy_helper.from_array(np.array([0], np.int64), "a")
NAMED = GraphFlags(Legend(("a", "b", "c")), scale="1/255")


def test_one_images_axis_may_be_left_out(tmp_path: Path) -> None:
    dropped = [helper.make_node("Squeeze", ["x", "a"], ["y"])]
    model = GraphSegmenter(graph(tmp_path / "m.onnx", dropped, weights=[AXIS], axes=(1, 3, 8, 8)), NAMED)
    torch.testing.assert_close(model(PIXELS), PIXELS / 255)
    turned = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3])]
    with pytest.raises(ArtifactError, match=r"gives \(3, 2, 8, 8\) .* a map with a channel per class"):
        GraphSegmenter(graph(tmp_path / "t.onnx", turned, axes=(2, 3, 8, 8)), NAMED)


def test_classes_may_be_floats(tmp_path: Path) -> None:
    highest = [helper.make_node("ArgMax", ["x"], ["c"], axis=1), helper.make_node("Cast", ["c"], ["y"], to=1)]
    path = graph(tmp_path / "m.onnx", highest)
    assert torch.equal(GraphSegmenter(path, NAMED)(PIXELS).argmax(1), PIXELS.argmax(1))
    with pytest.raises(ArtifactError, match="give --classes"):
        GraphSegmenter(path, GraphFlags(scale="1"))


def surprising(path: Path, nodes: Sequence[Any], more: float) -> Path:
    """Write a graph that gives ``v``, which the nodes make, and ``more`` on top where a sample is below -1000."""
    nodes = [
        *nodes,
        helper.make_node("ReduceMin", ["x", "band"], ["l"]),
        helper.make_node("Less", ["l", "least"], ["b"]),
        helper.make_node("Cast", ["b"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "more"], ["m"]),
        helper.make_node("Add", ["v", "m"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1], np.int64), "band"),
        numpy_helper.from_array(np.array(-1000, np.float32), "least"),
        numpy_helper.from_array(np.array(more, np.float32), "more"),
    ]
    return graph(path, nodes, weights=weights)


@pytest.mark.parametrize("odd", [-1, 253, 0.5])
def test_classes_that_nothing_names_are_refused(odd: float, tmp_path: Path) -> None:
    highest = [helper.make_node("ArgMax", ["x"], ["c"], axis=1), helper.make_node("Cast", ["c"], ["v"], to=1)]
    path = surprising(tmp_path / "m.onnx", highest, odd)
    with pytest.raises(ArtifactError, match="gives the class 2; expected 0 to 1, as 2 are named"):
        GraphSegmenter(path, GraphFlags(Legend(("a", "b")), scale="1"))
    model = GraphSegmenter(path, GraphFlags(Legend(("a", "b", "c")), scale="1"))
    images = PIXELS.clone()
    assert torch.equal(model(images).argmax(1), PIXELS.argmax(1))
    images[2, :, 4, 4] = torch.tensor([255.0, 0, -2000])
    with pytest.raises(ArtifactError, match=f"gives the class {odd}; expected 0 to 2"):
        model(images)


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_that_lie_between_0_and_1_for_dark_images(channels: int, tmp_path: Path) -> None:
    """Half less a fiftieth of the samples, which are bytes: noise of deviation 1 stays between 0 and 1."""
    nodes = [
        helper.make_node("Slice", ["x", "first", "last", "axis"], ["s"]),
        helper.make_node("Mul", ["s", "times"], ["t"]),
        helper.make_node("Add", ["t", "half"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array([channels], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array(-1 / 50, np.float32), "times"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
    ]
    model = GraphSegmenter(graph(tmp_path / "m.onnx", nodes, weights=weights), GraphFlags(scale="1"))
    expected = 0.5 - PIXELS[:, :channels] / 50
    torch.testing.assert_close(model(PIXELS)[:, -channels:], expected)


def test_probabilities_that_leave_0_to_1_are_refused(tmp_path: Path) -> None:
    softmax = [helper.make_node("Softmax", ["x"], ["v"], axis=1)]
    model = GraphSegmenter(surprising(tmp_path / "m.onnx", softmax, 2), GraphFlags(scale="1"))
    torch.testing.assert_close(model(PIXELS).softmax(1), PIXELS.softmax(1))
    with pytest.raises(ArtifactError, match="for noise 0 to 1 alone; expected probabilities throughout"):
        model(PIXELS - 2000)
    rounded = GraphSegmenter(surprising(tmp_path / "r.onnx", softmax, 1e-5), GraphFlags(scale="1"))
    torch.testing.assert_close(rounded(PIXELS - 2000).softmax(1), PIXELS.softmax(1), atol=1e-4, rtol=0)


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
