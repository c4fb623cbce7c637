"""The commands of the page on hectares and change, run as they stand; points are interpreted in between."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
from rasterio.transform import from_origin

from class_maps import LEGEND, blobs, write_map
from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.raster import Window
from shown import shown_blocks
from tiny import tiny_networks, tiny_segmenter

PAGE = Path(__file__).parents[2] / "docs" / "areas.md"
PLACE = from_origin(500_000, 40_000, 5, 5)


def interpret(points: Path) -> None:
    """Say of every point what the map says."""
    frame = geopandas.read_file(points, layer="points")
    frame["reference"] = pd.Series(np.array(LEGEND.names, object)[frame["class"]], dtype="object")
    pyogrio.write_dataframe(frame, points, layer="points")


def test_the_pages_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("map", "2024", "2026")):
        write_map(tmp_path / f"{name}.tif", blobs(120, 100, seed), "EPSG:32636", PLACE)
    for seed, name in enumerate(("spring", "autumn")):
        make_raster(tmp_path / f"{name}.tif", pixels=noise((3, 40, 50), seed=seed))
    image = make_raster(tmp_path / "town" / "image.tif", height=20, width=20, transform=PLACE)
    Manifest((Row(image, None, "train", Window(0, 0, 20, 20)),), ("b0",)).save(tmp_path / "town" / "manifest.parquet")
    commands = [command for block in shown_blocks(PAGE) for command in block]
    assert len(commands) == 4
    with tiny_networks():
        tiny_segmenter().save("runs/student/segmenter")
        for command in commands:
            if command[:2] == ["assess", "estimate"]:
                interpret(tmp_path / "points.gpkg")
            assert main(command) == 0, capsys.readouterr().err
    assert "overall accuracy 1.000" in capsys.readouterr().out
    made = {"points.gpkg", "areas.csv", "change.tif", "change.gpkg", "change.csv", "seasons_before.tif"}
    assert made <= {path.name for path in tmp_path.iterdir()}
