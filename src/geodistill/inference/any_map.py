"""Any map of classes: one that `predict` wrote, or a raster of class values with a legend that says what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geodistill.errors import DataError, listed
from geodistill.inference.map_file import STRIP, hidden_pixels, read_map_grid, read_map_legend
from geodistill.raster import Grid, Window
from geodistill.spec import IGNORE_INDEX, Legend

_UNKNOWN = -1
_KINDS = {kind: np.dtype(f"u{np.dtype(kind).itemsize}") for kind in ("uint8", "int8", "uint16", "int16")}
"""Samples that a map of classes may have, each with the unsigned form of it that a table is looked up by."""


@dataclass(frozen=True)
class AnyMap:
    """A map of classes of any maker.

    Attributes:
        path: The file.
        grid: Where its pixels lie.
        legend: Its classes.
        table: ``(256,)`` or ``(65536,)`` int16: class of each pixel value (of its unsigned form), `IGNORE_INDEX` for
            those that mean no data, -1 for those that mean nothing.
    """

    path: Path
    grid: Grid
    legend: Legend
    table: NDArray[np.int16]

    def classes(self, values: NDArray[Any], hidden: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Return the uint8 classes of pixel values of any shape, `IGNORE_INDEX` where there is no data.

        Args:
            values: As they are stored.
            hidden: Which of them the map's mask hides, whatever they are.

        Raises:
            DataError: A value means nothing.
        """
        indices = self.table[values.view(_KINDS[values.dtype.name])]
        if hidden is not None:
            indices[hidden] = IGNORE_INDEX
        if (indices == _UNKNOWN).any():
            odd = np.unique(values[indices == _UNKNOWN]).tolist()
            known = np.flatnonzero((self.table >= 0) & (self.table < len(self.legend)))
            named = np.sort(known.astype(_KINDS[values.dtype.name]).view(values.dtype)).tolist()
            raise DataError(
                f"{self.path} has pixels of value {listed(odd)}",
                f"those of its legend: {listed(named)}",
                "name them in a legend, as classes or under 'ignore'",
            )
        classes: NDArray[np.uint8] = indices.astype(np.uint8)
        return classes

    def haloed_strips(self, halo: int) -> Iterator[tuple[int, slice, NDArray[np.uint8]]]:
        """Yield the strips of the map with up to ``halo`` rows above and below.

        Yields:
            The strip's first row in the map, its rows in the array, and ``(rows, W)`` classes. At the map's ends there
            are no rows beyond.

        Raises:
            DataError: The map is truncated or corrupt, or has values that mean nothing.
        """
        height, width = self.grid.height, self.grid.width
        with rasterio.open(self.path) as file:
            for top in range(0, height, STRIP):
                first, last = max(top - halo, 0), min(top + STRIP + halo, height)
                window = Window(first, 0, last - first, width)
                try:
                    rows, hidden = file.read(1, window=window.to_rasterio()), hidden_pixels(file, window)
                except RasterioError as error:
                    raise DataError(f"{self.path} cannot be read ({error})", "a map as it was written") from error
                yield top, slice(top - first, min(top + STRIP, height) - first), self.classes(rows, hidden)


def open_map(path: Path | str, legend: Legend | None = None) -> AnyMap:
    """Return what a map of classes is, without reading its pixels.

    Args:
        path: A raster of one band of 8 or 16 bits.
        legend: What its values mean, for a map that does not say so itself; one that does says it better.

    Raises:
        DataError: It cannot be read, does not say its classes and no legend was given, or holds other samples.
    """
    path, grid = Path(path), read_map_grid(path)
    with rasterio.open(path) as file:
        has_legend, kind, nodata = "LEGEND" in file.tags(), file.dtypes[0], file.nodata
        if kind not in _KINDS or file.count != 1:
            raise DataError(f"{path} holds {file.count} bands of {kind}", "a map of classes: one band of 8 or 16 bits")
    if has_legend or legend is None:
        legend = read_map_legend(path)
        values, ignored = tuple(range(len(legend))), [IGNORE_INDEX]
    else:
        values, ignored = legend.values, list(legend.ignore_values)
    if nodata is not None and float(nodata).is_integer():
        ignored.append(int(nodata))
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    table = np.full(most - least + 1, _UNKNOWN, np.int16)
    entries = [*((value, IGNORE_INDEX) for value in ignored), *zip(values, range(len(values)), strict=True)]
    for value, index in entries:  # a class that is the file's nodata stays a class
        if least <= value <= most:
            table[value % len(table)] = index
    return AnyMap(path, grid, legend, table)
