"""Stages that take each other's weights, trained for a step or two: an encoder from `adapt` to `distil`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from geodistill.project.planning import Selection
from geodistill.project.run_project import run_project
from geodistill.segmenter import Segmenter
from geodistill.synthetic import REGIONS, write_dataset

pytestmark = pytest.mark.slow

PROJECT = """\
scan: {images: town, legend: town/legend.yaml}
adapt:
  recipe: ktda-folder
  network: {encoder: test_resnet}
  teacher: {encoder: test_resnet, weights: null}
  losses: {phase: {steps: 2}}
  data: {crop: 32, batch_size: 2, workers: 0}
  trainer: {accelerator: cpu}
distil:
  recipe: supervised-folder
  network: {encoder: test_resnet}
  data: {crop: 32, batch_size: 2, workers: 0}
  optimizer: {lr: 1.0e-12}
  trainer: {max_steps: 1, accelerator: cpu, val_every_steps: 1}
"""


def test_distil_begins_with_the_encoder_of_adapt(tmp_path: Path) -> None:
    write_dataset(tmp_path / "town", REGIONS["north"], 6, 64)
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    run_project(tmp_path / "project.yaml", Selection(), say=lambda line: None)
    adapted = load_file(tmp_path / "project/adapt/encoder/model.safetensors")
    assert json.loads((tmp_path / "project/adapt/encoder/config.json").read_text())["encoder"] == "test_resnet"
    state = Segmenter.load(tmp_path / "project/distil").network.network.encoder.state_dict()  # type: ignore[union-attr]
    weights = [name for name in adapted if name.endswith("conv1.weight")]
    assert weights
    for name in weights:
        assert state[name].numpy() == pytest.approx(adapted[name], abs=1e-6), name
