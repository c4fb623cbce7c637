"""Places outside what a model was trained on: which band the warning names, and the map of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from factories import make_raster
from geodistill.errors import GeodistillWarning
from geodistill.inference.inputs import how_far
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.spec import Legend, Spec
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

SPEC = Spec(Legend(("a", "b", "c")), ("red", "green", "nir"), (100.0, 90.0, 120.0), (10.0, 12.0, 20.0))


def test_one_band_far_out_is_named_though_the_others_are_right() -> None:
    assert how_far(SPEC, (104, 95, 130), (9, 13, 22)) is None
    told = how_far(SPEC, (104, 95, 120 + 11 * 20), (9, 13, 22))
    assert told is not None
    assert "furthest in band nir, 11)" in told
    assert how_far(SPEC, (104, 95, 120 + 9 * 20), (9, 13, 22)) is None


def test_it_lies_where_the_scene_does(tmp_path: Path) -> None:
    scene, model = tmp_path / "scene.tif", tiny_segmenter()
    corners = [GroundControlPoint(r, c, 30 + c * 1e-4, 1 - r * 1e-4) for r in (0, 130) for c in (0, 200)]
    make_raster(scene, height=130, width=200, crs=None)
    with rasterio.open(scene, "r+") as file:
        file.gcps = corners, CRS.from_epsg(4326)
    options = PredictOptions(backend="torch", unlike=True, stac=True)
    (made,) = predict(model, [scene], tmp_path / "map.tif", options)
    assert made.unlike is not None
    assert made.stac is not None
    with rasterio.open(made.unlike) as file:
        points, crs = file.gcps
    assert crs.to_epsg() == 4326
    # Rows and columns are counted in cells of 64 pixels.
    assert [(p.row * 64, p.col * 64, p.x, p.y) for p in points] == [(p.row, p.col, p.x, p.y) for p in corners]
    assert "unlike" in json.loads(made.stac.read_text())["assets"]


def test_the_map_says_where_and_which_band(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(np.reshape(SPEC.mean, (3, 1, 1)), 5, (3, 130, 200)).clip(1, 255)
    pixels[2, 64:128, 64:128] = 1  # 6 deviations: like
    pixels[0, :64, 128:192] = 250  # 15: unlike, by red
    pixels[1, 64:128, 128:192] = 250  # 13: unlike, by green
    pixels[:, :64, :64] = 0  # no data
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels.astype(np.uint8), nodata=0)
    model = tiny_segmenter()
    model.spec = replace(SPEC, gsd=None)
    (made,) = predict(model, [scene], tmp_path / "map.tif", PredictOptions(backend="torch", unlike=True))
    assert made.unlike is not None
    with rasterio.open(made.unlike) as file, rasterio.open(made.path) as whole:
        assert file.shape == (3, 4)
        np.testing.assert_array_equal(file.read(1)[:2, :3], [[255, 0, 1], [0, 0, 1]])
        assert file.read(2)[0, 2] == 1
        assert file.read(2)[1, 2] == 2
        assert file.transform.c == whole.transform.c
        assert file.transform.a == 64 * whole.transform.a
    assert any("% of the scene lies outside" in note for note in made.notes)
    bright = np.broadcast_to(np.reshape([250, 90, 120], (3, 1, 1)), (3, 40, 40)).astype(np.uint8)
    source = make_raster(tmp_path / "bright.tif", pixels=bright)
    with pytest.warns(GeodistillWarning, match="furthest in band red"):
        predict(model, [source], tmp_path / "bright_map.tif", PredictOptions(backend="torch"))
