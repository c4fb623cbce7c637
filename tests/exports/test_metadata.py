"""ONNX files say what the model is and nothing of the machine that made them."""

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from geodistill.backends.graph import example
from geodistill.backends.metadata import finish_graph
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.description import WEIGHTS
from geodistill.errors import OutputError
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.onnx import export_onnx
from geodistill.exports.qgis import export_qgis
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from tiny import tiny_segmenter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def named() -> Segmenter:
    """A model with names that ask for care, at a known resolution."""
    legend = Legend(("low vegetation", "Straße", 'a"b\ud800'), ((1, 2, 3), (250, 0, 9), (16, 17, 18)))
    segmenter = tiny_segmenter("band", tile=32)
    segmenter.spec = Spec(legend, ("red", "green", "blue"), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), 0.25)
    return segmenter


def paths_in(file: Path) -> list[str]:
    """What in a file's bytes could tell of this machine: its folders, its user, source lines."""
    data = file.read_bytes()
    words = [
        str(ROOT),
        str(Path.home()) + "/",
        "site-packages",
        'File "',
        ".py",
        f"/{getpass.getuser()}/",
        "stack_trace",
    ]
    return [word for word in words if word.encode() in data]


@pytest.mark.slow
def test_no_graph_holds_paths_or_lines_of_this_machine(
    named: Segmenter, manifest: Manifest, zones: Path, tmp_path: Path
) -> None:
    made = export_onnx(
        tiny_segmenter("band", tile=32), tmp_path / "m.onnx", ExportOptions(size=32, calibration=manifest)
    )
    export_qgis(named, tmp_path / "q.onnx", ExportOptions())
    assert made.int8 is not None
    assert held_in(made.int8.path) == held_in(made.path)
    for file in (made.path, made.int8.path, tmp_path / "q.onnx", zones):
        assert paths_in(file) == []
        onnx.checker.check_model(file, full_check=True)


def held_in(file: Path) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}


@pytest.mark.slow
def test_a_graph_says_what_the_model_is(named: Segmenter, tmp_path: Path) -> None:
    export_onnx(named, tmp_path / "m.onnx", ExportOptions(size=32))
    told = held_in(tmp_path / "m.onnx")
    assert told.pop("version").startswith("geodistill ")
    assert told == {
        "task": "semantic-segmentation",
        "names": {"0": "low vegetation", "1": "Straße", "2": 'a"b\ud800'},
        "colours": {"0": "#010203", "1": "#fa0009", "2": "#101112"},
        "bands": ["red", "green", "blue"],
        "mean": [1.0, 2.0, 3.0],
        "std": [10.0, 20.0, 30.0],
        "gsd": 0.25,
        "tile": 32,
    }


def axes_of(file: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(file).graph
    values = (*graph.input, *graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.slow
def test_free_axes_have_names(tmp_path: Path, zones: Path) -> None:
    free = ["batch", 3, "height", "width"]
    segmenter = tiny_segmenter("context", tile=64)
    export_onnx(segmenter, tmp_path / "any.onnx", ExportOptions(size="any", batch="any"))
    assert axes_of(tmp_path / "any.onnx") == {"image": free, "logits": free}
    export_onnx(segmenter, tmp_path / "batch.onnx", ExportOptions(size=64, batch="any"))
    assert axes_of(tmp_path / "batch.onnx") == {"image": ["batch", 3, 64, 64], "logits": ["batch", 3, 64, 64]}
    export_onnx(segmenter, tmp_path / "size.onnx", ExportOptions(size="any", batch=2))
    assert axes_of(tmp_path / "size.onnx")["logits"] == [2, 3, "height", "width"]
    session = onnxruntime.InferenceSession(tmp_path / "any.onnx", providers=["CPUExecutionProvider"])
    images = example(segmenter.spec, (3, 70, 41))
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"image": images.numpy()})[0], segmenter(images), atol=1e-4)
    assert {shape[0] for shape in axes_of(zones).values()} == {"batch"}


def parts(message: Any) -> Iterator[Any]:
    """Every message inside a protobuf message."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                yield from parts(child)


def test_graphs_inside_nodes_are_cleaned_too(tmp_path: Path) -> None:
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"], doc_string="C:/Users/someone/net.py")],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
        doc_string="C:/Users/someone",
    )
    branch = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    outer = onnx.helper.make_graph(
        [branch],
        "outer",
        [onnx.helper.make_tensor_value_info("x", 1, [1]), onnx.helper.make_tensor_value_info("c", 9, [])],
        [onnx.helper.make_tensor_value_info("z", 1, [1], doc_string="C:/Users/someone")],
    )
    model = onnx.helper.make_model(outer, doc_string="made in C:/Users/someone")
    for part in list(parts(model)):
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.metadata_props.add(key="place", value="C:/Users/someone")
    onnx.save(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes().count(b"C:/Users/someone") > 10
    finish_graph(tmp_path / "m.onnx", {"tile": "8"})
    assert b"C:/Users/someone" not in (tmp_path / "m.onnx").read_bytes()
    assert held_in(tmp_path / "m.onnx") == {"tile": 8}


def test_nothing_that_is_read_is_written_over(
    named: Segmenter, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        export_onnx(named, tmp_path / "m.bin", ExportOptions(size=32))
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        export_qgis(named, tmp_path / "m", ExportOptions())
    image = manifest.entries[0].image
    twin = image.with_name("twin.onnx")
    twin.hardlink_to(image)
    with pytest.raises(OutputError, match="is read"):
        export_onnx(tiny_segmenter("band", tile=32), twin, ExportOptions(size=32, calibration=manifest))
    named.save(tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).rename(tmp_path / "w.onnx")
    (tmp_path / "model" / WEIGHTS).symlink_to(tmp_path / "w.onnx")
    before = (tmp_path / "w.onnx").read_bytes()
    for target, out in (
        ("onnx", tmp_path / "model" / WEIGHTS),
        ("onnx", tmp_path / "w.onnx"),
        ("qgis", tmp_path / "w.onnx"),
        ("hub", tmp_path / "model"),
        ("stac", tmp_path / "model"),
    ):
        assert main(["export", "--model", str(tmp_path / "model"), "--to", target, "--out", str(out)]) == 2
        assert "\n" not in capsys.readouterr().err.strip()
    assert (tmp_path / "w.onnx").read_bytes() == before
