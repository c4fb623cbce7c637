"""A model, trained on nothing, and labelled data that it segments without an error."""

from pathlib import Path

import numpy as np
import pytest

from factories import make_raster
from geodistill.data.manifest import Manifest, Row
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.onnx import export_onnx
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from text_models import zoned_segmenter
from tiny import brightest, tiny_networks, tiny_segmenter, tiny_spec


@pytest.fixture(autouse=True)
def _networks(tiny_models: None) -> None:
    """Let every test here have the networks of `tiny`."""


@pytest.fixture(scope="session")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a model that reads text, for any number of images, with its prompts as ``zones_text.npz``."""
    folder = tmp_path_factory.mktemp("zones")
    with tiny_networks():
        model = zoned_segmenter(encoder="two_levels")
        made = export_onnx(model, folder / "zones.onnx", ExportOptions(size=32, batch="any"))
    assert made.prompts == folder / "zones_text.npz"
    assert made.difference < 1e-4
    assert str(made).splitlines()[1] == f"{made.prompts}: the inputs text and present of each climate zone"
    return folder / "zones.onnx"


@pytest.fixture
def segmenter() -> Segmenter:
    return tiny_segmenter("context", channels=3, classes=3, tile=32)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two images to train on and one to validate: fields, in each of which one band is brightest by far."""
    rows = []
    for index, split in enumerate(("train", "train", "val")):
        rng = np.random.default_rng(index)
        band = rng.integers(0, 3, (7, 8)).repeat(8, 0).repeat(8, 1)
        pixels = rng.integers(1, 60, (3, 56, 64)) + 150 * (np.arange(3)[:, None, None] == band)
        image = make_raster(tmp_path / "data" / f"image_{index}.tif", pixels=pixels.astype(np.uint8))
        mask = make_raster(tmp_path / "data" / f"mask_{index}.tif", pixels=brightest(pixels)[None])
        rows.append(Row(image, mask, split, Window(0, 0, 56, 64)))
    saved = Manifest(tuple(rows), ("b0", "b1", "b2"), tiny_spec().legend)
    saved.save(tmp_path / "manifest.parquet")
    return Manifest.load(tmp_path / "manifest.parquet")
