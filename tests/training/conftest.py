"""A small data set with one visible rule (bright is building), and a recipe that trains on it in seconds."""

from pathlib import Path

import pytest
import yaml

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from towns import LEGEND, write_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with train, val and test images."""
    folder = tmp_path_factory.mktemp("town")
    write_town(folder)
    manifest = folder / "manifest.parquet"
    scan(folder, out=manifest, legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
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
