"""A small data set of three classes that brightness tells apart, with a strip without labels."""

from pathlib import Path

import numpy as np
import pytest

from factories import make_raster
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend

LEGEND = Legend(("ground", "building", "water"), colours=((90, 120, 60), (200, 60, 50), (20, 60, 200)))


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with train, val and test images."""
    folder = tmp_path_factory.mktemp("town")
    rng = np.random.default_rng(0)
    for index in range(6):
        mask = rng.integers(0, 3, (6, 6)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        image = rng.normal(60, 10, (3, 48, 48)) + 60 * mask
        mask[:4] = 255
        make_raster(folder / "images" / f"t{index}.tif", pixels=image.clip(1, 255).astype(np.uint8))
        make_raster(folder / "masks" / f"t{index}.tif", pixels=mask[None])
    scan(folder, out=folder / "manifest.parquet", legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
    return folder / "manifest.parquet"
