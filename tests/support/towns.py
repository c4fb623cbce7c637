"""A small data set with one visible rule: bright is building."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from factories import make_raster
from geodistill.spec import Legend

LEGEND = Legend(("ground", "building"), colours=((90, 120, 60), (200, 60, 50)))


def write_town(folder: Path, count: int = 6, size: int = 96, seed: int = 0) -> None:
    """Write images and masks of towns."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        mask = np.zeros((size, size), np.uint8)
        for _ in range(4):
            row, col = rng.integers(0, size - 32, 2)
            mask[row : row + 28, col : col + 28] = 1
        image = rng.normal(60, 12, (3, size, size)) + 110 * mask
        make_raster(folder / "images" / f"t{index}.tif", pixels=image.clip(1, 255).astype(np.uint8))
        make_raster(folder / "masks" / f"t{index}.tif", pixels=mask[None])


def write_boxes(path: Path, names: list[str]) -> None:
    """Write one box of a building in each image of 64 x 64 pixels, as COCO has them."""
    images = [{"id": i, "file_name": name, "height": 64, "width": 64} for i, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [10, 12, 30, 24]} for i in range(len(names))]
    categories = [{"id": 1, "name": "building"}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
