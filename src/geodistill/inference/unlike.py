"""Where a scene lies outside what a model was trained on: which band, and a map of such places."""

from __future__ import annotations

import warnings
from copy import copy
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine

from geodistill.files import atomic_path
from geodistill.inference.geotiff import unlike_beside
from geodistill.inference.inputs import MOST_OF_A_BAND
from geodistill.inference.strips import Rows, read_rows
from geodistill.inference.windows import Area
from geodistill.raster import Grid, Window
from geodistill.spec import IGNORE_INDEX, Spec

CELL = 64
"""Side in pixels of the cells whose means are compared."""


def write_unlike(classes: Path, area: Area, spec: Spec, *, keep_going: bool = False) -> tuple[Path, float]:
    """Write where a scene lies outside the training, a pixel for each cell of `CELL` x `CELL`; return its share too.

    The first band is 1 where the mean of any band over the cell lies more than `MOST_OF_A_BAND` of the model's standard
    deviations from the model's mean, else 0; the second is the number, from 1, of the band that lies furthest. Both are
    255 where there is no data. The share is that of cells with data that are unlike, 0..1. With ``keep_going`` there is
    no data where the scene cannot be read.

    Raises:
        DataError: The scene cannot be read.
        OutputError: The file cannot be written.
    """
    grid, path = area.grid, unlike_beside(classes)
    height, width = -(-grid.height // CELL), -(-grid.width // CELL)
    cells = np.full((2, height, width), IGNORE_INDEX, np.uint8)
    for row in range(height):
        strip = Window(row * CELL, 0, CELL, width * CELL)
        cells[:, row] = _row_of_cells(read_rows(area, strip, keep_going), spec, width)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 2, "compress": "deflate", **_of_cells(grid).profile()}
    with atomic_path(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(part, "w", nodata=IGNORE_INDEX, **profile) as file:
                file.write(cells)
                file.descriptions = ("unlike", "band")
                file.update_tags(BANDS=",".join(spec.bands), DEVIATIONS=str(MOST_OF_A_BAND))
        except RasterioError as error:
            raise OSError(str(error)) from error
    known = cells[0] != IGNORE_INDEX
    return path, float((cells[0] == 1).sum() / max(int(known.sum()), 1))


def _of_cells(grid: Grid) -> Grid:
    """Return the grid of the cells of a scene's grid."""
    rpcs = copy(grid.rpcs)
    if rpcs is not None:  # they count from the middle of the first pixel
        rpcs.line_off, rpcs.samp_off = ((offset + 0.5) / CELL - 0.5 for offset in (rpcs.line_off, rpcs.samp_off))
        rpcs.line_scale, rpcs.samp_scale = rpcs.line_scale / CELL, rpcs.samp_scale / CELL
    return Grid(
        -(-grid.height // CELL),
        -(-grid.width // CELL),
        grid.crs,
        grid.transform if grid.transform.is_identity else grid.transform @ Affine.scale(CELL, CELL),
        tuple(GroundControlPoint(p.row / CELL, p.col / CELL, p.x, p.y, p.z) for p in grid.gcps),
        grid.gcps_crs,
        rpcs,
    )


def _row_of_cells(rows: Rows, spec: Spec, width: int) -> NDArray[np.uint8]:
    """Return both bands of a row of cells, ``(2, width)``."""
    image, valid = rows.image, rows.valid
    counts = valid.reshape(CELL, width, CELL).sum((0, 2))
    sums = np.stack([(band * valid).reshape(CELL, width, CELL).sum((0, 2), dtype=np.float64) for band in image])
    means = sums / np.maximum(counts, 1)
    away = np.abs(means - np.array(spec.mean)[:, None]) / np.array(spec.std)[:, None]
    values = np.stack([away.max(0) > MOST_OF_A_BAND, np.minimum(away.argmax(0) + 1, 254)]).astype(np.uint8)
    values[:, counts == 0] = IGNORE_INDEX
    return values
