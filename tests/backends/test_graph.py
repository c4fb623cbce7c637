"""A Segmenter as an ONNX graph: the same logits as torch at any shape it says it takes, or a refusal."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from geodistill.backends import graph
from geodistill.backends.graph import INPUT, OUTPUT, PARITY, example, parity, require, to_onnx
from geodistill.errors import ArtifactError, OutputError, RecipeError
from geodistill.nn.output import pad_to_multiple
from geodistill.segmenter import Segmenter
from tiny import tiny_segmenter, tiny_spec

pytestmark = pytest.mark.usefixtures("tiny_models")

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("supervised", {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}),
    "fcn-vit": ("supervised", {"architecture": "fcn", "encoder": "test_vit", "decoder_channels": 16}),
    "segformer-vit": ("supervised", {"architecture": "segformer", "encoder": "test_vit", "decoder_channels": 16}),
    "segformer": ("supervised", {"architecture": "segformer", "encoder": "mit_b0", "decoder_channels": 16}),
    "ktda": (
        "ktda",
        {
            "encoder": "two_levels",
            "fmm_blocks": 1,
            "decoder_channels": 16,
            "teacher_channels": [16] * 2,
            "teacher_strides": [16] * 2,
        },
    ),
    "maflnet": ("maflnet", {"encoder": "two_levels", "width": 16}),
}


def family(name: str, channels: int = 3) -> Segmenter:
    torch.manual_seed(0)
    network, arguments = FAMILIES[name]
    return Segmenter(network, arguments, tiny_spec(channels, 4, std=60.0), 64, {}).eval()


def run(path: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run([OUTPUT], {INPUT: images.numpy()})[0]
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segformer", "ktda", "maflnet"])  # for metasegnet see tests/exports/test_text.py
def test_every_family_gives_torchs_logits_from_sensor_units(name: str, tmp_path: Path) -> None:
    segmenter = family(name)
    told = to_onnx(segmenter, tmp_path / "network.onnx", size=65, batch=1)
    image = example(segmenter.spec, (1, 65, 65)) + 3
    with torch.no_grad():
        expected = segmenter(image).numpy()
    found = run(tmp_path / "network.onnx", image)
    assert found.shape == (1, 4, 65, 65)
    assert told < PARITY
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_free_axes_and_bands(tmp_path: Path) -> None:
    segmenter = tiny_segmenter("context", channels=5, classes=4, tile=24)
    to_onnx(segmenter, tmp_path / "any.onnx", size=None, batch=None)
    for shape in ((1, 24, 24), (3, 17, 40), (2, 61, 33)):
        images = example(segmenter.spec, shape)
        with torch.no_grad():
            np.testing.assert_allclose(run(tmp_path / "any.onnx", images), segmenter(images).numpy(), atol=1e-4)


def test_free_sides_stay_simple_where_padding_is_tensorflow_s(tmp_path: Path) -> None:
    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(Conv2dSame(3, 3, 3, stride=2) for _ in range(3)))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.layers(pad_to_multiple(image, 8))
            return maps

    torch.manual_seed(0)
    graph.write_graph(Halving(), torch.rand(1, 3, 24, 24), tmp_path / "any.onnx", axes=(2, 3))
    pads = [node for node in onnx.load(tmp_path / "any.onnx").graph.node if node.op_type == "Pad"]
    assert len(pads) <= 4
    assert not {"Ceil", "Max"} & {node.op_type for node in onnx.load(tmp_path / "any.onnx").graph.node}
    assert run(tmp_path / "any.onnx", torch.rand(1, 3, 17, 33)).shape == (1, 3, 3, 5)


@pytest.mark.slow
def test_a_free_number_of_images(tmp_path: Path) -> None:
    segmenter = family("unet")
    to_onnx(segmenter, tmp_path / "b.onnx", size=48, batch=None)
    for count in (1, 2, 5):
        images = example(segmenter.spec, (count, 48, 48)) - 5
        with torch.no_grad():
            np.testing.assert_allclose(run(tmp_path / "b.onnx", images), segmenter(images).numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn-vit", "segformer-vit"])
def test_a_transformer_is_exported_at_any_size(name: str, tmp_path: Path) -> None:
    segmenter = family(name)
    blocks = segmenter.network.network.encoder.body.model.blocks
    for middle in range(1, len(blocks) - 1):  # its position embeddings were bound to a size, and not its depth
        blocks[middle] = nn.Identity()
    to_onnx(segmenter, tmp_path / "network.onnx", size=None, batch=1)
    for height, width in ((96, 96), (33, 57), (128, 64)):
        assert parity(segmenter, tmp_path / "network.onnx", example(segmenter.spec, (1, height, width))) < PARITY


def test_a_network_bound_to_one_size_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    class Placed(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.places = inner, nn.Parameter(torch.zeros(16, 16))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.inner(image) + self.places

    segmenter = tiny_segmenter("context")
    segmenter.network.network.second = Placed(segmenter.network.network.second)
    with pytest.raises(ArtifactError, match=r"cannot be exported at any size .* with a fixed --size") as error:
        to_onnx(segmenter, tmp_path / "network.onnx", size=None, batch=1)
    assert "x1b" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    to_onnx(segmenter, tmp_path / "network.onnx", size=16, batch=1)
    with pytest.raises(ArtifactError, match=r"on images of .* --size"):
        parity(tiny_segmenter("context"), tmp_path / "network.onnx", example(segmenter.spec, (1, 32, 32)))


@pytest.mark.slow
def test_a_graph_that_differs_is_refused(tmp_path: Path) -> None:
    segmenter = tiny_segmenter("context")
    to_onnx(segmenter, tmp_path / "network.onnx", size=16, batch=1)
    images = example(segmenter.spec, (1, 16, 16))
    assert parity(segmenter, tmp_path / "network.onnx", images) < 1e-4
    with torch.no_grad():
        segmenter.network.network.second.bias += 0.1
    with pytest.raises(ArtifactError, match=r"differs from torch by 0.4; expected at most"):
        parity(segmenter, tmp_path / "network.onnx", images)


@pytest.mark.slow
def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    segmenter = tiny_segmenter("context").to(torch.bfloat16)
    segmenter.train()
    to_onnx(segmenter, tmp_path / "network.onnx", size=16, batch=1)
    assert next(segmenter.parameters()).dtype == torch.bfloat16
    assert segmenter.training


@pytest.mark.slow
def test_the_opset_is_the_one_asked_for(tmp_path: Path) -> None:
    to_onnx(tiny_segmenter("context"), tmp_path / "network.onnx", size=16, batch=1, opset=20)
    versions = {entry.domain: entry.version for entry in onnx.load(tmp_path / "network.onnx").opset_import}
    assert versions[""] == 20


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to_onnx(tiny_segmenter("context"), tmp_path / "network.onnx", size=16, batch=1)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize(("size", "batch", "opset"), [(0, 1, 18), (16, 0, 18), (16, 1, 17)])
def test_what_no_graph_can_have(size: int, batch: int, opset: int, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected opset 18"):
        to_onnx(tiny_segmenter(), tmp_path / "network.onnx", size=size, batch=batch, opset=opset)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        to_onnx(tiny_segmenter(), tmp_path / "file" / "network.onnx", size=16, batch=1)


def test_missing_packages_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no_such_package not installed.*geodistill\[export\]"):
        require("json", "no_such_package")
    monkeypatch.setattr(graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="onnx, onnxscript, onnxruntime not installed"):
        to_onnx(tiny_segmenter(), tmp_path / "network.onnx", size=16, batch=1)
