"""A script that writes maps of each layer and of several shapes into a folder: ``python perturbed_map.py FOLDER``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

from geodistill.inference.checkpoint import PartFiles
from geodistill.inference.geotiff import MapInfo, write_map
from geodistill.inference.layers import Layer
from geodistill.inference.sliding import SceneRows
from geodistill.inference.windows import Part, WindowPlan
from geodistill.raster import Grid
from geodistill.spec import Legend

SHAPES = ((1, 1), (300, 200), (700, 900))


def main(folder: Path) -> None:
    """Write every map."""
    legend = Legend(("a", "b", "c"))
    for height, width in SHAPES:
        rng = np.random.default_rng(0)
        fractions = rng.random((3, height, width), np.float32).astype(np.float16).astype(np.float32)
        bytes_of_all = rng.integers(0, 3, (3, height, width), dtype=np.uint8)
        for name, values in (
            ("classes", bytes_of_all[:1]),
            ("confidence", bytes_of_all[1:2]),
            ("probabilities", bytes_of_all),
            ("probabilities", fractions),
        ):
            work, layer = folder / "work", Layer(name, len(values), str(values.dtype))
            work.mkdir()
            plan = WindowPlan(height, width, max(height, width), (0,), (0,))
            grid = Grid(height, width, None, from_origin(0, 0, 1, 1))
            with PartFiles(work, plan, Part.whole(plan), (layer,)) as files:
                files.append(SceneRows(0, 0, {name: values}, np.ones((height, width), bool), 1, ()))
                target = folder / f"{height}_{name}_{values.dtype}.tif"
                write_map(target, layer, [files], MapInfo(grid, legend, {}), work)
            for file in work.iterdir():
                file.unlink()
            work.rmdir()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
