"""Polygons of a map for the web: vector tiles (Mapbox Vector Tiles 2.1) in one file, MBTiles or PMTiles."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray

from geodistill.files import atomic_path
from geodistill.inference.feature_file import BATCH, FAILURES, kept_failure
from geodistill.inference.geotiff import vector_tiles_beside
from geodistill.inference.map_file import read_map_grid, small_cache
from geodistill.inference.tile_set import antimeridian_gap, web_levels
from geodistill.raster.ground import Ground

_DRIVERS = {"pmtiles": "PMTiles", "mbtiles": "MBTiles"}
"""GDAL's names of the files of tiles by suffix."""

_FINER = 2
"""Levels that vector tiles end before those of classes do: a vector tile has 4096 steps a side, and so the deepest a
quarter of a pixel."""


def write_vector_tiles(classes: Path, features: Path, layer: str, kind: str) -> Path:
    """Write the tiles of a map's polygons beside it, in memory that stays flat.

    The first level is that whose one tile is as large as the map; the last has steps of about a quarter of its pixel.
    Each feature keeps its columns. A tile of more than 500,000 bytes holds coarser outlines.

    Args:
        classes: The map of classes, which lies somewhere on Earth.
        features: Its polygons or objects, as `write_features` writes them.
        layer: Name of the layer in the tiles: ``polygons`` or ``objects``.
        kind: The file's format, among `TILE_SETS`.

    Raises:
        DataError: The map is nowhere on Earth.
        OutputError: The tiles cannot be written.
    """
    path = vector_tiles_beside(classes, layer, kind)
    first, last = web_levels(classes)
    last = max(last - _FINER, 0)
    levels = {"MINZOOM": str(min(first, last)), "MAXZOOM": str(last), "NAME": path.stem}
    grid = read_map_grid(classes)
    crs = "EPSG:4326" if features.suffix == ".geojson" else Ground(grid).crs
    gap = antimeridian_gap(grid)
    with atomic_path(path) as part:
        scratch = part.with_suffix("")  # GDAL writes files of its own beside the tiles
        scratch.mkdir()
        try:
            with small_cache(), _features(features) as (geometry, reader):
                if gap is not None and isinstance(crs, pyproj.CRS):  # GeoJSON is cut as it is written
                    reader = pa.RecordBatchReader.from_batches(reader.schema, _cut(reader, geometry, crs, gap))
                    crs = "EPSG:4326"
                pyogrio.write_arrow(
                    reader,
                    scratch / path.name,
                    layer=layer,
                    driver=_DRIVERS[kind],
                    geometry_name=geometry,
                    geometry_type="Polygon",
                    crs=crs if isinstance(crs, str) or crs is None else crs.to_wkt(),
                    dataset_options=levels,
                )
            (scratch / path.name).replace(part)
        except FAILURES as error:
            raise OSError(f"{_DRIVERS[kind]}: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return path


def _cut(batches: Iterable[Any], geometry: str, crs: pyproj.CRS, gap: float) -> Iterator[Any]:
    """Yield batches in degrees, polygons across the antimeridian in two; at the longitude ``gap`` there are none."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform

    def unbroken(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = to_degrees(xy[:, 0], xy[:, 1])
        return np.column_stack([np.where(lon < gap, lon + 360, lon), lat])

    for batch in batches:
        position = batch.schema.get_field_index(geometry)
        shapes = shapely.transform(shapely.from_wkb(batch[position].to_numpy(zero_copy_only=False)), unbroken)
        west, east = (shapely.intersection(shapes, shapely.box(at, -90, at + 360, 90)) for at in (-180, 180))
        both = shapely.union(west, shapely.transform(east, lambda xy: xy - (360, 0)))
        field = batch.schema.field(position)
        column = pa.array(shapely.to_wkb(shapely.buffer(both, 0)), field.type)  # without the lines of mere contact
        yield batch.set_column(position, field, column)


@contextmanager
def _features(path: Path) -> Iterator[tuple[str, Any]]:
    """Open a file of polygons; yield the name of its geometry and its batches, read as they are asked for."""
    if path.suffix == ".parquet":  # which GDAL in pyogrio's wheels does not read
        with pq.ParquetFile(path) as file, kept_failure(file.iter_batches(BATCH)) as batches:
            yield "geometry", pa.RecordBatchReader.from_batches(file.schema_arrow, batches)
    else:
        with pyogrio.open_arrow(path, layer=0, batch_size=BATCH, use_pyarrow=True) as (about, reader):
            yield about["geometry_name"] or "wkb_geometry", reader
