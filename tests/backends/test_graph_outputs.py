"""What graphs of others give: logits, probabilities, classes, and what is none of them."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from geodistill.backends.graph_model import GraphFlags, GraphSegmenter
from geodistill.errors import ArtifactError
from geodistill.spec import Legend
from onnx_graphs import DEEPNESS, PIXELS, graph


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
        ("1", 0.5, 1),
        ("1", 0.7, 1),
        ("0", 0.5, 0),
        ("0 1 0", 0.0, 1),
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
    assert (model(PIXELS[:1]).softmax(1).argmax(1) == expected).all()
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


def surprising(path: Path, nodes: Sequence[Any], more: float, weights: Sequence[Any] = ()) -> Path:
    """Write a graph that gives ``v``, which the nodes make, and ``more`` on top where a sample is below -1000."""
    nodes = [
        *nodes,
        helper.make_node("ReduceMin", ["x", "axis"], ["l"]),
        helper.make_node("Less", ["l", "least"], ["b"]),
        helper.make_node("Cast", ["b"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "more"], ["m"]),
        helper.make_node("Add", ["v", "m"], ["y"]),
    ]
    weights = [
        *weights,
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
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


def dimming(path: Path, channels: int) -> Path:
    """Write a graph that gives half less a fiftieth of the samples, bytes: 0 to 1 for noise of deviation 1."""
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
    return graph(path, nodes, weights=weights)


def test_logits_that_lie_between_0_and_1_for_dark_images(tmp_path: Path) -> None:
    model = GraphSegmenter(dimming(tmp_path / "m.onnx", 3), GraphFlags(scale="1"))
    torch.testing.assert_close(model(PIXELS), 0.5 - PIXELS / 50)


def test_one_channel_that_may_be_logits_or_probabilities_is_refused(tmp_path: Path) -> None:
    """Its second class begins at 0 in the one case, and at a half in the other."""
    with pytest.raises(ArtifactError, match=r"0 to 1 for some noise, and -.* let it end in a sigmoid"):
        GraphSegmenter(dimming(tmp_path / "m.onnx", 1), GraphFlags(scale="1"))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
def test_masks_of_0_and_255(kind: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x", "band"], ["most"]),
        helper.make_node("Greater", ["most", "half"], ["over"]),
        helper.make_node("Cast", ["over"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one", "white"], ["v"]),
        helper.make_node("Cast", ["v"], ["y"], to=kind),
    ]
    weights = [
        numpy_helper.from_array(np.array([1], np.int64), "band"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        numpy_helper.from_array(np.array(255, np.float32), "white"),
    ]
    path = graph(tmp_path / "m.onnx", nodes, kind=kind, weights=weights)
    expected = (PIXELS.amax(1) > 127.5).long()
    for legend in (None, Legend(("road",)), Legend(("land", "road"))):
        model = GraphSegmenter(path, GraphFlags(legend, scale="1/255"))
        assert torch.equal(model(PIXELS).softmax(1).argmax(1), expected)
    with pytest.raises(ArtifactError, match="gives the class 255; expected 0 to 2, as 3 are named"):
        GraphSegmenter(path, NAMED)
    model = GraphSegmenter(surprising(tmp_path / "s.onnx", nodes[:4], 1, weights), GraphFlags(scale="1/255"))
    with pytest.raises(ArtifactError, match="gives 1, and for noise 0 and 255 alone"):
        model(PIXELS - 300_000)


def test_probabilities_that_leave_0_to_1_are_refused(tmp_path: Path) -> None:
    softmax = [helper.make_node("Softmax", ["x"], ["v"], axis=1)]
    model = GraphSegmenter(surprising(tmp_path / "m.onnx", softmax, 2), GraphFlags(scale="1"))
    torch.testing.assert_close(model(PIXELS).softmax(1), PIXELS.softmax(1))
    with pytest.raises(ArtifactError, match="for noise 0 to 1 alone; expected probabilities throughout"):
        model(PIXELS - 2000)
    rounded = GraphSegmenter(surprising(tmp_path / "r.onnx", softmax, 1e-5), GraphFlags(scale="1"))
    torch.testing.assert_close(rounded(PIXELS - 2000).softmax(1), PIXELS.softmax(1), atol=1e-4, rtol=0)
