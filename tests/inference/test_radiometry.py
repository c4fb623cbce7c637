"""Scenes whose numbers are not those a model was trained on are told in one line; ordinary ones are not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factories import make_raster
from geodistill.errors import GeodistillWarning
from geodistill.inference.inputs import how_far, sample_moments
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import Raster
from geodistill.spec import Spec
from tiny import tiny_networks, tiny_segmenter, tiny_spec

MODEL = replace(tiny_spec(), mean=(120.0, 110.0, 90.0), std=(60.0, 50.0, 50.0))
SENTINEL = replace(tiny_spec(), mean=(1200.0, 1100.0, 900.0), std=(700.0, 600.0, 600.0))
RNG = np.random.default_rng(0)
CITY = np.clip(RNG.normal(110, 50, (3, 200, 200)), 1, 255).astype(np.uint8)

FAR = {
    "times 64": (MODEL, CITY.astype(np.uint16) * 64),
    "times 16": (MODEL, CITY.astype(np.uint16) * 16),
    "reflectance": (MODEL, (CITY / 255).astype(np.float32)),
    "8 bits under 12": (SENTINEL, CITY // 2),
    "reflectance under 12": (SENTINEL, (CITY / 255).astype(np.float32)),
}
NEAR = {
    "the same": (MODEL, CITY),
    "dark": (MODEL, CITY // 4),
    "bright": (MODEL, np.clip(CITY.astype(int) + 120, 0, 255).astype(np.uint8)),
    "one field": (MODEL, np.clip(RNG.normal(100, 3, (3, 200, 200)), 1, 255).astype(np.uint8)),
    "water": (MODEL, np.clip(RNG.normal(25, 4, (3, 200, 200)), 1, 255).astype(np.uint8)),
    "a model without statistics": (tiny_spec(), CITY.astype(np.uint16) * 64),
}


@pytest.mark.parametrize("case", [*FAR, *NEAR])
def test_far_and_near(tmp_path: Path, case: str) -> None:
    spec, pixels = (FAR | NEAR)[case]
    with Raster(make_raster(tmp_path / "s.tif", pixels=pixels)) as raster:
        moments = sample_moments(raster)
    assert moments is not None
    told = how_far(spec, *moments)
    assert (told is not None) == (case in FAR)
    if told is not None:
        assert f"samples of {np.mean(moments[0]):.4g} on average" in told
        assert f"trained on {np.mean(spec.mean):.4g}" in told
        away = [abs(m - t) / s for m, t, s in zip(moments[0], spec.mean, spec.std, strict=True)]
        furthest = f"furthest in band {spec.bands[int(np.argmax(away))]}, {max(away):.2g}"
        assert f"({np.mean(away):.2g} standard deviations apart; {furthest})" in told


def test_the_sample_stands_for_the_scene(tmp_path: Path) -> None:
    ramp = np.linspace(0, 250, 600 * 500).reshape(1, 600, 500).repeat(3, 0).astype(np.uint8)
    ramp[:, :300] = 7  # no data
    with Raster(make_raster(tmp_path / "s.tif", pixels=ramp, nodata=7)) as raster:
        moments = sample_moments(raster)
    assert moments is not None
    np.testing.assert_allclose(moments[0], ramp[:, 300:].mean((1, 2)), rtol=0.15)
    with Raster(make_raster(tmp_path / "n.tif", pixels=np.zeros((3, 9, 9), np.uint8), nodata=0)) as raster:
        assert sample_moments(raster) is None


def test_predict_tells_once_in_one_line_and_maps(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "s.tif", pixels=CITY.astype(np.uint16)[:, :40, :40] * 64)
    with tiny_networks():
        own = tiny_segmenter()
        own.spec = MODEL
        with pytest.warns(GeodistillWarning, match="s.tif has samples of .* where the model was trained on") as told:
            (made,) = predict(own, [source], tmp_path / "m.tif", PredictOptions(backend="torch", device="cpu"))
    assert len(told) == 1
    assert made.path.is_file()


@pytest.mark.slow
def test_images_of_other_cities_are_ordinary(shared: Path) -> None:
    sets = {
        "dubai": sorted((shared / "data" / "dubai72").rglob("*.jpg"))[::4],
        "kampala": [p for p in sorted((shared / "data" / "hot_kampala").rglob("*.tif")) if "mask" not in p.name][::9],
        "neon": sorted((shared / "data" / "neon_trees").rglob("*.tif"))[::4],
    }
    found = {}
    for name, paths in sets.items():
        moments = []
        for path in paths:
            with Raster(path) as raster:
                if raster.channels >= 3 and (one := sample_moments(raster)) is not None:
                    moments.append((one[0][:3], one[1][:3]))
        assert moments
        found[name] = np.array(moments)
    for name, moments in found.items():
        mean = moments[:, 0].mean(0)
        std = np.sqrt((moments[:, 1] ** 2 + (moments[:, 0] - mean) ** 2).mean(0))
        spec = Spec(tiny_spec().legend, ("r", "g", "b"), tuple(mean.tolist()), tuple(std.tolist()))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for other in found.values():
                assert [how_far(spec, *one) for one in other] == [None] * len(other), name
