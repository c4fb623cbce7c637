"""A finished map as polygons, in flat memory: GeoPackage, GeoParquet, FlatGeobuf or GeoJSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
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
from rasterio.errors import RasterioError
from rasterio.transform import GCPTransformer

from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.files import atomic_path
from geodistill.raster import Grid, Raster, Window
from geodistill.scene.reduce import STEPS
from geodistill.scene.regions import Region, Strip, trace_regions
from geodistill.spec import Legend

FORMATS = {"gpkg": "GPKG", "parquet": "Parquet", "fgb": "FlatGeobuf", "geojson": "GeoJSON"}
"""Formats by suffix, with GDAL's names."""

STRIP = 512
"""Rows read at once: those of a map's blocks. Fixed, so that simplified outlines do not depend on anything else."""

_BATCH = 5000
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
class VectorOptions:
    """What polygons are wanted.

    Attributes:
        format: Among `FORMATS`.
        min_area: Smaller polygons are left out: square metres, or pixels where the map lies nowhere.
        simplify: See `trace_regions`, pixels.

    Raises:
        UnknownNameError: There is no such format.
        RecipeError: A number is negative.
    """

    format: str = "gpkg"
    min_area: float = 0.0
    simplify: float = 0.0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UnknownNameError("vector format", self.format, FORMATS)
        if self.min_area < 0 or self.simplify < 0:
            raise RecipeError(f"min area {self.min_area}, simplify {self.simplify}", "numbers of at least 0")


@dataclass(frozen=True)
class VectorMap:
    """What was written.

    Attributes:
        path: The file.
        polygons: How many it holds.
        left_out: How many were smaller than the least area.
    """

    path: Path
    polygons: int
    left_out: int


def write_vectors(
    classes: Path, options: VectorOptions, confidence: Path | None = None, path: Path | None = None
) -> VectorMap:
    """Write the regions of a map of classes as polygons in the map's CRS (GeoJSON: longitude and latitude).

    Each has ``class`` (index), ``name``, ``pixels``, ``area_m2`` and ``confidence``, the mean probability of the
    class over its pixels (0..1; null without a map of it). The area is the plane one in a projected CRS, and the
    geodesic one on WGS 84 in a geographic or Mercator CRS; null where the map lies nowhere, and then x, y are
    columns and rows.

    Args:
        classes: A map as `predict` writes it.
        options: What is wanted.
        confidence: The map of the classes' probabilities beside it.
        path: The file; by default beside the map, under its name.

    Raises:
        DataError: A map cannot be read, or holds no legend.
        OutputError: The file cannot be written.
    """
    path = path or classes.with_suffix(f".{options.format}")
    with Raster(classes) as raster:
        grid = raster.grid
    legend = _legend(classes)
    ground = _Ground(grid)
    counts = {"polygons": 0, "left_out": 0}
    failures: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        regions = trace_regions(_strips(classes, confidence, grid), options.simplify)
        try:
            while some := list(islice(regions, _BATCH)):
                batch = _batch(some, legend, ground, options.min_area)
                counts["polygons"] += batch.num_rows
                counts["left_out"] += len(some) - batch.num_rows
                yield batch
        except (DataError, RasterioError) as error:
            # It would come back as an error of the writer's.
            failures.append(error)
            raise

    with atomic_path(path) as part:
        try:
            _write(batches(), part, path.stem, options.format, ground.crs)
        except (DataLayerError, DataSourceError, FeatureError, GeometryError, pa.ArrowException, DataError) as error:
            raise failures[0] if failures else OSError(f"{FORMATS[options.format]}: {error}") from error
    return VectorMap(path, **counts)


def _legend(classes: Path) -> Legend:
    with rasterio.open(classes) as file:
        text = file.tags().get("LEGEND")
    if text is None:
        raise DataError(f"{classes} holds no legend", "a map of classes written by 'geodistill predict'")
    return Legend.from_dict(json.loads(text))


def _strips(classes: Path, confidence: Path | None, grid: Grid) -> Iterator[Strip]:
    """Read the maps strip by strip; in bytes, not in 5 % of the machine's memory, GDAL keeps blocks."""
    with rasterio.Env(GDAL_CACHEMAX=2**25), rasterio.open(classes) as held:
        sure = rasterio.open(confidence) if confidence is not None else None
        try:
            for top in range(0, grid.height, STRIP):
                window = Window(top, 0, min(STRIP, grid.height - top), grid.width).to_rasterio()
                yield Strip(held.read(1, window=window), None if sure is None else sure.read(1, window=window))
        except RasterioError as error:
            raise DataError(
                f"{classes} or {confidence} cannot be read ({error})", "maps as they were written"
            ) from error
        finally:
            if sure is not None:
                sure.close()


class _Ground:
    """From pixels of a map to its CRS, and to square metres.

    Args:
        grid: The map's.
    """

    def __init__(self, grid: Grid) -> None:
        self._transform = grid.transform
        self._points = GCPTransformer(list(grid.gcps)) if grid.gcps and grid.gcps_crs is not None else None
        own = grid.gcps_crs if self._points is not None else grid.crs
        placed = own is not None and (self._points is not None or not grid.transform.is_identity)
        self.crs: pyproj.CRS | None = pyproj.CRS.from_wkt(own.to_wkt()) if own is not None and placed else None
        self._to_lonlat: Callable[..., Any] | None = None
        if self.crs is not None and not _keeps_areas(self.crs):
            self._to_lonlat = pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform

    def place(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Polygons in pixels -> polygons in the CRS."""
        placed: NDArray[np.object_] = shapely.transform(polygons, self._coordinates)
        return placed

    def areas(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Square metres of polygons in the CRS; NaN where there is none."""
        if self.crs is None:
            return np.full(len(polygons), np.nan)
        if self._to_lonlat is None:
            unit = self.crs.axis_info[0].unit_conversion_factor
            plane: NDArray[np.float64] = shapely.area(polygons) * unit**2
            return plane
        to_lonlat = self._to_lonlat
        around = shapely.transform(polygons, lambda xy: np.column_stack(to_lonlat(xy[:, 0], xy[:, 1])))
        geod = pyproj.Geod(ellps="WGS84")
        return np.array([abs(geod.geometry_area_perimeter(shapely.orient_polygons(p))[0]) for p in around])

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
    columns = [indices, np.array(legend.names, object)[indices], pixels, areas, confidence, shapely.to_wkb(placed)]
    return pa.record_batch(
        [pa.array(column[kept], kind.type, from_pandas=True) for column, kind in zip(columns, _SCHEMA, strict=True)],
        schema=_SCHEMA,
    )


def _write(batches: Iterable[pa.RecordBatch], path: Path, layer: str, kind: str, crs: pyproj.CRS | None) -> None:
    """Write batches as they come."""
    if kind == "parquet":
        column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"]}
        column["crs"] = crs.to_json_dict() if crs is not None else None
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        with pq.ParquetWriter(path, _SCHEMA.with_metadata({"geo": json.dumps(geo)}), compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
        return
    # RFC 7946: longitude and latitude, seven decimals.
    options = {"RFC7946": "YES"} if kind == "geojson" and crs is not None else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(_SCHEMA, batches),
            path,
            layer=layer,
            driver=FORMATS[kind],
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs is not None else None,
            layer_options=options,
        )
