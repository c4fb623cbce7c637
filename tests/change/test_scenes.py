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


@pytest.mark.parametrize("beside", ["change_before.tif", "change_after_confidence.tif"])
def test_a_scene_that_is_called_like_one_of_the_maps_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], beside: str
) -> None:
    scenes = [make_raster(tmp_path / "spring.tif"), make_raster(tmp_path / beside)]
    photo = scenes[1].read_bytes()
    with tiny_networks():
        tiny_segmenter().save(tmp_path / "model")
        more = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "change.tif")]
        assert main(["change", *map(str, scenes), *more]) == 2
    assert beside in capsys.readouterr().err
    assert scenes[1].read_bytes() == photo
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([beside, "model", "spring.tif"])
