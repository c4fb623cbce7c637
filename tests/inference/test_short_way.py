"""A plain `predict` imports nothing that it does not use."""

import subprocess
import sys
from pathlib import Path

import pytest

from factories import make_raster
from geodistill.segmenter import Segmenter
from tiny import tiny_spec

IDLE = (
    "backends.backend",
    "backends.choose",
    "backends.graph",
    "backends.graph_model",
    "backends.onnx_backend",
    "backends.openvino_backend",
    "engine.cluster",
    "engine.processes",
    "inference.feature_file",
    "inference.listed",
    "inference.local_only",
    "inference.location",
    "inference.objects.parts",
    "inference.objects.write_objects",
    "inference.prepare",
    "inference.regions",
    "inference.stac_item",
    "inference.tile_set",
    "inference.vector",
)
"""Modules for other backends, engines, inputs and outputs."""

SCRIPT = """
import sys
from geodistill.cli import main
assert main(sys.argv[1:]) == 0
print(*(name for name in sys.modules if name.startswith("geodistill.")))
"""


@pytest.mark.slow
def test_a_plain_predict_imports_only_what_it_uses(tmp_path: Path) -> None:
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    Segmenter("supervised", arguments, tiny_spec(std=60), 32, {"scores": {}}).save(tmp_path / "model")
    source = make_raster(tmp_path / "s.tif")
    command = ["predict", "--model", tmp_path / "model", "--input", source, "--out", tmp_path / "m.tif"]
    command += ["--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, command)], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported & {f"geodistill.{name}" for name in IDLE} == set()
