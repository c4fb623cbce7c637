"""Answers averaged over several sizes of an image: by hand, kept with the model, in its graph."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from factories import make_raster, noise
from geodistill.backends.graph import to_onnx
from geodistill.errors import ArtifactError
from geodistill.inference.options import PredictOptions
from geodistill.nn.output import logits_over_scales
from geodistill.segmenter import Segmenter
from geodistill.spec import check_scales
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def test_probabilities_of_each_size_are_averaged_at_the_images_own() -> None:
    looked_at: list[tuple[int, ...]] = []

    def network(image: torch.Tensor) -> torch.Tensor:
        """The first band and its opposite as two classes' logits."""
        looked_at.append(tuple(image.shape[-2:]))
        return torch.cat([image[:, :1], -image[:, :1]], 1)

    image = torch.randn(2, 3, 12, 20)
    half = F.interpolate(image[:, :1], (6, 10), mode="bilinear", align_corners=False)
    there_and_back = F.interpolate(half, (12, 20), mode="bilinear", align_corners=False)
    expected = (torch.sigmoid(2 * there_and_back) + torch.sigmoid(2 * image[:, :1])) / 2
    found = logits_over_scales(network, image, (0.5, 1.0)).softmax(1)
    torch.testing.assert_close(found[:, :1], expected)
    assert looked_at == [(6, 10), (12, 20)]
    assert logits_over_scales(network, image, (1.0,)).equal(network(image))


@pytest.mark.parametrize("scales", [(), (0.1,), (5,), (float("nan"),), ("1",), (True,), (1.0,) * 9])
def test_scales_that_cannot_be_used(scales: tuple[float, ...]) -> None:
    with pytest.raises(ArtifactError, match=r"expected 1 to 8 numbers from 0.25 to 4"):
        check_scales(scales, "a model")


@pytest.mark.slow
def test_a_model_keeps_its_scales_and_its_graph_has_them(tmp_path: Path) -> None:
    plain = tiny_segmenter("context", tile=32)
    model = plain.with_scales((0.5, 1.0, 1.5))
    assert plain.scales == (1.0,)
    assert plain.fingerprint() != model.fingerprint()
    image = 100 * torch.rand(1, 3, 48, 40)
    parts = [
        F.interpolate(plain(F.interpolate(image, scale_factor=s, mode="bilinear")), (48, 40), mode="bilinear")
        for s in (0.5, 1.0, 1.5)
    ]
    expected = torch.stack([part.softmax(1) for part in parts]).mean(0)
    torch.testing.assert_close(model(image).softmax(1), expected)
    assert not torch.allclose(plain(image).softmax(1), expected, atol=1e-3)
    model.save(tmp_path / "model")
    again = Segmenter.load(tmp_path / "model")
    assert again.scales == (0.5, 1.0, 1.5)
    assert again(image).equal(model(image))
    assert to_onnx(again, tmp_path / "model.onnx", size=None, batch=None) < 1e-3  # compared at several sizes


def test_a_prediction_takes_the_models_scales_or_those_asked_for(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "a.tif", pixels=noise((3, 40, 50)))
    plain = tiny_segmenter("context", tile=32)

    def mapped(model: Segmenter, scales: tuple[float, ...] | None) -> np.ndarray:
        options = PredictOptions(backend="torch", scales=scales)
        found = model.predict(scene, probabilities=True, options=options).probabilities
        assert found is not None
        return found

    stored = mapped(plain.with_scales((0.5, 1.0)), None)
    np.testing.assert_array_equal(mapped(plain, (0.5, 1.0)), stored)
    np.testing.assert_array_equal(mapped(plain.with_scales((2.0,)), (0.5, 1.0)), stored)
    assert abs(mapped(plain, None) - stored).max() > 1e-3
