"""Scenes as they come: without a CRS, on other planets, in mixed sample types, palettes, of one pixel or too large."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from factories import make_picture, make_raster, noise
from geodistill.errors import DataError, GeodistillError, RecipeError
from geodistill.inference.layers import SceneMap
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import Raster
from tiny import brightest, tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
ENGINEERING = 'ENGCRS["site",EDATUM["stake"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
MOON = 'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],UNIT["degree",0.0174532925199433]]'
ALL = PredictOptions(confidence=True, probabilities="float16", backend="torch", device="cpu", stac=True)


def mapped(source: Path | str, path: Path, options: PredictOptions = ALL, kind: str = "geojson") -> SceneMap:
    (made,) = predict(tiny_segmenter(), [source], path, replace(options, vector=kind))
    return made


def classes(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        found: NDArray[Any] = file.read(1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("crs", [None, LOCAL, ENGINEERING, MOON])
@pytest.mark.parametrize("transform", [from_origin(500, 4000, 0.5, 0.5), Affine.rotation(20) @ Affine.scale(0.5, -0.5)])
def test_a_place_that_is_nowhere_on_earth(tmp_path: Path, crs: str | None, transform: Affine) -> None:
    pixels = noise((3, 40, 50))
    profile: dict[str, Any] = {"driver": "GTiff", "count": 3, "height": 40, "width": 50, "dtype": "uint8"}
    with rasterio.open(tmp_path / "s.tif", "w", **profile, crs=crs, transform=transform) as file:
        file.write(pixels)
    made = mapped(tmp_path / "s.tif", tmp_path / "out" / "m.tif")
    np.testing.assert_array_equal(classes(made.path), brightest(pixels))
    for path in (made.path, made.confidence, made.probabilities):
        assert path is not None
        with rasterio.open(path) as file, rasterio.open(tmp_path / "s.tif") as scene:
            assert file.transform.almost_equals(scene.transform, 1e-9)
            assert file.crs == scene.crs
    assert made.stac is not None
    item = json.loads(made.stac.read_text())
    assert item["geometry"] is None
    assert not list((tmp_path / "out").glob(".*"))


def test_control_points_without_a_crs(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "s.tif", crs=None)
    points = [GroundControlPoint(r, c, 100.0 + c, 200.0 - r) for r, c in ((0, 0), (0, 50), (40, 0), (40, 50))]
    with rasterio.open(source, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS())
    made = mapped(source, tmp_path / "out" / "m.tif")
    with rasterio.open(made.path) as file:
        found, crs = file.gcps
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
    assert not crs


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (16, 16), (17, 15)])
@pytest.mark.parametrize("kind", ["gpkg", "parquet", "fgb", "geojson"])
def test_scenes_of_a_few_pixels_have_every_layer(tmp_path: Path, shape: tuple[int, int], kind: str) -> None:
    pixels = noise((3, *shape))
    made = mapped(make_raster(tmp_path / "s.tif", pixels=pixels), tmp_path / "out" / "m.tif", kind=kind)
    np.testing.assert_array_equal(classes(made.path), brightest(pixels))
    assert made.vectors is not None
    table = geopandas.read_parquet(made.vectors) if kind == "parquet" else geopandas.read_file(made.vectors)
    assert table["pixels"].sum() == shape[0] * shape[1]
    with Raster(made.probabilities or "") as raster:
        np.testing.assert_allclose(raster.read()[0].sum(0), 1, atol=2e-3)


def test_bands_of_several_types(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50))
    bands = []
    for i, kind in enumerate(("uint8", "uint16", "float32")):
        make_raster(tmp_path / f"{i}.tif", pixels=pixels[i : i + 1].astype(kind))
        name = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[kind]
        held = f'<SourceFilename relativeToVRT="1">{i}.tif</SourceFilename><SourceBand>1</SourceBand>'
        bands.append(
            f'<VRTRasterBand dataType="{name}" band="{i + 1}"><SimpleSource>{held}</SimpleSource></VRTRasterBand>'
        )
    (tmp_path / "s.vrt").write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{"".join(bands)}</VRTDataset>')
    made = mapped(tmp_path / "s.vrt", tmp_path / "out" / "m.tif")
    np.testing.assert_array_equal(classes(made.path), brightest(pixels))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_samples_are_refused_before_any_work(tmp_path: Path, dtype: str) -> None:
    source = make_raster(tmp_path / "s.tif", pixels=noise((3, 40, 50)).astype(dtype))
    with pytest.raises(DataError, match="complex"):
        mapped(source, tmp_path / "out" / "m.tif")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif"])
def test_a_palette_is_read_in_its_colours(tmp_path: Path, suffix: str) -> None:
    colours = [(200, 10, 20), (30, 220, 5), (4, 9, 180), (90, 80, 70)]
    indices = np.random.default_rng(0).integers(0, 4, (40, 50), dtype=np.uint8)
    if suffix == ".tif":
        source = make_raster(tmp_path / "s.tif", pixels=indices[None], palette=colours)
    else:
        source = make_picture(tmp_path / f"s{suffix}", indices, palette=colours)
    made = mapped(source, tmp_path / "out" / "m.tif")
    expected = np.array([np.argmax(colour) for colour in colours], np.uint8)[indices]
    np.testing.assert_array_equal(classes(made.path), expected)


def huge(path: Path, height: int, width: int) -> Path:
    bands = "".join(f'<VRTRasterBand dataType="Byte" band="{i}"/>' for i in (1, 2, 3))
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>')
    return path


@pytest.mark.parametrize(("height", "width"), [(2**31 - 1, 2**31 - 1), (2**31 - 1, 64), (64, 2**31 - 1)])
def test_a_scene_far_too_large_is_refused_at_once(tmp_path: Path, height: int, width: int) -> None:
    begun = time.monotonic()
    with pytest.raises(GeodistillError, match=r"with a side of 2147483647 pixels, which is \d+ windows"):
        predict(
            tiny_segmenter(), [huge(tmp_path / "s.vrt", height, width)], tmp_path / "m.tif", PredictOptions(batch=2)
        )
    assert time.monotonic() - begun < 10
    assert [path.name for path in tmp_path.iterdir()] == ["s.vrt"]


def test_a_strip_larger_than_all_memory_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.inference.network.machine_memory", lambda: 2.0**20)
    with pytest.raises(RecipeError, match=r"100000 pixels wide, takes about .* bound it with --max-memory"):
        predict(
            tiny_segmenter(),
            [huge(tmp_path / "s.vrt", 64, 100_000)],
            tmp_path / "m.tif",
            PredictOptions(backend="torch", batch=2),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["s.vrt"]
