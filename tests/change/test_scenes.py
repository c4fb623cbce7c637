"""Two scenes and a model: both are mapped, and the maps compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from factories import make_raster, noise
from geodistill.cli import main
from tiny import tiny_networks, tiny_segmenter


def test_two_scenes_are_mapped_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("spring", "autumn")):
        make_raster(tmp_path / f"{name}.tif", pixels=noise((3, 60, 70), seed=seed))
    with tiny_networks():
        tiny_segmenter().save(tmp_path / "model")
        scenes = [str(tmp_path / f"{name}.tif") for name in ("spring", "autumn")]
        more = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "change.tif"), "--json"]
        assert main(["change", *scenes, *more]) == 0
    about = json.loads(capsys.readouterr().out)
    maps = []
    for name in ("before", "after"):
        with rasterio.open(tmp_path / f"change_{name}.tif") as file:
            maps.append(file.read(1))
    assert about["changed"] == pytest.approx(0.25 * (maps[0] != maps[1]).sum())
    with rasterio.open(about["confidence"]) as file:
        assert file.count == 3
    assert np.array(about["matrix"]).sum() == pytest.approx(0.25 * 60 * 70)
