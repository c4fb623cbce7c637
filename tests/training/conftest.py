"""A small data set with one visible rule (bright is building), and a recipe that trains on it in seconds."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from factories import make_raster
from geodistill.data.scan import scan
from geodistill.spec import Legend

LEGEND = Legend(("ground", "building"), colours=((90, 120, 60), (200, 60, 50)))


def write_town(folder: Path, count: int = 6, size: int = 96, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for index in range(count):
        mask = np.zeros((size, size), np.uint8)
        for _ in range(4):
            row, col = rng.integers(0, size - 32, 2)
            mask[row : row + 28, col : col + 28] = 1
        image = rng.normal(60, 12, (3, size, size)) + 110 * mask
        make_raster(folder / "images" / f"t{index}.tif", pixels=image.clip(1, 255).astype(np.uint8))
        make_raster(folder / "masks" / f"t{index}.tif", pixels=mask[None])


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with train, val and test images."""
    folder = tmp_path_factory.mktemp("town")
    write_town(folder)
    manifest = folder / "manifest.parquet"
    scan(folder, out=manifest, legend=LEGEND, fractions=(0.5, 0.25, 0.25))
    return manifest


@pytest.fixture
def recipe_file(town: Path, tmp_path: Path) -> Path:
    """A supervised recipe of a few seconds."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "supervised",
                "data": {"manifest": str(town), "crop": 64, "batch_size": 4, "workers": 0},
                "network": {"architecture": "unet", "encoder": "test_resnet"},
                "optimizer": {"lr": 2e-3},
                "trainer": {"max_steps": 30, "val_every_steps": 15, "save_every_steps": 10, "accelerator": "cpu"},
            }
        )
    )
    return path
