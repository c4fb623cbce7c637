"""The text decides where only the place tells the classes apart, in a world made for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FILE = Path(__file__).parents[2] / "benchmarks" / "control_text.py"


def control() -> Any:
    spec = importlib.util.spec_from_file_location("control_text", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["control_text"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_the_picture_does_not_tell_the_classes_apart() -> None:
    world = control()
    images, masks, files = world.draw(np.random.default_rng(0), 64)
    red = images[:, 0] > images[:, 1]
    building = {
        name: (masks == 1) & torch.tensor([file == name for file in files])[:, None, None] for name in set(files)
    }
    shares = {name: float(red[where].float().mean()) for name, where in building.items()}
    assert shares["Cfb.tif"] > 0.98
    assert shares["BWh.tif"] < 0.02


@pytest.mark.slow
def test_the_text_wins_and_the_answers_turn_with_it() -> None:
    world = control()
    climate, plain = (world.run(arm, 0, steps=120) for arm in ("climate", "plain"))
    assert climate.right - plain.right >= world.GAIN
    assert climate.swapped <= world.TURNED
    assert plain.swapped == plain.right
