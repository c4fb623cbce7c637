"""A set unlike what the model was trained on: one line with both figures, and no line where it is alike."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from factories import make_raster
from geodistill.data.manifest import Manifest
from geodistill.errors import GeodistillWarning
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter

OPTIONS = EvaluateOptions(device="cpu")


def trained_on(segmenter: Segmenter, mean: float, std: float) -> Segmenter:
    spec = replace(segmenter.spec, mean=(mean,) * 3, std=(std,) * 3)
    other = Segmenter("band", {}, spec, segmenter.tile, {}).eval()
    other.load_state_dict(segmenter.state_dict())
    return other


def scaled(manifest: Manifest, factor: int) -> Manifest:
    rows = []
    for row in manifest.entries:
        with Raster(row.image) as raster:
            pixels, _ = raster.read()
        image = make_raster(
            row.image.with_name(f"x{factor} {row.image.name}"), pixels=pixels.astype(np.uint16) * factor
        )
        rows.append(replace(row, image=image))
    return replace(manifest, entries=tuple(rows))


def told(segmenter: Segmenter, manifest: Manifest) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(segmenter, manifest, "test", options=OPTIONS)
    return [str(one.message) for one in caught if issubclass(one.category, GeodistillWarning)]


def test_a_set_of_another_scaling_is_told_in_one_line(manifest: Manifest, segmenter: Segmenter) -> None:
    model = trained_on(segmenter, 110.0, 50.0)
    assert told(model, manifest) == []
    lines = told(model, scaled(manifest, 200))
    assert len(lines) == 1
    pixels = []
    for row in scaled(manifest, 200).entries:
        with Raster(row.image) as raster:
            pixels.append(raster.read()[0].astype(np.float64))
    mean = np.mean([each.mean() for each in pixels])
    found = re.match(rf"split 'test' of manifest {manifest.path} has samples of (\S+) on average", lines[0])
    assert found is not None
    assert float(found[1]) == pytest.approx(mean, rel=0.1)  # of some windows of each image
    assert "trained on 110, deviation 50" in lines[0]


def test_without_statistics_nothing_can_be_said(manifest: Manifest, segmenter: Segmenter) -> None:
    assert told(trained_on(segmenter, 0.0, 1.0), scaled(manifest, 200)) == []
