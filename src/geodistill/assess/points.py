"""A sample in a file: a GeoPackage of points, the pixels they stand for, the strata, and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from geodistill.assess.form import point_style
from geodistill.errors import DataError, OutputError, counted
from geodistill.files import atomic_path
from geodistill.inference.geopackage import add_layer_style, fixed_time, layer_columns
from geodistill.legend_entries import parse_colour
from geodistill.raster.ground import Ground
from geodistill.spec import Legend, hexadecimal

COLUMNS = ("id", "reference", "note", "stratum", "class", "row", "col")
"""Columns of the points; the interpreter fills ``reference`` with the name of a class."""

LAYERS = {"points", "pixels", "strata", "classes", "layer_styles"}

Table = pd.DataFrame


@dataclass(frozen=True)
class StratumTable:
    """The strata of a sample by class: a row for each class that a stratum holds.

    Attributes:
        stratum: Position of the stratum.
        name: Its name: that of its class, or ``boundary``.
        index: The class.
        pixels: Pixels of the class in the stratum.
        area_m2: Their area; ``None`` where the map is not georeferenced.
    """

    stratum: Sequence[int]
    name: Sequence[str]
    index: Sequence[int]
    pixels: Sequence[int]
    area_m2: Sequence[float] | None


@dataclass(frozen=True)
class SamplePoints:
    """Points of a sample: stratum, class of the map, row and column of each, arrays ``(n,)`` int64."""

    stratum: NDArray[np.int64]
    index: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]


def check_replaced(path: Path) -> None:
    """Make sure that a new sample replaces nothing of a person's: at most a sample that nobody interpreted.

    Raises:
        OutputError: It would.
    """
    if not path.exists():
        return
    expected, mend = "a new file, or a sample as it was drawn", "move it, or choose another --out"
    columns = layer_columns(path)
    if columns.keys() != LAYERS or columns["points"] != COLUMNS:
        raise OutputError(f"{path} is no file that 'assess sample' wrote", expected, mend)
    entries = pyogrio.read_dataframe(path, layer="points", columns=["reference", "note"], read_geometry=False)
    if filled := int((entries.fillna("") != "").any(axis=1).sum()):
        raise OutputError(f"{path} holds {counted(filled, 'interpreted point')}", expected, mend)


def write_points(path: Path, points: SamplePoints, strata: StratumTable, legend: Legend, ground: Ground) -> None:
    """Write a sample that QGIS opens with a form for its interpretation.

    Raises:
        OutputError: The file cannot be written.
    """
    count = len(points.stratum)
    centres = ground.coordinates(np.column_stack([points.cols + 0.5, points.rows + 0.5])) if count else np.zeros((0, 2))
    squares = ground.place(shapely.box(points.cols, points.rows, points.cols + 1, points.rows + 1))
    ids = np.arange(1, count + 1)
    empty = pd.array([None] * count, dtype="string")
    columns = (ids, empty, empty, points.stratum, points.index, points.rows, points.cols)
    table = dict(zip(COLUMNS, columns, strict=True))
    crs = None if ground.crs is None else ground.crs.to_wkt()
    about = {"stratum": strata.stratum, "name": strata.name, "class": strata.index, "pixels": strata.pixels}
    area = [None] * len(strata.stratum) if strata.area_m2 is None else strata.area_m2
    colours = [hexadecimal(colour) for colour in legend.colours]
    with atomic_path(path) as part, fixed_time():
        layers: dict[str, Table] = {
            "points": geopandas.GeoDataFrame(table, geometry=shapely.points(centres), crs=crs),
            "pixels": geopandas.GeoDataFrame({"id": ids}, geometry=squares, crs=crs),
            "strata": pd.DataFrame({**about, "area_m2": pd.array(area, dtype="Float64")}),
            "classes": pd.DataFrame({"class": range(len(legend)), "name": legend.names, "colour": colours}),
        }
        try:
            for name, frame in layers.items():
                pyogrio.write_dataframe(frame, part, layer=name, driver="GPKG", append=part.exists())
        except (DataSourceError, DataLayerError) as error:
            raise OSError(f"GeoPackage: {error}") from error
        add_layer_style(part, "points", point_style(legend, COLUMNS))


def read_points(path: Path | str) -> tuple[geopandas.GeoDataFrame, StratumTable, Legend]:
    """Read a sample back: its points with `COLUMNS`, its strata, and the classes.

    Raises:
        DataError: The file cannot be read, or is not such a sample.
    """
    mend = "a GeoPackage that 'geodistill assess sample' wrote"
    try:
        points = geopandas.read_file(path, layer="points")
        strata = pyogrio.read_dataframe(path, layer="strata", read_geometry=False)
        classes = pyogrio.read_dataframe(path, layer="classes", read_geometry=False)
    except (DataSourceError, DataLayerError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a sample ({error})", mend) from error
    required = {"points": ({*COLUMNS} - {"id", "note"}, points), "classes": ({"class", "name", "colour"}, classes)}
    required["strata"] = {"stratum", "name", "class", "pixels", "area_m2"}, strata
    for layer, (names, frame) in required.items():
        if missing := sorted(names - set(frame.columns)):
            raise DataError(f"the layer {layer} of {path} has no column {missing[0]}", mend)
    whole = [(points, ("stratum", "class", "row", "col")), (strata, ("stratum", "class", "pixels"))]
    if any(not pd.api.types.is_integer_dtype(frame[name]) for frame, names in whole for name in names):
        raise DataError(f"{path} has strata, classes or pixels that are no whole numbers", mend)
    order = classes.sort_values("class")
    legend = Legend(tuple(map(str, order["name"])), tuple(parse_colour(colour) for colour in order["colour"]))
    ranges = [(frame["class"], len(legend)) for frame in (points, strata)]
    ranges += [(frame["stratum"], len(legend) + 1) for frame in (points, strata)]
    if any(len(column) and not (column.min() >= 0 and column.max() < limit) for column, limit in ranges):
        raise DataError(f"{path} has classes or strata beyond its {len(legend)} classes", mend)
    area = None if strata["area_m2"].isna().any() else strata["area_m2"].tolist()
    stratum, names, index, pixels = (strata[name].tolist() for name in ("stratum", "name", "class", "pixels"))
    return points, StratumTable(stratum, names, index, pixels, area), legend
