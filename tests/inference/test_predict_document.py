"""The commands of the page, run as they stand: only the address is that of a server of the test's own."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import onnx
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch
from onnx import TensorProto, helper

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from served import serve
from shown import shown_blocks
from tiny import tiny_spec
from web_tiles import serve_tiles

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"
PIXELS = noise((3, 80, 60))
UNET = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


def make_graph(path: Path, **metadata: str) -> None:
    """Write a model of others, whose classes are its bands."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 32, 32)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)


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
    shutil.copy(folder / "scene.tif", folder / "new.tif")
    make_raster(folder / "old.tif", pixels=255 - PIXELS)
    with rasterio.open(folder / "scene.tif") as scene:
        district = geopandas.GeoDataFrame(geometry=[shapely.box(*scene.bounds)], crs=scene.crs)
    district.to_crs("EPSG:4326").buffer(1e-7, join_style="mitre").to_file(folder / "district.gpkg")
    make_graph(folder / "landcover.onnx", class_names='{"0": "a", "1": "b", "2": "c"}')
    make_graph(folder / "theirs.onnx")
    legend = Legend(("ground", "building", "tree"))
    mask = make_raster(folder / "mask.tif", pixels=PIXELS[:1] % 3)
    rows = (Row(folder / "scene.tif", mask, "test", Window(0, 0, 80, 60)),)
    Manifest(rows, ("red", "green", "blue"), legend).save(folder / "manifest.parquet")
    places = {"location": ["scene.tif", "mosaic.vrt"]}
    geopandas.GeoDataFrame(places, geometry=[shapely.Point(0, 0)] * 2).to_parquet(folder / "tiles.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [1], indirect=True)
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
    with serve(tmp_path / "served") as server, serve_tiles() as tiles:
        shutil.copy("scene.tif", server.folder / "far.tif")
        for command in commands:
            near = {"https://example.org/scene.tif": f"{server.address}/far.tif"}
            near |= {"https://tiles.example": tiles.address, "https://maps.example": tiles.address}
            said = command
            for far, here in near.items():
                said = [word.replace(far, here) for word in said]
            assert main(said) == 0, capsys.readouterr().err
            lines = capsys.readouterr().out.splitlines()
            if said[0] == "predict":
                done |= {Path(line.split()[0]) for line in lines if not line.startswith(" ")}
    names = ("scene", "mosaic", "far", "LC08_L1TP_193025_20210612", "item0", "item1")
    others = {Path("web.tif"), Path("theirs.tif")}
    assert done - others == {Path("map.tif"), *(Path(f"maps/{name}.tif") for name in names)}
    with rasterio.open("map.tif") as file:
        first = file.read(1)
    assert len(np.unique(first)) > 1
    assert others < done
    assert Path("runs/student/robustness/robustness.png").is_file()
    for path in done - others:
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), first, err_msg=str(path))
