"""Scenes as they come, through the whole of `predict`: wherever they lie, whatever they hold, however they are kept."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from factories import make_raster, noise, rational_polynomials
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import Raster
from geodistill.spec import IGNORE_INDEX
from tiny import brightest, tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

GCPS = [GroundControlPoint(r, c, 30 + c * 1e-4, 1 - r * 1e-4) for r, c in ((0, 0), (0, 50), (40, 0), (40, 50))]
RPCS = rational_polynomials(20, 25)
PLACES: dict[str, dict[str, Any]] = {
    "turned": {
        "crs": "EPSG:32636",
        "transform": Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    },
    "south-up": {"crs": "EPSG:32636", "transform": Affine(0.5, 0, 5e5, 0, 0.5, 4e6)},
    "antimeridian, degrees": {"crs": "EPSG:4326", "transform": from_origin(179.998, 2, 1e-4, 1e-4)},
    "antimeridian, UTM": {"crs": "EPSG:32601", "transform": from_origin(166_000, 221_000, 20, 20)},
    "antimeridian, control points": {
        "gcps": [
            GroundControlPoint(row, col, x, 2 - row * 1e-4)
            for row in (0, 40)
            for col, x in ((0, 179.998), (50, -179.997))
        ],
        "crs": "EPSG:4326",
    },
    "control points": {"gcps": GCPS, "crs": "EPSG:4326"},
    "rational polynomials": {"rpcs": RPCS},
}


def write_scene(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **profile
    ) as file:
        file.write(pixels)
    return path


def classes_of(source: Any, path: Path, **options: Any) -> NDArray[np.uint8]:
    """Map a scene with the network whose class is the brightest band."""
    (made,) = predict(tiny_segmenter(), [source], path, PredictOptions(device="cpu", **options))
    with rasterio.open(made.path) as file:
        classes: NDArray[np.uint8] = file.read(1)
    return classes


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_lies_where_its_scene_lies(place: str, tmp_path: Path) -> None:
    pixels = noise((3, 40, 50))
    source = write_scene(tmp_path / "scene.tif", pixels, **PLACES[place])
    options = PredictOptions(device="cpu", stac=True, vector="geojson")
    (made,) = predict(tiny_segmenter(), [source], tmp_path / "map.tif", options)
    with Raster(source) as scene, Raster(made.path) as found:
        assert (found.grid.crs, found.grid.transform) == (scene.grid.crs, scene.grid.transform)
        points = [[(p.row, p.col, p.x, p.y) for p in raster.grid.gcps] for raster in (scene, found)]
        assert points[0] == points[1]
        assert found.grid.gcps_crs == scene.grid.gcps_crs
        assert (found.grid.rpcs is None) == (scene.grid.rpcs is None) == (place != "rational polynomials")
        np.testing.assert_array_equal(found.read_labels()[0][0], brightest(pixels))
    assert made.vectors is not None
    assert made.stac is not None
    frame, item = geopandas.read_file(made.vectors), pystac.Item.from_file(made.stac)
    assert frame.is_valid.all()
    assert frame["pixels"].sum() == 40 * 50
    assert item.assets["polygons"].href == "./map.geojson"
    if place.startswith("antimeridian"):
        # On both sides of it, and nothing goes round the world.
        assert tuple(frame.total_bounds[[0, 2]]) == pytest.approx((-180, 180))
        sides = frame.geometry.bounds
        assert ((sides["maxx"] - sides["minx"] < 1) | (frame.geom_type == "MultiPolygon")).all()
        assert item.bbox is not None
        assert item.bbox[0] > 179
        assert item.bbox[2] < -179


def test_what_has_no_data_in_any_way_that_files_say_it(tmp_path: Path) -> None:
    seen = np.ones((40, 50), bool)
    seen[5:20, 10:30] = False
    plain = noise((3, 40, 50))
    holed, floats = np.where(seen, plain, 0), np.where(seen, noise((3, 40, 50), "float32"), np.nan)
    sources: dict[str, Any] = {
        "nodata": make_raster(tmp_path / "nodata.tif", pixels=holed, nodata=0),
        "told": make_raster(tmp_path / "told.tif", pixels=holed),
        "alpha": make_raster(tmp_path / "alpha.tif", pixels=plain, alpha=seen),
        "mask": make_raster(tmp_path / "mask.tif", pixels=plain, mask_band=seen),
        "nan": make_raster(tmp_path / "nan.tif", pixels=floats.astype(np.float32)),
        "uint16": make_raster(tmp_path / "uint16.tif", pixels=holed.astype(np.uint16), nodata=0),
    }
    names = []
    for band, value in enumerate((0, 7, 255)):
        pixels = np.where(seen, plain[band], value).astype(np.uint8)[None]
        names.append(make_raster(tmp_path / f"bands_B{band}.tif", pixels=pixels, nodata=value))
    classes = {name: classes_of(path, tmp_path / "maps" / f"{name}.tif") for name, path in sources.items()}
    classes["told"] = classes_of(sources["told"], tmp_path / "maps" / "told.tif", nodata=0.0)
    (made,) = predict(tiny_segmenter(), names, tmp_path / "maps" / "b.tif", PredictOptions(device="cpu"), stack=True)
    with rasterio.open(made.path) as file:
        classes["a value a band"] = file.read(1)
    for name, found in classes.items():
        np.testing.assert_array_equal(found != IGNORE_INDEX, seen, err_msg=name)
        if name != "nan":
            np.testing.assert_array_equal(found[seen], brightest(plain)[seen], err_msg=name)


def test_scale_and_offset_make_sensor_units(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50), "uint16")
    source = make_raster(tmp_path / "scene.tif", pixels=pixels)
    with rasterio.open(source, "r+") as file:
        file.scales, file.offsets = (0.001, 0.004, 0.001), (0.0, -8.0, 0.5)
    units = pixels * np.array([0.001, 0.004, 0.001])[:, None, None] + np.array([0.0, -8.0, 0.5])[:, None, None]
    sure = np.diff(np.sort(units, 0), axis=0)[-1] > 1e-3
    np.testing.assert_array_equal(classes_of(source, tmp_path / "map.tif")[sure], brightest(units)[sure])


def test_archives_mosaics_and_folders_of_bands(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50))
    source = make_raster(tmp_path / "scene.tif", pixels=pixels)
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        archive.write(source, "deep/scene.tif")
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">scene.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "mosaic.vrt").write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{bands}</VRTDataset>')
    folder = tmp_path / "LC08_L1TP_193025"
    for band, number in enumerate((4, 3, 2)):
        make_raster(folder / f"{folder.name}_B{number}.TIF", pixels=pixels[band : band + 1])
    segmenter = tiny_segmenter()
    segmenter.spec = replace(segmenter.spec, bands=("red", "green", "blue"))
    inputs = [f"/vsizip/{tmp_path}/scenes.zip/deep/scene.tif", tmp_path / "mosaic.vrt", folder]
    made = predict(segmenter, inputs, tmp_path / "maps", PredictOptions(device="cpu"))
    assert [one.path.name for one in made] == ["scene.tif", "mosaic.tif", "LC08_L1TP_193025.tif"]
    for one in made:
        with rasterio.open(one.path) as file:
            np.testing.assert_array_equal(file.read(1), brightest(pixels))
