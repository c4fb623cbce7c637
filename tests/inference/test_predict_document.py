"""The commands of the page, run as they stand: only the address is that of a server of the test's own."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from served import serve
from shown import shown_blocks
from tiny import tiny_spec

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
PIXELS = noise((3, 80, 60))
UNET = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


def make_inputs(folder: Path) -> None:
    """Make the files that the page names, all of one scene."""
    for name in ("scene", "huge"):
        make_raster(folder / f"{name}.tif", pixels=PIXELS)
    rasterio.shutil.copy(folder / "scene.tif", folder / "mosaic.vrt", driver="VRT")
    with zipfile.ZipFile(folder / "scenes.zip", "w") as archive:
        archive.write(folder / "scene.tif", "scene.tif")
    landsat = "LC08_L1TP_193025_20210612"
    for band, number in zip(PIXELS, (4, 3, 2), strict=True):
        file = make_raster(folder / landsat / f"{landsat}_B{number}.TIF", pixels=band[None])
        rasterio.shutil.copy(file, folder / f"T32_B0{number}.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    assets = {"visual": {"href": "scene.tif", "type": "image/tiff", "roles": ["visual"]}}
    items = [{"type": "Feature", "stac_version": "1.0.0", "id": f"item{i}", "assets": assets} for i in range(2)]
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    places = {"location": ["scene.tif", "mosaic.vrt"]}
    geopandas.GeoDataFrame(places, geometry=[shapely.Point(0, 0)] * 2).to_parquet(folder / "tiles.parquet")


@pytest.mark.usefixtures("cluster")
def test_the_pages_commands_map_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_inputs(tmp_path)
    torch.manual_seed(0)
    spec = replace(tiny_spec(std=60.0), bands=("red", "green", "blue"), legend=Legend(("ground", "building", "tree")))
    Segmenter("supervised", UNET, spec, 32, {}).save("runs/student/segmenter")
    commands = [command for block in shown_blocks(PAGE) for command in block]
    assert sum("ray" in command for command in commands) == 2
    done = set()
    with serve(tmp_path / "served") as server:
        shutil.copy("scene.tif", server.folder / "far.tif")
        for command in commands:
            said = [word.replace("https://example.org/scene.tif", f"{server.address}/far.tif") for word in command]
            assert main(said) == 0, capsys.readouterr().err
            lines = capsys.readouterr().out.splitlines()
            done |= {Path(line.split()[0]) for line in lines if not line.startswith(" ")}
    names = ("scene", "mosaic", "far", "LC08_L1TP_193025_20210612", "item0", "item1")
    assert done == {Path("map.tif"), *(Path(f"maps/{name}.tif") for name in names)}
    with rasterio.open("map.tif") as file:
        first = file.read(1)
    assert len(np.unique(first)) > 1
    for path in done:
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), first, err_msg=str(path))
