"""Features written as they come: GeoPackage, GeoParquet, FlatGeobuf or GeoJSON, with a style for QGIS."""

from __future__ import annotations

import json
import sqlite3
import sys
import warnings
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
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError

from geodistill.files import atomic_path
from geodistill.inference.geopackage import add_layer_style, fixed_time
from geodistill.inference.options import VECTOR_FORMATS
from geodistill.inference.style import layer_name, qml, write_qml
from geodistill.raster.ground import Ground
from geodistill.spec import Legend

BATCH = 5000
"""Features written at once."""

FAILURES = (DataLayerError, DataSourceError, FeatureError, GeometryError, pa.ArrowException, sqlite3.Error)
"""What writing features may end in."""


def write_features(
    path: Path, kind: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema, ground: Ground, legend: Legend
) -> None:
    """Write batches of polygons as they come, whole or not at all.

    QGIS shows them in the legend's colours: by a table inside a GeoPackage, and by a file ``.qml`` beside the others.

    Args:
        path: The file.
        kind: Its format, among `VECTOR_FORMATS`.
        batches: Features with the columns of the schema, ``class`` and ``geometry`` (WKB in the CRS) among them.
        schema: Of every batch.
        ground: Says the CRS.
        legend: The classes.

    Raises:
        DataError: What the features are made of cannot be read.
        OutputError: The file cannot be written.
    """
    layer = layer_name(path)
    with atomic_path(path) as part:
        try:
            with kept_failure(batches) as watched:
                _write(watched, part, layer, kind, schema, ground)
            if kind == "gpkg":
                add_layer_style(part, layer, qml(legend))
        except FAILURES as error:
            raise OSError(f"{VECTOR_FORMATS[kind]}: {error}") from error
    if kind != "gpkg":
        write_qml(path.with_suffix(".qml"), legend)


def can_be_written(polygons: NDArray[np.object_], kind: str, ground: Ground) -> NDArray[np.bool_]:
    """Return which polygons in the CRS a format can hold: all that reach the Earth, of GeoJSON those wholly on it."""
    return ground.on_it(polygons, wholly=kind == "geojson" and ground.on_earth)


@contextmanager
def kept_failure(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the batches for a writer; where making one fails, or is stopped, that is raised as it was.

    GDAL asks for batches through Arrow's stream of C, which knows texts alone: every exception behind it, Ctrl-C too,
    would come back as an error of the writer's.
    """
    ends: list[BaseException | None] = []

    def watched() -> Iterator[Any]:
        whole = False
        try:
            yield  # a signal that came while the file was opened is raised at the next line of Python: inside this try
            yield from batches
            whole = True
        finally:
            if not whole:  # else it is what the caller handles meanwhile
                ends.append(sys.exception())

    begun = watched()
    next(begun)
    try:
        yield begun
    finally:
        for failure in ends:
            if isinstance(failure, (Exception, KeyboardInterrupt)):
                raise failure


def _write(
    batches: Iterable[pa.RecordBatch], path: Path, layer: str, kind: str, schema: pa.Schema, ground: Ground
) -> None:
    """Write batches as they come."""
    crs = ground.crs
    if kind == "parquet":
        _write_parquet(batches, path, schema, crs)
        return
    options: dict[str, str] = {}
    if kind == "geojson":
        # RFC 7946 asks for longitude and latitude; its seven decimals are a centimetre, many pixels of a drone.
        options = {"COORDINATE_PRECISION": str(ground.decimals)} | ({"RFC7946": "YES"} if ground.on_earth else {})
        if ground.on_earth and ground.turn > 0:
            batches = _turned_back(batches, ground.turn)
    with warnings.catch_warnings(), fixed_time():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, batches),
            path,
            layer=layer,
            driver=VECTOR_FORMATS[kind],
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs is not None else None,
            layer_options=options,
        )


def _turned_back(batches: Iterable[pa.RecordBatch], turn: float) -> Iterator[pa.RecordBatch]:
    """Yield batches whole turns of longitude further west: of those beyond 360 degrees GDAL keeps nothing."""
    for batch in batches:
        at = batch.schema.get_field_index("geometry")
        shapes = shapely.from_wkb(batch[at].to_numpy(zero_copy_only=False))
        column = pa.array(shapely.to_wkb(shapely.transform(shapes, lambda xy: xy - (turn, 0))), pa.binary())
        yield batch.set_column(at, batch.schema.field(at), column)


def _write_parquet(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema, crs: pyproj.CRS | None) -> None:
    """Write GeoParquet, whose metadata with the bounding box come last."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"], "orientation": "counterclockwise"}
    column["crs"] = crs.to_json_dict() if crs is not None else None
    boxes = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            if batch.num_rows:
                boxes.append(shapely.total_bounds(shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False))))
        if boxes:
            corners = np.array(boxes)
            column["bbox"] = [*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()]
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        writer.add_key_value_metadata({"geo": json.dumps(geo)})
