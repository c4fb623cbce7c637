"""The objects of a finished map as polygons with their figures, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from geodistill.inference.feature_file import BATCH, can_be_written, write_features
from geodistill.inference.map_file import map_strips, read_map_grid, read_map_legend, small_cache
from geodistill.inference.objects.chosen import ObjectClasses, find_classes, object_files
from geodistill.inference.objects.parts import MapObject, objects_of
from geodistill.inference.objects.right_angles import SQUARED
from geodistill.inference.objects.windows_of_map import MapWindows
from geodistill.inference.options import check_vector
from geodistill.inference.regions import MapStrip, Region, trace_regions
from geodistill.inference.style import plain_name
from geodistill.raster.ground import Ground
from geodistill.spec import Legend

_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("class", pa.int32()),
        ("name", pa.string()),
        ("pixels", pa.int64()),
        ("area_m2", pa.float64()),
        ("perimeter_m", pa.float64()),
        ("confidence", pa.float64()),
        ("confidence_min", pa.float64()),
        ("status", pa.string()),
        ("geometry", pa.binary()),
    ]
)


@dataclass(frozen=True)
class ObjectMap:
    """What was written: a file, how many objects it holds, and how many of them have right angles.

    ``off_earth`` are those left out since they lie off the Earth, as by `write_vectors`.
    """

    path: Path
    objects: int
    squared: int
    off_earth: int = 0


def write_objects(
    classes: Path,
    objects: Sequence[str],
    kind: str = "gpkg",
    *,
    squared: Sequence[str] = (),
    min_area: float = 0.0,
    confidence: Path | None = None,
    distance: Path | None = None,
    path: Path | None = None,
) -> ObjectMap:
    """Write the objects of some classes of a map, each with its figures, in the map's CRS.

    Touching objects are separated: by the model's boundary class where its legend has one (`BOUNDARY_NAMES`), else by
    `separate`, on what the model's distance head says where it has one. Each has ``id``, ``class``, ``name``,
    ``pixels``, ``area_m2``, ``perimeter_m`` (on the ground, see `Ground`), ``confidence`` and ``confidence_min`` (mean
    and lowest probability; null without a map of it), and ``status``, what became of its outline. Objects are ordered
    and numbered by their last rows. Memory grows with the largest region, up to that of `MOST_PIXELS`, and not with the
    map.

    Args:
        classes: The map of classes.
        objects: Names of the classes that are objects.
        kind: Format, among `VECTOR_FORMATS`.
        squared: Names of those whose outlines get right angles, touching ones keeping the walls they share.
        min_area: Smaller objects are left out, smaller parts join their neighbours, and smaller holes are filled:
            square metres, or pixels where the map is not georeferenced.
        confidence: The map of confidence.
        distance: The map of the distance head.
        path: The file, by default ``map_objects.gpkg`` beside ``map.tif``.

    Raises:
        UnknownNameError: There is no such format or class.
        RecipeError: A number is negative, or a class is to get right angles that is no object.
        DataError: A map cannot be read, or holds no legend.
        OutputError: The file cannot be written.
    """
    check_vector(kind, min_area, 0.0)
    path = path or object_files(classes, kind)[0]
    grid, legend = read_map_grid(classes), read_map_legend(classes)
    chosen, ground = find_classes(legend, objects, squared), Ground(grid)
    table, counts = chosen.table(), {"objects": 0, "squared": 0, "off_earth": 0}

    def batches() -> Iterator[pa.RecordBatch]:
        with MapWindows(classes, confidence, distance) as maps:
            read = maps.watch(map_strips(classes, confidence, grid, distance=distance))
            strips = (MapStrip(table[strip.classes], strip.confidence) for strip in read)
            every = _every_object(trace_regions(strips), maps, chosen, ground, min_area)
            while some := list(islice(every, BATCH)):
                polygons = ground.place(np.array([one.polygon for one in some], object))
                kept = can_be_written(polygons, kind, ground)
                written = list(compress(some, kept))
                batch = _object_batch(written, polygons[kept], legend, ground, counts["objects"])
                counts["objects"] += len(written)
                counts["squared"] += sum(one.status == SQUARED for one in written)
                counts["off_earth"] += len(some) - len(written)
                yield batch

    with small_cache():
        write_features(path, kind, batches(), _SCHEMA, ground, legend)
    return ObjectMap(path, **counts)


def _every_object(
    regions: Iterator[Region], maps: MapWindows, classes: ObjectClasses, ground: Ground, min_area: float
) -> Iterator[MapObject]:
    min_area = ground.least(min_area)
    for region in regions:
        col, row = region.polygon.bounds[0], region.polygon.bounds[1]
        sides = ground.sides(col, row)
        area = sides[0] * sides[1] if ground.crs is not None else 1.0
        if shapely.Polygon(region.polygon.exterior).area * area >= min_area:  # its holes may be filled
            yield from objects_of(region, maps, classes, max(min_area / area, 1.0), sides)


def _object_batch(
    objects: list[MapObject], polygons: NDArray[np.object_], legend: Legend, ground: Ground, used: int
) -> pa.RecordBatch:
    names = [plain_name(name) for name in legend.names]
    columns = {
        "id": np.arange(used + 1, used + len(objects) + 1),
        "class": [one.index for one in objects],
        "name": [names[one.index] for one in objects],
        "pixels": [one.pixels for one in objects],
        "area_m2": ground.areas(polygons),
        "perimeter_m": ground.perimeters(polygons),
        "confidence": np.array([one.confidence for one in objects]),
        "confidence_min": np.array([one.least for one in objects]),
        "status": [one.status for one in objects],
        "geometry": shapely.to_wkb(polygons),
    }
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in _SCHEMA]
    return pa.record_batch(arrays, schema=_SCHEMA)
