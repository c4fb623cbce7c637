"""GeoJSON and GeoPackage polygons over georeferenced images: brought to each image's CRS, the image never warped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from geodistill.errors import DataError, UnknownNameError
from geodistill.label.boxes.coco import load_json
from geodistill.label.boxes.found import Entry, Found, Options, Read
from geodistill.label.boxes.pictures import Picture, Pictures, files_of
from geodistill.label.boxes.rasterise import mask_of
from geodistill.label.boxes.text import difficulty
from geodistill.label.records import Kind, kind_of_corners
from geodistill.raster import Grid

SUFFIXES = (".geojson", ".json", ".gpkg")
CATEGORY_FIELDS = ("category", "class", "label", "class_name")
"""Columns that are looked for, in this order, where none is named."""
BOX_SHARE = 0.95
"""Four corners that fill this share of their smallest enclosing rectangle are a box, else an outline."""


@dataclass(frozen=True)
class _Feature:
    """One polygon of a file, in the file's CRS."""

    polygon: Any
    category: str
    difficult: int
    source: str


def read(place: Path, pictures: Pictures, options: Options) -> Read:
    """Read one file, or every file of a folder; each polygon belongs to every image that it touches.

    Polygons of four corners that are nearly a rectangle are boxes; others are outlines, which also serve as true
    masks. A feature of several parts is several objects. Features that touch no image are unmatched.

    Raises:
        DataError: A file cannot be read or has no CRS, a feature is no polygon, or an image has no place on the ground.
    """
    if not place.exists():
        raise DataError(f"no boxes at {place}", "a GeoJSON or GeoPackage file, or a folder of them")
    files = sorted(files_of(place, SUFFIXES))
    if not files:
        raise DataError(f"no annotation in {place}", f"files {', '.join(SUFFIXES)}")
    placed = _placed(pictures)
    found = Read()
    objects: dict[str, list[Found]] = defaultdict(list)
    sources: dict[str, Path] = {}
    for file in files:
        features, crs, lost = _features(file, options)
        found.unmatched += lost
        matched: set[int] = set()
        for image_crs, group in _by_crs(placed).items():
            polygons = geopandas.GeoSeries([f.polygon for f in features], crs=crs).to_crs(image_crs.to_wkt())
            for picture, grid, hits in _hits(group, np.asarray(polygons.array, object)):
                matched.update(hits)
                sources.setdefault(picture.key, file)
                objects[picture.key] += [_object(features[at], polygons.iloc[at], grid) for at in hits]
        found.unmatched += [f.source for at, f in enumerate(features) if at not in matched]
    found.entries = [Entry(p, sources[p.key], objects[p.key]) for p, _ in placed if p.key in objects]
    return found


def _placed(pictures: Pictures) -> list[tuple[Picture, Grid]]:
    """Give every image with its grid; images that cannot be opened are left to be counted later."""
    placed = [(picture, picture.grid) for picture in pictures.all if picture.grid is not None]
    lost = [picture.path.name for picture, grid in placed if grid.crs is None or grid.transform.is_identity]
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise DataError(
            f"{', '.join(lost[:5])}{more} in {pictures.place} have no place on the ground",
            "images with a CRS and a transform",
            "georeference or orthorectify them, or give boxes in pixels",
        )
    return placed


def _by_crs(placed: Sequence[tuple[Picture, Grid]]) -> dict[CRS, list[tuple[Picture, Grid]]]:
    groups: dict[CRS, list[tuple[Picture, Grid]]] = defaultdict(list)
    for picture, grid in placed:
        assert grid.crs is not None
        groups[grid.crs].append((picture, grid))
    return groups


def _hits(
    group: Sequence[tuple[Picture, Grid]], polygons: NDArray[np.object_]
) -> list[tuple[Picture, Grid, list[int]]]:
    """Give, for each image, the positions of the polygons that meet its footprint, rising."""
    # What lies beyond the reach of a projection comes out as infinity, and the tree would not bear it.
    finite = np.flatnonzero(np.isfinite(shapely.bounds(polygons)).all(axis=1))
    tree = shapely.STRtree(polygons[finite])
    found = []
    for picture, grid in group:
        corners = ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))
        footprint = shapely.Polygon([grid.transform @ corner for corner in corners])
        hits = sorted(finite[tree.query(footprint, "intersects")].tolist())
        if hits:
            found.append((picture, grid, hits))
    return found


def _object(feature: _Feature, polygon: Any, grid: Grid) -> Found:
    outer = _pixels(polygon.exterior, grid.transform)
    kind = _kind(outer)
    segmentation = None
    if kind == "polygon":
        holes = [_pixels(ring, grid.transform) for ring in polygon.interiors]
        segmentation = mask_of([outer], holes, grid.width, grid.height)
    return Found(outer, feature.category, feature.source, kind, feature.difficult, segmentation)


def _pixels(ring: Any, transform: Affine) -> NDArray[np.float64]:
    """Give the vertices of a closed ring in pixels, without the last, which repeats the first."""
    x, y = shapely.get_coordinates(ring)[:-1].T
    inverse = ~transform
    return np.stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1)


def _kind(ring: NDArray[np.float64]) -> Kind:
    if len(ring) != 4:
        return "polygon"
    shape = shapely.Polygon(ring)
    enclosing = shapely.minimum_rotated_rectangle(shape).area
    if enclosing > 0 and shape.area < BOX_SHARE * enclosing:
        return "polygon"
    return kind_of_corners(ring)


def _features(file: Path, options: Options) -> tuple[list[_Feature], Any, list[str]]:
    """Give the polygons of a file, its CRS, and the sources of features without a geometry."""
    table = _table(file)
    if not len(table):
        return [], "EPSG:4326", []
    if table.crs is None:
        raise DataError(f"{file} has no CRS", "coordinates that say where on the ground they lie", "save it with a CRS")
    categories = _column(table, file, options)
    difficult = table["difficult"] if "difficult" in table.columns else None
    features: list[_Feature] = []
    lost: list[str] = []
    for n, (geometry, category) in enumerate(zip(table.geometry, categories, strict=True)):
        source = f"{file}:object {n + 1}"
        if geometry is None or geometry.is_empty:
            lost.append(f"{source} (no geometry)")
            continue
        if geometry.geom_type not in ("Polygon", "MultiPolygon"):
            raise DataError(f"{source} is a {geometry.geom_type}", "polygons", "keep boxes in a layer of their own")
        parts = list(geometry.geoms) if geometry.geom_type == "MultiPolygon" else [geometry]
        hard = 0 if difficult is None else _difficult(difficult.iloc[n], source)
        for m, part in enumerate(parts, 1):
            named = source if len(parts) == 1 else f"{source}, part {m}"
            features.append(_Feature(shapely.force_2d(part), category, hard, named))
    return features, table.crs, lost


def _table(file: Path) -> geopandas.GeoDataFrame:
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
        if len(layers) != 1:
            raise DataError(f"{file} has {len(layers)} layers {', '.join(layers[:5])}", "one", "save the boxes alone")
        return pyogrio.read_dataframe(file, layer=layers[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.errors.GEOSException) as error:
        if file.suffix.lower() != ".gpkg":
            load_json(file)  # names the line, where the text itself is malformed
        reason = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read ({reason[:200]})", "a GeoJSON or GeoPackage file") from error


def _column(table: geopandas.GeoDataFrame, file: Path, options: Options) -> list[str]:
    columns = [str(name) for name in table.columns if name != table.geometry.name]
    field = options.category_field
    if field is not None and field not in columns:
        raise UnknownNameError("column", field, columns, f"see the columns of {file}")
    field = field or next((name for name in CATEGORY_FIELDS if name in columns), None)
    if field is None and options.categories is not None and len(options.categories) == 1:
        return [options.categories[0]] * len(table)  # a single class needs no column
    if field is None:
        raise DataError(
            f"{file} has the columns {', '.join(columns) or '(none)'}",
            f"one of {', '.join(CATEGORY_FIELDS)}",
            "name the column of the class, or give a single class",
        )
    values = table[field]
    if values.isna().any():
        at = int(np.flatnonzero(values.isna())[0]) + 1
        raise DataError(f"{file}:object {at} has no {field}", "a class for every object")
    return [str(value) for value in values]


def _difficult(value: Any, source: str) -> int:
    if value is None or value != value:  # an empty cell comes as NaN
        return 0
    return difficulty(f"{value:g}" if isinstance(value, float) else str(int(value)), source)
