"""A finished map as polygons, in flat memory: GeoPackage, GeoParquet, FlatGeobuf or GeoJSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

from geodistill.inference.feature_file import BATCH, can_be_written, write_features
from geodistill.inference.map_file import map_strips, read_map_grid, read_map_legend, small_cache
from geodistill.inference.options import check_vector
from geodistill.inference.regions import Region, trace_regions
from geodistill.inference.sliding import STEPS
from geodistill.inference.style import plain_name
from geodistill.raster.ground import Ground
from geodistill.spec import Legend

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
    """What was written: a file and how many polygons it holds; how many smaller than the least area it leaves out.

    ``off_earth`` are those it leaves out since they lie off the Earth.
    """

    path: Path
    polygons: int
    left_out: int
    off_earth: int = 0


def write_vectors(
    classes: Path,
    kind: str = "gpkg",
    *,
    min_area: float = 0.0,
    simplify: float = 0.0,
    confidence: Path | None = None,
    path: Path | None = None,
    skip: Collection[int] = (),
) -> VectorMap:
    """Write the regions of a map of classes as polygons in the map's CRS (GeoJSON: longitude and latitude on Earth).

    QGIS shows them in the map's colours: by a table inside a GeoPackage, and by a file ``.qml`` beside the others.

    Each has ``class`` (index), ``name``, ``pixels``, ``area_m2`` and ``confidence``, the mean probability of the
    class over its pixels (0..1; null without a map of it). The area is that of `Ground`: the plane one where
    the CRS keeps areas, else the geodesic one; null where the map is not georeferenced, and then x, y are columns and
    rows.

    They are written beside the map, under its name, where no ``path`` says otherwise. Those smaller than ``min_area``
    (square metres, or pixels where the map is not georeferenced) are left out, and those of the classes ``skip``;
    ``simplify`` is that of `trace_regions`. Left out, too, are polygons without a vertex on the Earth, and in GeoJSON,
    which knows no other places, those with a vertex off it.

    Raises:
        UnknownNameError: There is no such format.
        RecipeError: A number is negative.
        DataError: A map cannot be read, or holds no legend.
        OutputError: The file cannot be written.
    """
    check_vector(kind, min_area, simplify)
    path = path or classes.with_suffix(f".{kind}")
    grid, legend = read_map_grid(classes), read_map_legend(classes)
    ground = Ground(grid)
    counts = {"polygons": 0, "left_out": 0, "off_earth": 0}

    def batches() -> Iterator[pa.RecordBatch]:
        every = trace_regions(map_strips(classes, confidence, grid), simplify)
        regions = (region for region in every if region.index not in skip)
        while some := list(islice(regions, BATCH)):
            batch, small = _batch(some, legend, ground, kind, min_area)
            counts["polygons"] += batch.num_rows
            counts["left_out"] += small
            counts["off_earth"] += len(some) - batch.num_rows - small
            yield batch

    with small_cache():
        write_features(path, kind, batches(), _SCHEMA, ground, legend)
    return VectorMap(path, **counts)


def _batch(
    regions: list[Region], legend: Legend, ground: Ground, kind: str, min_area: float
) -> tuple[pa.RecordBatch, int]:
    """Return the features of regions that stay, and how many are smaller than the least area."""
    indices = np.array([region.index for region in regions])
    pixels = np.array([region.pixels for region in regions])
    polygons = np.array([region.polygon for region in regions], object)
    placed = ground.place(polygons)
    areas = ground.areas(placed)
    # A polygon with vertices off the Earth has no area, and is not small for that.
    small = (areas if ground.crs is not None else pixels) < ground.least(min_area)
    kept = ~small & can_be_written(placed, kind, ground)
    confidence = np.array([region.confidence for region in regions]) / STEPS
    names = np.array([plain_name(name) for name in legend.names], object)
    columns = [indices, names[indices], pixels, areas, confidence, shapely.to_wkb(placed)]
    arrays = [
        pa.array(column[kept], field.type, from_pandas=True) for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.record_batch(arrays, schema=_SCHEMA), int(small.sum())
