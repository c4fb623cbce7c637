"""ONNX files as others open them, and what 8-bit integers cost."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch

from geodistill.backends.graph import INPUT, OUTPUT, example
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, DataError, GeodistillWarning
from geodistill.evaluation.evaluate import evaluate
from geodistill.exports import int8
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.int8 import WINDOWS, calibration_windows, score
from geodistill.exports.onnx import export_onnx
from geodistill.segmenter import NETWORKS, Segmenter
from tiny import tiny_segmenter, tiny_spec


@pytest.mark.slow
def test_it_opens_in_both_runtimes_with_torchs_logits(segmenter: Segmenter, tmp_path: Path) -> None:
    made = export_onnx(segmenter, tmp_path / "model.onnx", ExportOptions(size=32, batch=2))
    images = example(segmenter.spec, (2, 32, 32))
    with torch.no_grad():
        expected = segmenter(images).numpy()
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(str(made.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for found in (session.run([OUTPUT], {INPUT: images.numpy()})[0], compiled({INPUT: images.numpy()})[OUTPUT]):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert made.difference < 1e-4
    assert str(made) == f"{made.path}: largest difference to torch {made.difference:.2g}"


@pytest.mark.slow
def test_what_an_earlier_graph_left_beside_is_named(segmenter: Segmenter, tmp_path: Path) -> None:
    earlier = tmp_path / "m_int8.onnx"
    earlier.write_bytes(b"of another model")
    with pytest.warns(GeodistillWarning, match=r"m_int8\.onnx is of an earlier graph"):
        export_onnx(segmenter, tmp_path / "m.onnx", ExportOptions(size=32))
    assert earlier.read_bytes() == b"of another model"


def test_an_earlier_graph_is_named_where_eight_bits_are_refused(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise ArtifactError("8-bit integers lose 80.00 points of mIoU")

    monkeypatch.setattr("geodistill.exports.onnx.quantise", refuse)
    earlier = tmp_path / "m_int8.onnx"
    earlier.write_bytes(b"of another model")
    with (
        pytest.warns(GeodistillWarning, match=r"m_int8\.onnx is of an earlier graph"),
        pytest.raises(ArtifactError, match="lose 80"),
    ):
        export_onnx(tiny_segmenter("band", tile=32), tmp_path / "m.onnx", ExportOptions(size=32, calibration=manifest))


def test_eight_bits_tell_what_they_cost(manifest: Manifest, tmp_path: Path) -> None:
    """The network is right everywhere in float32; rounding its numbers to 256 steps leaves nearly all of it."""
    segmenter = tiny_segmenter("band", tile=32)
    made = export_onnx(segmenter, tmp_path / "model.onnx", ExportOptions(size=32, calibration=manifest))
    assert made.int8 is not None
    assert made.int8.before == pytest.approx(1.0)
    assert 0.9 < made.int8.after <= 1.0
    assert made.int8.path == tmp_path / "model_int8.onnx"
    kinds = {node.op_type for node in onnx.load(made.int8.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "val mIoU 100.00 in float32" in str(made)
    openvino.Core().compile_model(str(made.int8.path), "CPU")


@pytest.mark.slow
def test_layers_that_lose_most_stay_in_float(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four layers carry a channel of huge numbers, beside which 256 steps leave nothing of the others."""
    monkeypatch.setitem(NETWORKS, "fragile", "fragile:FragileNetwork")
    segmenter = Segmenter("fragile", {}, tiny_spec(), 32, {"scores": {}}).eval()
    out = tmp_path / "model.onnx"
    made = export_onnx(segmenter, out, ExportOptions(size=32, calibration=manifest)).int8
    assert made is not None
    assert (made.exact, made.layers) == (2, 4)
    assert made.before == pytest.approx(1.0)
    assert made.before - made.after <= 0.01
    assert str(made).endswith("2 of 4 layers in float")
    graph = onnx.load(made.path).graph
    restored = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    quantised = [node.input[1] in restored for node in graph.node if node.op_type == "Conv"]
    assert quantised == [True, False, False, True]

    made.path.unlink()
    monkeypatch.setattr(int8, "_FLOAT_SHARES", (0.0, 0.25))
    with pytest.raises(ArtifactError, match=r"lose \d+\.\d+ points of mIoU on val .*; expected at most 1"):
        export_onnx(segmenter, out, ExportOptions(size=32, calibration=manifest))
    assert not made.path.exists()
    allowed = export_onnx(segmenter, out, ExportOptions(size=32, calibration=manifest, int8_drop=100)).int8
    assert allowed is not None
    assert (allowed.exact, allowed.after < 0.9) == (0, True)


@pytest.mark.slow
def test_the_score_is_that_of_evaluate(segmenter: Segmenter, manifest: Manifest, tmp_path: Path) -> None:
    export_onnx(segmenter, tmp_path / "model.onnx", ExportOptions(size=32))
    found = score(segmenter, tmp_path / "model.onnx", manifest, "val", 32)
    assert found == pytest.approx(evaluate(segmenter, manifest, "val").miou, abs=1e-3)


def test_calibration_sees_training_images_alone(manifest: Manifest) -> None:
    for row in manifest.rows("val"):
        row.image.unlink()
    windows = list(calibration_windows(manifest, 32, manifest.bands))
    assert len(windows) == WINDOWS
    assert all(window.shape == (3, 32, 32) and window.dtype == np.float32 for window in windows)
    assert len({window.tobytes() for window in windows}) > WINDOWS // 2


def test_data_of_other_classes_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes"):
        export_onnx(tiny_segmenter(classes=2), tmp_path / "model.onnx", ExportOptions(size=16, calibration=manifest))
    with pytest.raises(DataError, match="no 'test' images"):
        export_onnx(
            tiny_segmenter("band"), tmp_path / "model.onnx", ExportOptions(size=16, calibration=manifest, split="test")
        )
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_the_command_line(
    segmenter: Segmenter, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter.save(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--to", "onnx", "--out", str(tmp_path / "m.onnx")]
    assert main([*command, "--int8", str(manifest.path), "--size", "24", "--opset", "20"]) == 0
    assert "largest difference to torch" in capsys.readouterr().out
    graph = onnx.load(tmp_path / "m.onnx")
    assert [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 24, 24]
    assert graph.opset_import[0].version == 20
    assert (tmp_path / "m_int8.onnx").is_file()
    for wrong, says in (
        (["--size", "big"], "--size big; expected a number"),
        (["--batch", "-1"], "--batch"),
        (["--zone", "Cfb"], "--zone Cfb for a model that takes images alone"),
        (["--int8-drop", "-1", "--int8", str(manifest.path)], "8-bit integers that lose -1.0 points"),
        (["--batch", "2", "--int8", str(manifest.path)], "8-bit integers and batch 2; expected 1 or any"),
    ):
        assert main([*command, *wrong]) == 2
        assert says in capsys.readouterr().err
    assert main([*command[:4], "caffe", *command[5:]]) == 2
    expected = "expected one of hub, onnx, openvino, pt2, qgis, stac, tflite"
    assert f"unknown value of --to 'caffe'; {expected}" in capsys.readouterr().err
