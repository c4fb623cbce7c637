"""Models that read text, out of the house: the prompt as an input, or one climate zone kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch

from geodistill.backends.graph import INPUT, OUTPUT, example, to_onnx
from geodistill.backends.text_inputs import PRESENT, TEXT, TextSegmenter, prompt_inputs, under_zone, zone_names
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.description import ModelSettings
from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.onnx import export_onnx
from geodistill.exports.qgis import export_qgis
from geodistill.segmenter import Segmenter
from geodistill.text.climate import ZONES
from text_models import zoned_segmenter
from tiny import tiny_networks, tiny_segmenter

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> Segmenter:
    with tiny_networks():
        return zoned_segmenter(encoder="two_levels")


@pytest.fixture(scope="module")
def exported(zones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the graph and its prompts, as ``model.onnx`` and ``model_text.npz``."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(zones, folder / "model.onnx")
    shutil.copy(zones.with_name("zones_text.npz"), folder / "model_text.npz")
    return folder


@pytest.mark.slow
def test_each_zones_logits_are_torchs_in_both_runtimes(model: Segmenter, exported: Path) -> None:
    held = np.load(exported / "model_text.npz")
    assert held["prompts"].tolist() == list(ZONES)
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(str(exported / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = example(model.spec, (1, 32, 32)) + 5
    seen = []
    for zone in ("Af", "BWh", "EF"):
        row = list(ZONES).index(zone)
        given = {INPUT: image.numpy(), TEXT: held["text"][[row]], PRESENT: held["present"][[row]]}
        with torch.inference_mode():
            expected = model(image, torch.tensor([row])).numpy()
        np.testing.assert_allclose(session.run([OUTPUT], given)[0], expected, atol=1e-4)
        np.testing.assert_allclose(compiled(given)[OUTPUT], expected, atol=1e-4)
        seen.append(expected)
    assert np.abs(seen[0] - seen[1]).max() > 0.01


@pytest.mark.slow
def test_the_graph_says_what_it_takes(exported: Path) -> None:
    graph = onnx.load(exported / "model.onnx").graph
    shapes = {
        given.name: [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] for given in graph.input
    }
    assert shapes == {INPUT: ["batch", 3, 32, 32], TEXT: ["batch", 6, 8], PRESENT: ["batch", 6]}
    kinds = {given.name: given.type.tensor_type.elem_type for given in graph.input}
    assert kinds == {INPUT: onnx.TensorProto.FLOAT, TEXT: onnx.TensorProto.FLOAT, PRESENT: onnx.TensorProto.BOOL}


@pytest.mark.slow
def test_what_stands_in_the_padding_changes_nothing_there_either(exported: Path) -> None:
    held = np.load(exported / "model_text.npz")
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    row = int(held["present"].sum(1).argmin())
    text, present = held["text"][[row]].copy(), held["present"][[row]]
    image = np.full((1, 3, 32, 32), 90, np.float32)
    clean = session.run(None, {INPUT: image, TEXT: text, PRESENT: present})[0]
    text[~present] = 1e3
    np.testing.assert_allclose(session.run(None, {INPUT: image, TEXT: text, PRESENT: present})[0], clean, atol=1e-4)


@pytest.mark.slow
def test_images_of_one_call_may_lie_in_different_zones(model: Segmenter, zones: Path) -> None:
    session = onnxruntime.InferenceSession(zones, providers=["CPUExecutionProvider"])
    for rows in ([4], [0, 29], [3, 11, 3]):
        images = example(model.spec, (len(rows), 32, 32))
        context = prompt_inputs(model, rows)
        with torch.inference_mode():
            expected = model(images, torch.tensor(rows)).numpy()
        given = {name: value.numpy() for name, value in ({INPUT: images} | context).items()}
        np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-4)


@pytest.mark.slow
def test_the_documented_lines_run(exported: Path, monkeypatch: pytest.MonkeyPatch, model: Segmenter) -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    lines = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "_text.npz" in block)
    monkeypatch.chdir(exported)
    image = example(model.spec, (1, 32, 32))
    found = {"image": image.numpy()}
    exec(lines, found)
    with torch.inference_mode():
        expected = model(image, torch.tensor([list(ZONES).index("Cfb")])).argmax(1).numpy()
    np.testing.assert_array_equal(found["classes"], expected)


@pytest.mark.slow
def test_one_zone_kept_takes_images_alone(model: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--zone", "bwh", "--to"]
    assert main([*command, "onnx", "--out", str(tmp_path / "bwh.onnx")]) == 0
    assert "_text.npz" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bwh.onnx", "model"]
    assert main([*command, "qgis", "--resolution", "10", "--out", str(tmp_path / "qgis.onnx")]) == 0
    image = example(model.spec, (1, 32, 32)).clamp(0, 255)
    with torch.inference_mode():
        logits = model(image, torch.tensor([list(ZONES).index("BWh")]))
    for file, pixels, expected in (("bwh", image, logits), ("qgis", image / 255, logits.softmax(1))):
        session = onnxruntime.InferenceSession(tmp_path / f"{file}.onnx", providers=["CPUExecutionProvider"])
        assert [given.name for given in session.get_inputs()] == [INPUT]
        np.testing.assert_allclose(session.run(None, {INPUT: pixels.numpy()})[0], expected.numpy(), atol=1e-4)


def test_where_images_are_all_a_graph_takes_the_zones_are_named(
    model: Segmenter, manifest: Manifest, tmp_path: Path
) -> None:
    for refused in (
        lambda: export_qgis(model, tmp_path / "q.onnx", ExportOptions(resolution=10)),
        lambda: to_onnx(model, tmp_path / "n.onnx", size=32, batch=1),
    ):
        with pytest.raises(RecipeError, match=r"Af, Am, Aw.*ET, EF; expected one of them.*--zone CODE"):
            refused()
    with pytest.raises(RecipeError, match="8-bit integers of a model that takes text"):
        export_onnx(model, tmp_path / "i.onnx", ExportOptions(size=32, calibration=manifest))
    assert list(tmp_path.glob("*.onnx")) == []
    with pytest.raises(UnknownNameError, match="Cfb"):
        under_zone(model, "Cfx")
    for other in (tiny_segmenter(), under_zone(model, "Af")):
        with pytest.raises(RecipeError, match="--zone Af for a model that takes images alone"):
            under_zone(other, "Af")
    with pytest.raises(ArtifactError, match="reads no text"):
        TextSegmenter(tiny_segmenter())


def test_the_graphs_answer_is_the_models_at_its_scales_and_temperature(tmp_path: Path) -> None:
    with tiny_networks():
        model = zoned_segmenter(encoder="two_levels")
        model.settings = ModelSettings((0.5, 1.0), temperature=3.0)
        to_onnx(model, tmp_path / "m.onnx", size=32, batch=2, with_text=True)
        images, rows = example(model.spec, (2, 32, 32)), [1, 2]
        with torch.inference_mode():
            expected = model(images, torch.tensor(rows))
    given = {INPUT: images, **prompt_inputs(model, rows)}
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_seasons_are_prompts_of_their_own() -> None:
    seasonal = zoned_segmenter(("Cfb", "ET", "Cfb/winter", "ET/winter"))
    assert zone_names(seasonal) == ["Cfb", "ET"]
    assert under_zone(seasonal, "cfb/Winter").prompts == ("Cfb/winter",)
    inputs = prompt_inputs(seasonal, [2])
    assert torch.equal(inputs[TEXT], under_zone(seasonal, "Cfb/winter").network.network.text.float())  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["qgis", "stac"])
def test_the_command_names_the_zones_where_none_is_given(
    model: Segmenter, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--to", target, "--out", str(tmp_path / "out.onnx")]
    assert main([*command, *(["--resolution", "10"] if target == "qgis" else [])]) == 2
    told = capsys.readouterr().err
    assert all(zone in told for zone in ZONES)
    assert "give --zone CODE" in told
    assert main([*command, "--zone", "Cfx"]) == 2
    assert "unknown prompt of the model 'Cfx'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
