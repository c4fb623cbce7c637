"""A finished map as polygons, in flat memory: GeoPackage, GeoParquet, FlatGeobuf or GeoJSON."""

from __future__ import annotations

import json
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from rasterio.transform import GCPTransformer

from geodistill.errors import DataError
from geodistill.files import atomic_path
from geodistill.inference.options import VECTOR_FORMATS, check_vector
from geodistill.inference.regions import MapStrip, Region, trace_regions
from geodistill.inference.sliding import STEPS
from geodistill.inference.style import STAMP, add_layer_style, plain_name, write_qml
from geodistill.raster import Grid, Raster, Window
from geodistill.reading import parse_object
from geodistill.spec import Legend

STRIP = 512
"""Rows read at once: those of a map's blocks. Fixed, so that simplified outlines do not depend on anything else."""

_BATCH = 5000
_SHARE = 1e-4
"""Of a pixel's side: GeoJSON's last decimal, so that no polygon's area moves by a thousandth."""

_FAILURES = (DataLayerError, DataSourceError, FeatureError, GeometryError, pa.ArrowException, sqlite3.Error)
_SCHEMA = pa.schema(
    [
        ("class", pa.int32()),
        ("name", pa.string()),
        ("pixels", pa.int64()),
        ("area_m2", pa.float64()),
        ("confidence", pa.float64()),
        ("geometry", pa.binary()),
    ]
)


@dataclass(frozen=True)
class VectorMap:
    """What was written: a file, how many polygons it holds, and how many smaller than the least area it leaves out."""

    path: Path
    polygons: int
    left_out: int


def write_vectors(
    classes: Path,
    kind: str = "gpkg",
    *,
    min_area: float = 0.0,
    simplify: float = 0.0,
    confidence: Path | None = None,
    path: Path | None = None,
) -> VectorMap:
    """Write the regions of a map of classes as polygons in the map's CRS (GeoJSON: longitude and latitude on Earth).

    QGIS shows them in the map's colours: by a table inside a GeoPackage, and by a file ``.qml`` beside the others.

    Each has ``class`` (index), ``name``, ``pixels``, ``area_m2`` and ``confidence``, the mean probability of the
    class over its pixels (0..1; null without a map of it). The area is the plane one in a projected CRS, and the
    geodesic one on WGS 84 in a geographic or Mercator CRS; null where the map is not georeferenced, and then x, y are
    columns and rows.

    They are written beside the map, under its name, where no ``path`` says otherwise. Those smaller than ``min_area``
    (square metres, or pixels where the map is not georeferenced) are left out; ``simplify`` is that of `trace_regions`.

    Raises:
        UnknownNameError: There is no such format.
        RecipeError: A number is negative.
        DataError: A map cannot be read, or holds no legend.
        OutputError: The file cannot be written.
    """
    check_vector(kind, min_area, simplify)
    path = path or classes.with_suffix(f".{kind}")
    with Raster(classes) as raster:
        grid = raster.grid
    legend = _legend(classes)
    ground = _Ground(grid)
    counts = {"polygons": 0, "left_out": 0}
    failures: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        regions = trace_regions(_strips(classes, confidence, grid), simplify)
        try:
            while some := list(islice(regions, _BATCH)):
                batch = _batch(some, legend, ground, min_area)
                counts["polygons"] += batch.num_rows
                counts["left_out"] += len(some) - batch.num_rows
                yield batch
        except (DataError, RasterioError) as error:
            # It would come back as an error of the writer's.
            failures.append(error)
            raise

    layer = plain_name(path.stem)
    with atomic_path(path) as part:
        try:
            _write(batches(), part, layer, kind, ground)
            if kind == "gpkg":
                add_layer_style(part, layer, legend)
        except (*_FAILURES, DataError) as error:
            raise failures[0] if failures else OSError(f"{VECTOR_FORMATS[kind]}: {error}") from error
    if kind != "gpkg":
        write_qml(path.with_suffix(".qml"), legend)
    return VectorMap(path, **counts)


def _legend(classes: Path) -> Legend:
    with rasterio.open(classes) as file:
        text = file.tags().get("LEGEND")
    if text is None:
        raise DataError(f"{classes} holds no legend", "a map of classes written by 'geodistill predict'")
    return Legend.from_dict(parse_object(text, f"the tag LEGEND of {classes}"))


def _strips(classes: Path, confidence: Path | None, grid: Grid) -> Iterator[MapStrip]:
    """Read the maps strip by strip; in bytes, not in 5 % of the machine's memory, GDAL keeps blocks."""
    with rasterio.Env(GDAL_CACHEMAX=2**25), rasterio.open(classes) as file:
        sure = rasterio.open(confidence) if confidence is not None else None
        try:
            for top in range(0, grid.height, STRIP):
                window = Window(top, 0, min(STRIP, grid.height - top), grid.width).to_rasterio()
                yield MapStrip(file.read(1, window=window), None if sure is None else sure.read(1, window=window))
        except RasterioError as error:
            raise DataError(
                f"{classes} or {confidence} cannot be read ({error})", "maps as they were written"
            ) from error
        finally:
            if sure is not None:
                sure.close()


class _Ground:
    """From pixels of a map to its CRS, and to square metres."""

    def __init__(self, grid: Grid) -> None:
        self._grid, self._transform = grid, grid.transform
        self._points = GCPTransformer(list(grid.gcps)) if grid.gcps and grid.gcps_crs is not None else None
        crs = grid.gcps_crs if self._points is not None else grid.crs
        placed = crs is not None and (self._points is not None or not grid.transform.is_identity)
        self.crs: pyproj.CRS | None = None
        self.on_earth = False
        self._to_degrees: Callable[..., Any] | None = None
        self._ellipsoid = pyproj.Geod(ellps="WGS84")
        if crs is None or not placed:
            return
        try:
            self.crs = pyproj.CRS.from_wkt(crs.to_wkt())
            self._to_degrees = pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform
            self.on_earth = True
        except ProjError:
            # A local grid, or another planet: it has places of its own, and none on Earth.
            geodetic = self.crs.geodetic_crs if self.crs is not None else None
            if self.crs is not None and geodetic is not None and (ellipsoid := self.crs.get_geod()) is not None:
                self._to_degrees = pyproj.Transformer.from_crs(self.crs, geodetic, always_xy=True).transform
                self._ellipsoid = ellipsoid

    @property
    def decimals(self) -> int:
        """Decimals of GeoJSON's coordinates, so that rounding moves no point by more than a share of a pixel."""
        middle, size = np.array([self._grid.width, self._grid.height]) / 2, np.eye(2)
        ends = self._coordinates(np.stack([middle, *(middle + size)]))
        if self.on_earth and self._to_degrees is not None:
            ends = np.column_stack(self._to_degrees(ends[:, 0], ends[:, 1]))
        side = float(np.hypot(*(ends[1:] - ends[0]).T).min())
        return min(max(math.ceil(-math.log10(side * _SHARE)), 7), 14) if math.isfinite(side) and side > 0 else 7

    def place(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Return polygons in pixels as polygons in the CRS, outlines counter-clockwise and holes clockwise."""
        placed: NDArray[np.object_] = shapely.orient_polygons(shapely.transform(polygons, self._coordinates))
        return placed

    def areas(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the square metres of polygons in the CRS; NaN where there is none."""
        if self.crs is None:
            return np.full(len(polygons), np.nan)
        to_degrees = self._to_degrees
        if to_degrees is None or _keeps_areas(self.crs):
            unit = self.crs.axis_info[0].unit_conversion_factor if self.crs.axis_info else np.nan
            plane: NDArray[np.float64] = shapely.area(polygons) * unit**2
            return plane
        around = shapely.transform(polygons, lambda xy: np.column_stack(to_degrees(xy[:, 0], xy[:, 1])))
        areas = [self._ellipsoid.geometry_area_perimeter(shapely.orient_polygons(p))[0] for p in around]
        return np.abs(np.array(areas, np.float64))

    def _coordinates(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._points is not None:
            return np.column_stack(self._points.xy(xy[:, 1], xy[:, 0], offset="ul"))
        a, b, c, d, e, f = self._transform[:6]
        return np.column_stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f])


def _keeps_areas(crs: pyproj.CRS) -> bool:
    """Whether areas on the plane are near those on the ground; Mercator's grow fourfold at 60 degrees."""
    method = crs.coordinate_operation.method_name if crs.coordinate_operation is not None else ""
    return bool(crs.is_projected) and ("Mercator" not in method or "Transverse" in method or "Oblique" in method)


def _batch(regions: list[Region], legend: Legend, ground: _Ground, min_area: float) -> pa.RecordBatch:
    indices = np.array([region.index for region in regions])
    pixels = np.array([region.pixels for region in regions])
    polygons = np.array([region.polygon for region in regions], object)
    placed = ground.place(polygons)
    areas = ground.areas(placed)
    kept = (areas if ground.crs is not None else pixels) >= min_area
    confidence = np.array([region.confidence for region in regions]) / STEPS
    names = np.array([plain_name(name) for name in legend.names], object)
    columns = [indices, names[indices], pixels, areas, confidence, shapely.to_wkb(placed)]
    return pa.record_batch(
        [pa.array(column[kept], kind.type, from_pandas=True) for column, kind in zip(columns, _SCHEMA, strict=True)],
        schema=_SCHEMA,
    )


def _write(batches: Iterable[pa.RecordBatch], path: Path, layer: str, kind: str, ground: _Ground) -> None:
    """Write batches as they come."""
    crs = ground.crs
    if kind == "parquet":
        _write_parquet(batches, path, crs)
        return
    options: dict[str, str] = {}
    if kind == "geojson":
        # RFC 7946 asks for longitude and latitude; its seven decimals are a centimetre, many pixels of a drone.
        options = {"COORDINATE_PRECISION": str(ground.decimals)} | ({"RFC7946": "YES"} if ground.on_earth else {})
    with warnings.catch_warnings(), _fixed_time():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(_SCHEMA, batches),
            path,
            layer=layer,
            driver=VECTOR_FORMATS[kind],
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs is not None else None,
            layer_options=options,
        )


def _write_parquet(batches: Iterable[pa.RecordBatch], path: Path, crs: pyproj.CRS | None) -> None:
    """Write GeoParquet, whose metadata with the bounding box come last."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"], "orientation": "counterclockwise"}
    column["crs"] = crs.to_json_dict() if crs is not None else None
    boxes = []
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            if batch.num_rows:
                boxes.append(shapely.total_bounds(shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False))))
        if boxes:
            corners = np.array(boxes)
            column["bbox"] = [*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()]
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        writer.add_key_value_metadata({"geo": json.dumps(geo)})


@contextmanager
def _fixed_time() -> Iterator[None]:
    """Let GDAL write a fixed time of last change, so that the same map gives the same bytes."""
    key = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(key)
    pyogrio.set_gdal_config_options({key: STAMP})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({key: before})
