"""A mechanism wins in a world in which its premise holds; `benchmarks/controls.py` has more seeds and steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from geodistill.synthetic.controls import WORLDS

pytestmark = pytest.mark.slow

STEPS, SEED = 30, 0


@pytest.mark.parametrize("mechanism", [name for name in WORLDS if name != "ema"])
def test_the_arm_with_the_mechanism_wins(mechanism: str) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "controls.py"
    spec = importlib.util.spec_from_file_location("controls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    without, with_it = module.compare(mechanism, SEED, STEPS)
    assert with_it > without + 5
