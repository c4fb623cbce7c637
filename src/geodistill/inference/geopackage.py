"""What a GeoPackage of ours holds beside its features: the style that QGIS opens a layer with, and a fixed time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

STAMP = "2000-01-01T00:00:00.000Z"
"""Time of last change that a GeoPackage states: the real one would make every run's bytes others."""

GEOMETRY = "geom"
"""Column of geometries that GDAL makes in a GeoPackage, whatever it is called in what is written."""

STYLES = "layer_styles"
"""Table in which QGIS looks for styles, and saves them."""

_TABLE = f"""CREATE TABLE {STYLES} (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT,
styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""


def add_layer_style(package: Path, layer: str, style: str) -> None:
    """Add to a GeoPackage, in place, the style (QML) by which QGIS shows a layer.

    QGIS takes it only where it names the layer's column of geometries as the file does.
    """
    row = (layer, GEOMETRY, "classes", style, "classes of the map", STAMP)
    with closing(sqlite3.connect(package)) as file, file:
        _add_table(file)
        file.execute(
            f"INSERT INTO {STYLES} (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName,"
            " styleQML, styleSLD, useAsDefault, description, owner, update_time)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, ?, '', ?)",
            row,
        )


def copy_styles(package: Path, earlier: Path) -> None:
    """Add to a GeoPackage, in place, the styles that QGIS saved in an earlier one of the same layers, if any.

    Raises:
        OSError: They cannot be read.
    """
    if STYLES not in layer_columns(earlier):
        return
    try:
        with closing(sqlite3.connect(package)) as file, file:
            file.execute("ATTACH ? AS earlier", (str(earlier),))
            _add_table(file)
            # Tables of styles differ in columns and in their order; rows are numbered anew.
            known, there = (_columns(file, place) for place in ("main", "earlier"))
            columns = ", ".join(known & there - {"id"})
            file.execute(f"INSERT INTO {STYLES} ({columns}) SELECT {columns} FROM earlier.{STYLES}")
    except sqlite3.Error as error:
        raise OSError(f"styles of {earlier}: {error}") from error


def _columns(file: sqlite3.Connection, place: str) -> set[str]:
    """Return the columns of the table of styles in an open file, or in one attached to it, in small letters."""
    return {str(name).lower() for _, name, *_ in file.execute(f"PRAGMA {place}.table_info({STYLES})")}


def _add_table(file: sqlite3.Connection) -> None:
    """Add the empty table of styles."""
    file.execute(_TABLE)
    file.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id)"
        " VALUES (?, 'attributes', ?, '', ?, 0)",
        (STYLES, STYLES, STAMP),
    )


def layer_columns(package: Path) -> dict[str, tuple[str, ...]]:
    """Return the columns of each layer of a GeoPackage, without that of geometries; none where it is no such file."""
    try:
        layers = [str(layer) for layer, _ in pyogrio.list_layers(package)]
        return {layer: tuple(pyogrio.read_info(package, layer=layer)["fields"]) for layer in layers}
    except (DataSourceError, DataLayerError):
        return {}


@contextmanager
def fixed_time() -> Iterator[None]:
    """Let GDAL write a fixed time of last change, so that the same map gives the same bytes."""
    key = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(key)
    pyogrio.set_gdal_config_options({key: STAMP})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({key: before})
