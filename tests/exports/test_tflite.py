"""TensorFlow Lite files, where their converter is installed, and what is said where it is not."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import RecipeError
from geodistill.exports.exporters import ExportOptions, export
from geodistill.segmenter import Segmenter


def test_without_its_converter_it_says_how_to_get_it(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "litert_torch" else find(name))
    with pytest.raises(RecipeError, match=r"litert_torch not installed; .* pip install litert-torch \(0.10 asks for"):
        export(segmenter, "tflite", tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_litert_gives_torchs_classes(segmenter: Segmenter, manifest: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from ai_edge_litert.interpreter import Interpreter

    segmenter.save(tmp_path / "model")
    argv = ["export", "--model", str(tmp_path / "model"), "--to", "tflite", "--out", str(tmp_path / "m.tflite")]
    assert main([*argv, "--check", str(manifest.path)]) == 0
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    interpreter.allocate_tensors()
    image = noise((1, 3, 32, 32)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    with torch.inference_mode():
        np.testing.assert_allclose(logits, segmenter(torch.from_numpy(image)), atol=1e-3)
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        about = json.loads(archive.read("geodistill.json"))
    assert (about["tile"], about["bands"]) == (32, ["b0", "b1", "b2"])
    with pytest.raises(RecipeError, match="images of any size"):
        export(segmenter, "tflite", tmp_path / "any.tflite", ExportOptions(size="any"))
