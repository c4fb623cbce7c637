"""Vector files with polygons: their suffixes and the column of the class; imports no library of geometry."""

from __future__ import annotations

from collections.abc import Sequence

TEXT_SUFFIXES = (".geojson", ".json")

SUFFIXES = (*TEXT_SUFFIXES, ".gpkg", ".fgb", ".parquet", ".shp")
"""Of the files that are looked for in a folder; a file that is named may be any that GDAL reads."""

CATEGORY_FIELDS = ("category", "class", "label", "class_name")
"""Columns that are looked for, in this order, where none is named."""


def usual_column(columns: Sequence[str]) -> str | None:
    """Return the column of the class by its usual name, or else by one in other case; ``None`` where there is none."""
    alike = (column for field in CATEGORY_FIELDS for column in columns if column.lower() == field)
    return next((field for field in CATEGORY_FIELDS if field in columns), next(alike, None))
