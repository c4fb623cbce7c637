"""A finished map of classes, read back: its grid, its classes, and its rows strip by strip in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.inference.regions import MapStrip
from geodistill.raster import Grid, Raster, Window
from geodistill.reading import parse_object
from geodistill.spec import IGNORE_INDEX, Legend

STRIP = 512
"""Rows read at once: those of a map's blocks. Fixed, so that simplified outlines do not depend on anything else."""


def read_map_grid(classes: Path | str) -> Grid:
    """Return where the pixels of a map lie.

    Raises:
        DataError: It cannot be read.
    """
    with Raster(classes) as raster:
        return raster.grid


def read_map_legend(classes: Path | str) -> Legend:
    """Return the classes of a map.

    Raises:
        DataError: It cannot be read, or does not say its classes.
    """
    text = _tag(classes, "LEGEND")
    if text is None:
        raise DataError(f"{classes} holds no legend", "a map of classes that 'geodistill predict' wrote")
    return Legend.from_dict(parse_object(text, f"the tag LEGEND of {classes}"))


def read_map_run(layer: Path | str) -> str | None:
    """Return the tag that all layers of one prediction share; ``None`` where there is none.

    Raises:
        DataError: The layer cannot be read.
    """
    return _tag(layer, "RUN")


def _tag(layer: Path | str, name: str) -> str | None:
    try:
        with rasterio.open(layer) as file:
            text: str | None = file.tags().get(name)
            return text
    except RasterioError as error:
        raise DataError(f"{layer} cannot be read ({error})", "a map of classes") from error


def small_cache() -> rasterio.Env:
    """Return a context in which GDAL keeps 64 MB of decoded blocks, and not 5 % of the machine's memory."""
    return rasterio.Env(GDAL_CACHEMAX=2**26)


def map_strips(
    classes: Path | str,
    confidence: Path | str | None,
    grid: Grid,
    rows: int = STRIP,
    distance: Path | None = None,
) -> Iterator[MapStrip]:
    """Yield the strips of a map, of ``rows`` rows each, in their order.

    Raises:
        DataError: A map is truncated or corrupt.
    """
    with ExitStack() as stack:
        paths = (classes, confidence, distance)
        files = [None if path is None else stack.enter_context(rasterio.open(path)) for path in paths]
        try:
            for top in range(0, grid.height, rows):
                yield read_strip(files, Window(top, 0, min(rows, grid.height - top), grid.width))
        except RasterioError as error:
            names = " or ".join(str(path) for path in paths if path is not None)
            raise DataError(f"{names} cannot be read ({error})", "maps as they were written") from error


def read_strip(files: Iterable[DatasetReader | None], window: Window) -> MapStrip:
    """Return a part of a map from its open files: classes, confidence and distance, the latter where there are some."""
    layers: list[Any] = [None if file is None else _read_layer(file, window) for file in files]
    return MapStrip(*layers)


def _read_layer(file: DatasetReader, window: Window) -> NDArray[Any]:
    values: NDArray[Any] = file.read(1, window=window.to_rasterio())
    hidden = hidden_pixels(file, window)
    return values if hidden is None else np.where(hidden, np.uint8(IGNORE_INDEX), values)


def hidden_pixels(file: DatasetReader, window: Window) -> NDArray[np.bool_] | None:
    """Return which pixels of a part of a map its mask hides: a band inside or a file ``.msk``; ``None`` without one."""
    where, kinds, hidden = window.to_rasterio(), file.colorinterp, None
    if ColorInterp.alpha in kinds[1:]:  # which GDAL takes for no mask of signed samples
        hidden = file.read(kinds.index(ColorInterp.alpha) + 1, window=where) == 0
    elif MaskFlags.per_dataset in file.mask_flag_enums[0]:
        hidden = file.read_masks(1, window=where) == 0
    return hidden
