"""Features of a vector file: its polygons with their classes, and what else it holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pyarrow
import pyogrio
import pyproj
import shapely

from geodistill.errors import DataError, UnknownNameError
from geodistill.label.formats.per_image import difficulty
from geodistill.label.formats.raw_boxes import ReadOptions
from geodistill.label.formats.vector_files import CATEGORY_FIELDS, TEXT_SUFFIXES, usual_column
from geodistill.reading import ANNOTATION_BYTES, read_json


@dataclass(frozen=True)
class Feature:
    """One polygon of a file, in the file's CRS."""

    polygon: Any
    category: str
    difficult: int
    source: str


@dataclass
class Features:
    """What a file holds.

    Attributes:
        file: The file.
        crs: Its CRS.
        column: The column of the class, or ``None`` where it has none.
        items: Its polygons.
        lost: Features that have none, with the reason.
        faults: What is wrong with those that cannot be used.
    """

    file: Path
    crs: Any
    column: str | None = None
    items: list[Feature] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    faults: list[DataError] = field(default_factory=list)


def read_features(file: Path, options: ReadOptions) -> Features:
    """Read the polygons of a file.

    Raises:
        DataError: It cannot be read, has no CRS, or its classes are in no known column.
    """
    table = _table(file)
    features = Features(file, table.crs)
    if not len(table):
        features.crs = "EPSG:4326"
        return features
    if table.crs is None:
        raise DataError(f"{file} has no CRS", "coordinates that say where on the ground they lie", "save it with a CRS")
    features.column = _column(table, file, options)
    # A single class needs no column.
    categories = [*(options.categories or ())] * len(table) if features.column is None else list(table[features.column])
    difficult = list(table["difficult"]) if "difficult" in table.columns else [None] * len(table)
    for n, (geometry, category, hard) in enumerate(zip(table.geometry, categories, difficult, strict=True), 1):
        source = f"{file}:object {n}"
        if geometry is None or geometry.is_empty:
            features.lost.append(f"{source} (no geometry)")
            continue
        try:
            features.items += _features(geometry, category, hard, source, options)
        except DataError as error:
            features.lost.append(f"{error.received} (cannot be used)")
            features.faults.append(error)
    return features


def _features(geometry: Any, category: Any, hard: Any, source: str, options: ReadOptions) -> list[Feature]:
    """Return the parts of a feature."""
    if geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise DataError(f"{source} is a {geometry.geom_type}", "polygons", "keep boxes in a layer of their own")
    name = "" if isinstance(category, list | dict | np.ndarray) else _text(category, options.categories or ())
    if not name.strip():
        raise DataError(f"{source} has no {options.category_field or 'class'}", "a class for every object")
    parts = list(geometry.geoms) if geometry.geom_type == "MultiPolygon" else [geometry]
    difficult = difficulty(_text(hard), source)
    return [
        Feature(shapely.force_2d(part), name, difficult, source if len(parts) == 1 else f"{source}, part {m}")
        for m, part in enumerate(parts, 1)
    ]


def _table(file: Path) -> geopandas.GeoDataFrame:
    read: Callable[[Path], Any] = geopandas.read_parquet if file.suffix.lower() == ".parquet" else _layer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GDAL's remarks: features without a shape are counted below
            table = read(file)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FeatureError,
        pyogrio.errors.GeometryError,
        pyogrio.errors.FieldError,
        pyproj.exceptions.ProjError,
        shapely.errors.GEOSException,
        pyarrow.ArrowException,
        OSError,
        ValueError,  # UnicodeError too: a name or text that is not UTF-8
        TypeError,
        KeyError,
        OverflowError,
    ) as error:
        if file.suffix.lower() in TEXT_SUFFIXES:
            read_json(file, ANNOTATION_BYTES)  # names the line, where the text itself is malformed
        reason = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read ({reason[:200]})", "a vector file that GDAL reads") from error
    return table


def _layer(file: Path) -> Any:
    layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
    if len(layers) != 1:
        raise DataError(f"{file} has {len(layers)} layers {', '.join(layers[:5])}", "one", "save the boxes alone")
    return pyogrio.read_dataframe(file, layer=layers[0], on_invalid="ignore")


def _column(table: geopandas.GeoDataFrame, file: Path, options: ReadOptions) -> str | None:
    """Return the column of the class; ``None`` where there is none, and none is needed for a single class.

    Beside a single class a column called almost as usual may hold anything; without, it is the best there is.
    """
    columns = [str(name) for name in table.columns if name != table.geometry.name]
    name = options.category_field
    if name is not None and name not in columns:
        raise UnknownNameError("column", name, columns, f"see the columns of {file}")
    name = name or next((usual for usual in CATEGORY_FIELDS if usual in columns), None)
    if name is None and len(options.categories or ()) == 1:
        return None
    name = name or usual_column(columns)
    if name is None:
        raise DataError(
            f"{file} has the columns {', '.join(columns) or '(none)'}",
            f"one of {', '.join(CATEGORY_FIELDS)}",
            "name the column of the class with --category-field (category_field in a project), or a single class with"
            " --classes",
        )
    return name


def _text(value: Any, categories: Collection[str] = ()) -> str:
    """Return a cell as text, nothing where it is empty: ``None`` or NaN by the kind of its column.

    One empty cell, or a DBF, makes a column of whole numbers one of floats: 1.0 is written as 1, unless the
    categories asked for have 1.0 alone.
    """
    if value is None or (np.ndim(value) == 0 and bool(pandas.isna(value))):
        return ""
    text = str(value)
    if not isinstance(value, float | np.floating) or not value.is_integer():
        return text
    whole = str(int(value))
    return text if text in categories and whole not in categories else whole
