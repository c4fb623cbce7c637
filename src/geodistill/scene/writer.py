"""Writing a map row by row into a tiled, compressed, cloud-optimised GeoTIFF."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetWriter

from geodistill.raster import Grid, Window, atomic_path
from geodistill.spec import IGNORE_INDEX, Legend

BLOCK = 512
"""Side of the map's blocks in pixels."""

_SPARE = 2**20
"""Bytes that must stay free on the disk beside what is about to be written."""


class MapWriter:
    """Takes rows from top to bottom and passes them on in whole rows of blocks, so that no block is written twice.

    Args:
        file: The open map.
        folder: A place on the same disk.
    """

    def __init__(self, file: DatasetWriter, folder: Path) -> None:
        self._file, self._folder, self._next = file, folder, 0
        self._waiting: list[NDArray[Any]] = []

    def write(self, rows: NDArray[Any]) -> None:
        """Append ``(bands, rows, W)`` in the file's dtype.

        Raises:
            OSError: There is no space left for them.
        """
        self._waiting.append(rows)
        self._pass_on(whole_blocks=True)

    def finish(self) -> None:
        """Write what is left.

        Raises:
            OSError: There is no space left for it.
        """
        self._pass_on(whole_blocks=False)

    def _pass_on(self, whole_blocks: bool) -> None:
        held = sum(rows.shape[1] for rows in self._waiting)
        count = held // BLOCK * BLOCK if whole_blocks else held
        if count:
            rows = np.concatenate(self._waiting, axis=1)
            # Asked before each write: GDAL notices a full disk late, and libtiff prints its own lines about it.
            if shutil.disk_usage(self._folder).free < rows[:, :count].nbytes + _SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            window = Window(self._next, 0, count, rows.shape[2])
            self._file.write(rows[:, :count], window=window.to_rasterio())
            self._next += count
            self._waiting = [rows[:, count:]]


@contextmanager
def open_map(path: Path, grid: Grid, legend: Legend, probabilities: bool, provenance: str) -> Iterator[MapWriter]:
    """Open a map for writing; it appears under ``path`` when the block ends well, and not at all otherwise.

    A class map is uint8 with nodata 255, a colour table, and the tags ``CLASS_0``, ``CLASS_1`` ... and ``LEGEND``
    (JSON), since GDAL keeps category names of a GeoTIFF in a second file only. A probability map is float32 in 0..1
    with nodata NaN, one band a class, named after it. Georeferencing (CRS with transform, control points, RPCs) is
    that of the grid.

    Args:
        path: The GeoTIFF to make.
        grid: Shape and georeferencing.
        legend: The classes.
        probabilities: Whether to make one band a class.
        provenance: Goes into the tag ``MODEL``.

    Raises:
        OutputError: The place cannot be written or the disk is full.
    """
    with (
        atomic_path(path) as part,
        # A folder of its own beside the map, so that what GDAL leaves after a failure goes with it.
        TemporaryDirectory(dir=part.parent, prefix=f".{path.stem}.") as folder,
        _quiet_gdal() as messages,
    ):
        rows, cloud = Path(folder) / "rows.tif", Path(folder) / "map.tif"
        try:
            with rasterio.open(rows, "w", **_profile(grid, legend, probabilities)) as file:
                _describe(file, legend, probabilities, provenance)
                writer = MapWriter(file, Path(folder))
                yield writer
                writer.finish()
            _to_cog(rows, cloud, probabilities)
        except (RasterioError, CPLE_BaseError) as error:
            # A failed copy takes its unfinished file back, so that what it had needed is free again.
            needed = 2 * rows.stat().st_size if rows.exists() else 0
            if shutil.disk_usage(folder).free < needed + _SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError("; ".join(dict.fromkeys([*messages, str(error)]))) from error
        cloud.replace(part)


def _profile(grid: Grid, legend: Legend, probabilities: bool) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "dtype": "float32" if probabilities else "uint8",
        "count": len(legend) if probabilities else 1,
        "nodata": float("nan") if probabilities else IGNORE_INDEX,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 3 if probabilities else 1,
        "bigtiff": "if_safer",
    } | grid.profile()


def _describe(file: DatasetWriter, legend: Legend, probabilities: bool, provenance: str) -> None:
    # The map holds class indices, whatever values the masks had.
    own = Legend(legend.names, legend.colours)
    file.update_tags(
        MODEL=provenance,
        LEGEND=json.dumps(own.to_dict()),
        **{f"CLASS_{index}": name for index, name in enumerate(legend.names)},
    )
    if probabilities:
        file.descriptions = legend.names
        return
    file.descriptions = ("class",)
    table = {index: (*colour, 255) for index, colour in enumerate(legend.colours)}
    file.write_colormap(1, {**dict.fromkeys(range(256), (0, 0, 0, 255)), **table, IGNORE_INDEX: (0, 0, 0, 0)})
    file.colorinterp = [ColorInterp.palette]


def _to_cog(source: Path, target: Path, probabilities: bool) -> None:
    """Copy into the cloud-optimised layout, with overviews; GDAL does it block by block."""
    with _quiet_libtiff():
        rasterio.shutil.copy(
            source,
            target,
            driver="COG",
            compress="deflate",
            # Twice as fast as the default 6, for a file a quarter larger.
            level=3,
            predictor="floating_point" if probabilities else "no",
            blocksize=BLOCK,
            # The mean of classes 2 and 4 is not class 3.
            overview_resampling="average" if probabilities else "nearest",
            bigtiff="if_safer",
        )
        # GDAL reports some failed writes only when the file is read; its last pixels are written last.
        with rasterio.open(target) as file:
            file.read(1, window=Window(file.height - 1, file.width - 1, 1, 1).to_rasterio())


class _Collector(logging.Handler):
    """Keeps what GDAL says, in place of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


@contextmanager
def _quiet_gdal() -> Iterator[list[str]]:
    """Collect GDAL's error messages: the reason of a failed write is often in an earlier one only."""
    logger, collector = logging.getLogger("rasterio"), _Collector()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


@contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Keep libtiff, which knows no log, from printing on the terminal before the one line that we print."""
    terminal = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
