"""Writing a map row by row into a tiled, compressed, cloud-optimised GeoTIFF."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetWriter

from geodistill.errors import OutputError
from geodistill.raster import Grid, Window, atomic_path
from geodistill.spec import IGNORE_INDEX, Legend

BLOCK = 512
_CACHE_MB = 64


class MapWriter:
    """Takes rows from top to bottom and passes them on in whole rows of blocks, so that no block is written twice."""

    def __init__(self, file: DatasetWriter) -> None:
        self._file, self._next = file, 0
        self._waiting: list[NDArray[Any]] = []

    def write(self, rows: NDArray[Any]) -> None:
        """Append ``(bands, rows, W)`` in the file's dtype."""
        self._waiting.append(rows)
        self._pass_on(whole_blocks=True)

    def finish(self) -> None:
        """Write what is left."""
        self._pass_on(whole_blocks=False)

    def _pass_on(self, whole_blocks: bool) -> None:
        held = sum(rows.shape[1] for rows in self._waiting)
        count = held // BLOCK * BLOCK if whole_blocks else held
        if count:
            rows = np.concatenate(self._waiting, axis=1)
            window = Window(self._next, 0, count, rows.shape[2])
            self._file.write(rows[:, :count], window=window.to_rasterio())
            self._next += count
            self._waiting = [rows[:, count:]]


@contextmanager
def open_map(path: Path, grid: Grid, legend: Legend, probabilities: bool, provenance: str) -> Iterator[MapWriter]:
    """Open a map for writing; it appears under ``path`` when the block ends well, and not at all otherwise.

    A class map is uint8 with nodata 255, a colour table, and the tags ``CLASS_0``, ``CLASS_1`` ... and ``LEGEND``
    (JSON). A probability map is float32 in 0..1 with nodata NaN, one band a class, named after it.

    Args:
        path: The GeoTIFF to make.
        grid: Shape and georeferencing.
        legend: The classes.
        probabilities: Whether to make one band a class.
        provenance: Goes into the tag ``MODEL``.

    Raises:
        OutputError: The place cannot be written or the disk is full.
    """
    profile: dict[str, Any] = {
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
    with atomic_path(path) as part, rasterio.Env(GDAL_CACHEMAX=_CACHE_MB), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        stage = part.with_name(f"{part.name}.stage")
        try:
            with rasterio.open(stage, "w", **profile) as file:
                _describe(file, legend, probabilities, provenance)
                writer = MapWriter(file)
                yield writer
                writer.finish()
            resampling = "average" if probabilities else "nearest"
            rasterio.shutil.copy(
                stage,
                part,
                driver="COG",
                compress="deflate",
                predictor="floating_point" if probabilities else "no",
                blocksize=BLOCK,
                overview_resampling=resampling,
                bigtiff="if_safer",
            )
            _check_whole(part)
        except RasterioError as error:
            raise write_error(path, error) from error
        finally:
            for leftover in (stage, Path(f"{stage}.aux.xml"), Path(f"{part}.aux.xml")):
                leftover.unlink(missing_ok=True)


def _describe(file: DatasetWriter, legend: Legend, probabilities: bool, provenance: str) -> None:
    file.update_tags(
        MODEL=provenance,
        LEGEND=json.dumps(legend.to_dict()),
        **{f"CLASS_{index}": name for index, name in enumerate(legend.names)},
    )
    if probabilities:
        file.descriptions = legend.names
        return
    file.descriptions = ("class",)
    table = {index: (*colour, 255) for index, colour in enumerate(legend.colours)}
    file.write_colormap(1, {**dict.fromkeys(range(256), (0, 0, 0, 255)), **table, IGNORE_INDEX: (0, 0, 0, 0)})
    file.colorinterp = [ColorInterp.palette]


def _check_whole(path: Path) -> None:
    """Read the corners of the finished file: GDAL reports some failed writes only on reading."""
    with rasterio.open(path) as file:
        for row in {0, file.height - 1}:
            for col in {0, file.width - 1}:
                file.read(1, window=Window(row, col, 1, 1).to_rasterio())


def write_error(path: Path, error: RasterioError) -> OutputError:
    """Say in one line why a map could not be written, the full disk first among the reasons."""
    reasons = [str(error), str(error.__cause__ or "")]
    if any(word in reason for reason in reasons for word in ("No space left", "Disk full", "File too large")):
        return OutputError(f"the disk is full while writing {path}", "", "free some space or choose another --out")
    return OutputError(f"{path} cannot be written ({reasons[0]})", "a writable place", "check the disk and try again")
