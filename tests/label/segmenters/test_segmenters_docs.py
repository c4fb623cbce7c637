"""The page about segmenters: its Python runs, and it names every segmenter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from geodistill.label.segmenters.promptable import NETWORKS, SEGMENTERS, Prompts, build_segmenter
from geodistill.label.segmenters.sam_model import FAMILIES

PAGE = (Path(__file__).parents[3] / "docs" / "segmenters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_shown_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[0], "segmenters.md", "exec"), {})
    assert re.fullmatch(r"\d+ \d+ \(\d+, \d+\) [\d.]+\n", capsys.readouterr().out)


def test_the_segmenter_shown_is_a_plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brightest.py").write_text(BLOCKS[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SEGMENTERS, "brightest", "brightest:Brightest")  # type: ignore[arg-type]
    segmenter = build_segmenter("brightest")
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:9, 10:20] = 200
    [embedding] = segmenter.embed([image])
    [mask] = segmenter.masks(embedding, Prompts(boxes=np.array([(8, 4, 22, 12)], np.float32)))
    assert (mask.left, mask.top, int(mask.pixels.sum())) == (8, 4, 40)


def test_every_segmenter_is_named() -> None:
    assert set(NETWORKS) == set(FAMILIES)
    assert all(f"`{name}`" in PAGE for name in ("box", "grabcut", *(f"{family}:WEIGHTS" for family in NETWORKS)))
