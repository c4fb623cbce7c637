"""The file as Deepness takes it: its metadata keys, its preparation of pixels, its loop over tiles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from geodistill.cli import main
from geodistill.errors import ArtifactError, RecipeError
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.qgis import export_qgis
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec
from tiny import tiny_segmenter, tiny_spec


class Plugin:
    """What Deepness does with a model, told from its documents and its code.

    Args:
        path: The ONNX file.
        standardises: Newer versions of the plug-in standardise by the metadata; older ones do not know it.
    """

    def __init__(self, path: Path, standardises: bool) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,), (self.output,) = self.session.get_inputs(), self.session.get_outputs()
        self.name, self.shape = given.name, given.shape
        held = self.session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = {key: json.loads(text) for key, text in held.items()}
        names = sorted(self.metadata["class_names"].items(), key=lambda pair: int(pair[0]))
        assert [int(key) for key, _ in names] == list(range(len(names)))
        self.classes = [name for _, name in names]
        self.tile, self.threshold = int(self.metadata["tile_size"]), float(self.metadata["seg_thresh"])
        self.mean, self.std = np.zeros(self.shape[-3]), np.ones(self.shape[-3])
        if standardises:
            self.mean = np.array([float(v) for v in self.metadata["standardization_mean"]])
            self.std = np.array([float(v) for v in self.metadata["standardization_std"]])
        assert len(self.output.shape) == 4
        assert self.output.shape[2] == self.output.shape[3]

    def segment(self, tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
        """``(N, H, W, C)`` uint8 -> ``(N, H, W)`` classes."""
        values = np.float32(tiles[..., : self.shape[-3]] * (1.0 / 255.0))
        values = np.float32((values - self.mean) / self.std).transpose(0, 3, 1, 2)
        found = self.session.run(None, {self.name: values})[0]
        found[found < self.threshold] = 0
        return found.argmax(1)

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Loop over the tiles of ``(H, W, C)``, of each of which the middle is kept, but at the edges."""
        stride = self.tile - int(self.tile * self.metadata["tiles_overlap"] / 100)
        half = (self.tile - stride) // 2
        bins = [max(-(-(side - self.tile) // stride), 0) + 1 for side in image.shape[:2]]
        sides = [(count - 1) * stride + self.tile for count in bins]
        grown = np.zeros((*sides, image.shape[2]), np.uint8)
        grown[: image.shape[0], : image.shape[1]] = image
        result = np.full(sides, -1)
        for row in range(bins[0]):
            for col in range(bins[1]):
                top, left = row * stride, col * stride
                tile = self.segment(grown[None, top : top + self.tile, left : left + self.tile])[0]
                first = [0 if index == 0 else half for index in (row, col)]
                last = [self.tile - (0 if i == n - 1 else half) for i, n in zip((row, col), bins, strict=True)]
                place = (slice(top + first[0], top + last[0]), slice(left + first[1], left + last[1]))
                result[place] = tile[first[0] : last[0], first[1] : last[1]]
        return result[: image.shape[0], : image.shape[1]]


def with_gsd(segmenter: Segmenter, gsd: float) -> Segmenter:
    spec = segmenter.spec
    segmenter.spec = Spec(spec.legend, spec.bands, spec.mean, spec.std, gsd)
    return segmenter


@pytest.mark.slow
@pytest.mark.parametrize("standardises", [True, False])
def test_the_plug_in_reads_it_and_maps_an_image(segmenter: Segmenter, standardises: bool, tmp_path: Path) -> None:
    assert export_qgis(with_gsd(segmenter, 0.3), tmp_path / "model.onnx", ExportOptions()).difference < 1e-4
    plugin = Plugin(tmp_path / "model.onnx", standardises)
    assert plugin.classes == ["c0", "c1", "c2"]
    assert plugin.metadata["model_type"] == "Segmentor"
    assert plugin.metadata["resolution"] == pytest.approx(30.0)
    assert plugin.metadata["tile_size"] == plugin.metadata["tiles_size"] == 32
    assert plugin.shape == [1, 3, 32, 32]
    tile = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = segmenter(torch.from_numpy(tile.transpose(0, 3, 1, 2)).float()).argmax(1).numpy()
    assert (plugin.segment(tile) != expected).mean() < 0.002


@pytest.mark.slow
def test_its_loop_over_tiles_gives_a_whole_map(tmp_path: Path) -> None:
    """A network that looks at one pixel gives one map, however it is cut."""
    export_qgis(tiny_segmenter("band", tile=32), tmp_path / "model.onnx", ExportOptions(resolution=10, overlap=30))
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    image[..., 1] = 255 - image[..., 0]
    assert (Plugin(tmp_path / "model.onnx", True).run(image) == image.argmax(2)).mean() > 0.99


def test_what_the_plug_in_could_not_use_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(RecipeError, match="without ground sampling distance"):
        export_qgis(segmenter, path, ExportOptions())
    with pytest.raises(RecipeError, match="resolution -1"):
        export_qgis(segmenter, path, ExportOptions(resolution=-1))
    with pytest.raises(RecipeError, match="overlap 90"):
        export_qgis(segmenter, path, ExportOptions(resolution=10, overlap=90))
    with pytest.raises(RecipeError, match="resolution nan"):
        export_qgis(segmenter, path, ExportOptions(resolution=float("nan")))
    spec = tiny_spec()
    # 16 bits; 16 bits, dark and scattered; reflectances.
    for mean, std in (((900.0, 800.0, 700.0), (40.0,) * 3), ((200.0,) * 3, (150.0,) * 3), ((0.3,) * 3, (0.1,) * 3)):
        segmenter.spec = Spec(spec.legend, spec.bands, mean, std)
        with pytest.raises(ArtifactError, match="8-bit bands"):
            export_qgis(segmenter, path, ExportOptions(resolution=10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line(segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter.save(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--to", "qgis", "--out", str(tmp_path / "m.onnx")]
    assert main(command) == 2
    assert "give --resolution" in capsys.readouterr().err
    assert main([*command, "--resolution", "12.5", "--overlap", "10"]) == 0
    metadata = Plugin(tmp_path / "m.onnx", True).metadata
    assert (metadata["resolution"], metadata["tiles_overlap"]) == (12.5, 10)
