"""Embedding rasters: many bands of 8-bit integers with scale and offset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from factories import make_raster
from geodistill.inference.network import RunPlan, as_network
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.windows import Area
from geodistill.raster import Raster
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.mark.parametrize("bands", [64, 128])
def test_bytes_with_scale_and_offset_are_what_they_stand_for(bands: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(bands)
    pixels = rng.integers(-127, 128, (bands, 40, 50)).astype(np.int8)
    pixels[:, 3:9, 4:30] = -128
    scales, offsets = rng.uniform(0.01, 0.05, bands), rng.uniform(-0.5, 0.5, bands)
    scene = make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=-128)
    with rasterio.open(scene, "r+") as file:
        file.scales, file.offsets = tuple(scales), tuple(offsets)
    model = tiny_segmenter("band", channels=bands, classes=bands)
    (made,) = predict(model, [scene], tmp_path / "map.tif", PredictOptions(backend="torch"))
    values = pixels * scales.astype(np.float32)[:, None, None] + offsets.astype(np.float32)[:, None, None]
    # The network's probabilities of near ties are one in float32: what is chosen is within that of the highest.
    with rasterio.open(made.path) as file:
        found = file.read(1)
    valid = ~(pixels == -128).all(0)
    np.testing.assert_array_equal(found == 255, ~valid)
    chosen = np.take_along_axis(values, np.minimum(found, bands - 1)[None].astype(np.int64), 0)[0]
    assert (values.max(0) - chosen)[valid].max() < 1e-3


@pytest.mark.slow
def test_memory_grows_evenly_with_the_bands(tmp_path: Path) -> None:
    """What a strip takes is estimated before work begins, and bounds it."""
    needed = {}
    for bands in (32, 64, 128):
        scene = make_raster(tmp_path / f"{bands}.tif", channels=bands, height=64, width=2000, dtype="int8")
        # Two classes whatever its bands, so that bands alone are counted.
        model = replace(as_network(tiny_segmenter("band", channels=bands, classes=bands)), classes=2)
        with Raster(scene) as raster:
            windows = Area.whole(raster).windows(16, 0.25)
            plan = RunPlan(PredictOptions(), model, windows, 1, "torch", "fp32")
            fixed, each = plan.strip_bytes(raster)
            needed[bands] = fixed + each * len(windows.lefts)
    steps = (needed[64] - needed[32]) / 32, (needed[128] - needed[64]) / 64
    assert steps[0] == pytest.approx(steps[1], rel=0.02)
