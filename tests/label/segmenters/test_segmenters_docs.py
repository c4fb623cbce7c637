"""The page about segmenters: its Python runs, and it names every segmenter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geodistill.label.segmenters.base import NETWORKS
from geodistill.label.segmenters.sam_model import FAMILIES

PAGE = (Path(__file__).parents[3] / "docs" / "segmenters.md").read_text(encoding="utf-8")


def test_the_python_shown_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "segmenters.md", "exec"), {})
    assert re.fullmatch(r"\d+ \d+ \(\d+, \d+\) [\d.]+\n", capsys.readouterr().out)


def test_every_segmenter_is_named() -> None:
    assert set(NETWORKS) == set(FAMILIES)
    assert all(f"`{name}`" in PAGE for name in ("box", "grabcut", *(f"{family}:WEIGHTS" for family in NETWORKS)))
