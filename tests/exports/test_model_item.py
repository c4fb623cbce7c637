"""The item is valid by the extension's own model, says what the model is, and links what lies beside it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pystac
import pytest
from pystac.validation.local_validator import LocalValidator
from stac_model.schema import MLModelProperties

from geodistill.cli import main
from geodistill.errors import OutputError, RecipeError
from geodistill.exports import model_item
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.model_item import export_stac
from geodistill.segmenter import Segmenter


@pytest.mark.slow
def test_the_item_is_valid_and_complete(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.provenance = {
        "scores": {"validation_miou": 0.5},
        "recipe": {"method": "ktda"},
        "manifest": "/secret/place/b.pq",
    }
    path = export_stac(segmenter, tmp_path / "fields", ExportOptions(scores={"miou": 0.75}))
    data = json.loads(path.read_text())
    LocalValidator().item_validator().validate(data)
    model = MLModelProperties.model_validate(data["properties"])
    assert model.name == data["id"] == "fields"
    assert model.input[0].bands == ["b0", "b1", "b2"]
    # What an input names must be described in the item itself.
    assert [band["name"] for band in data["properties"]["bands"]] == ["b0", "b1", "b2"]
    assert model.input[0].input.shape == [-1, 3, 32, 32]
    assert model.output[0].result.shape == [-1, 3, 32, 32]
    assert [entry.name for entry in model.output[0].classes] == ["c0", "c1", "c2"]
    assert [entry.value for entry in model.output[0].classes] == [0, 1, 2]
    assert data["properties"]["geodistill:scores"] == {"validation_miou": 0.5, "miou": 0.75}
    assert data["properties"]["geodistill:origin"] == {"method": "ktda", "data": "b.pq"}
    assert any("mlm" in extension for extension in data["stac_extensions"])
    assert "/secret" not in path.read_text()


@pytest.mark.slow
def test_its_links_lead_to_a_model_that_runs(segmenter: Segmenter, tmp_path: Path) -> None:
    path = export_stac(segmenter, tmp_path / "fields", ExportOptions())
    moved = tmp_path / "elsewhere"
    path.parent.rename(moved)
    item = pystac.Item.from_file(moved / path.name)
    files = {key: Path(asset.get_absolute_href()) for key, asset in item.assets.items() if key != "code"}
    assert {key: file.name for key, file in files.items()} == {
        "weights": "model.safetensors",
        "onnx": "model.onnx",
        "segmenter": "segmenter.json",
    }
    assert Segmenter.load(files["weights"].parent).tile == 32
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    for count in (1, 2):  # the item says any number
        (logits,) = session.run(None, {"image": np.zeros((count, 3, 32, 32), np.float32)})
        assert logits.shape == (count, 3, 32, 32)
    for key, file in files.items():
        assert item.assets[key].extra_fields["file:size"] == file.stat().st_size
    for key in ("weights", "onnx"):
        assert "mlm:model" in item.assets[key].roles
        assert item.assets[key].extra_fields["mlm:artifact_type"] == ("safetensors" if key == "weights" else "onnx")
        assert [band["name"] for band in item.assets[key].extra_fields["bands"]] == ["b0", "b1", "b2"]


def test_nothing_but_an_earlier_export_is_replaced(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="what geodistill did not write there"):
        export_stac(segmenter, tmp_path / "home", ExportOptions())
    assert (tmp_path / "home" / "thesis.txt").is_file()


def test_missing_packages(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.backends.graph.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pystac, stac_model not installed"):
        export_stac(segmenter, tmp_path / "fields", ExportOptions())


@pytest.mark.slow
def test_the_command_line(segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter.save(tmp_path / "model")
    (tmp_path / "metrics.json").write_text('{"miou": 0.7, "mf1": 0.8, "oa": null, "classes": {}}')
    command = ["export", "--model", str(tmp_path / "model"), "--to", "stac", "--out", str(tmp_path / "item")]
    assert main([*command, "--scores", str(tmp_path / "metrics.json")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "item" / model_item.ITEM)
    data = json.loads((tmp_path / "item" / model_item.ITEM).read_text())
    assert data["properties"]["geodistill:scores"] == {"miou": 0.7, "mf1": 0.8}
    (tmp_path / "metrics.json").write_text("[]")
    assert main([*command, "--scores", str(tmp_path / "metrics.json")]) == 2
    assert "metrics.json holds a list; expected a JSON object" in capsys.readouterr().err
