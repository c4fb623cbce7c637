"""Tiles to label next as a list (CSV) and, where they lie on the ground, as squares for QGIS (GeoPackage)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from geodistill.errors import OutputError, output_errors
from geodistill.files import atomic_path, write_text
from geodistill.inference.geopackage import STYLES, copy_styles, fixed_time, layer_columns
from geodistill.review.next_tiles import NextTile
from geodistill.writing import csv_text

LAYER = "next"
COLUMNS = ("rank", "image", "row", "col", "height", "width", "uncertainty", "weak", "distance", "lon", "lat")


def next_files(out: Path | str) -> tuple[Path, Path]:
    """Return the list and the GeoPackage that are written for ``out``, the list's name.

    Raises:
        OutputError: Another file has the name of the GeoPackage.
    """
    package = Path(out).with_suffix(".gpkg")
    layers = layer_columns(package) if package.exists() else {LAYER: COLUMNS}
    layers.pop(STYLES, None)  # where QGIS saves a style of the list
    if layers != {LAYER: COLUMNS}:
        raise OutputError(
            f"{package} is no file that 'label next' wrote", "none, or one of an earlier list", "choose another --out"
        )
    return Path(out), package


def write_next(tiles: Sequence[NextTile], out: Path | str) -> tuple[list[Path], int]:
    """Write the list, and the GeoPackage where any tile lies on the ground; return both, and how many tiles do.

    The GeoPackage of an earlier list goes where there is no new one; a new one takes over the styles saved in it.

    Raises:
        OutputError: A file cannot be written, or another one has the name of the GeoPackage.
    """
    table, package = next_files(out)
    rows = [_row(rank, tile) for rank, tile in enumerate(tiles, 1)]
    write_text(table, csv_text([COLUMNS, *rows]), "backslashreplace")
    squares = [_square(tile) for tile in tiles]
    placed = [at for at, square in enumerate(squares) if square is not None]
    if not placed:
        with output_errors(package):
            package.unlink(missing_ok=True)
        return [table], 0
    columns = {name: [rows[at][k] for at in placed] for k, name in enumerate(COLUMNS)}
    frame = geopandas.GeoDataFrame(columns, geometry=[squares[at] for at in placed], crs="EPSG:4326")
    with atomic_path(package) as part, fixed_time():
        try:
            pyogrio.write_dataframe(frame, part, layer=LAYER, driver="GPKG")
        except (DataSourceError, DataLayerError) as error:
            raise OSError(f"GeoPackage: {error}") from error
        copy_styles(part, package)
    return [table, package], len(placed)


def _row(rank: int, tile: NextTile) -> tuple[object, ...]:
    window, lonlat = tile.window, tile.grid.lonlat or (None, None)
    figures = (
        round(tile.uncertainty, 4),
        round(tile.weak, 4),
        None if tile.distance is None else round(tile.distance, 4),
    )
    place = tuple(None if value is None else round(value, 7) for value in lonlat)
    return (rank, str(tile.image), window.row, window.col, window.height, window.width, *figures, *place)


def _square(tile: NextTile) -> shapely.Polygon | None:
    """Return a tile's outline in longitude and latitude."""
    grid = tile.grid
    if grid.crs is None or grid.transform.is_identity or grid.lonlat is None:
        return None
    corners = [(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)]
    ring = shapely.Polygon([grid.transform @ corner for corner in corners])
    return geopandas.GeoSeries([ring], crs=grid.crs.to_wkt()).to_crs("EPSG:4326").iloc[0]
