"""Whether two maps lie on one grid and show one place, and the second brought onto the first's grid where not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from geodistill.errors import DataError, GeodistillWarning
from geodistill.inference.any_map import AnyMap
from geodistill.raster import Grid
from geodistill.raster.grid import crs_names

_SHARE = 0.01
"""Of a pixel, by which grids may be apart."""

LEAST_COMMON = 0.5
"""Of the first map's pixels: where fewer are compared, a warning says so."""


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether the pixels of two grids lie on each other, to a hundredth of a pixel."""
    if (one.height, one.width) != (other.height, other.width) or one.crs != other.crs:
        return False
    points = [[(p.row, p.col, p.x, p.y) for p in grid.gcps] for grid in (one, other)]
    if points[0] != points[1] or one.gcps_crs != other.gcps_crs or one.rpcs != other.rpcs:
        return False
    corners = [(0, 0), (one.width, 0), (0, one.height), (one.width, one.height)]
    back = ~one.transform
    apart = [abs(a - b) for at in corners for a, b in zip(back @ (other.transform @ at), at, strict=True)]
    return bool(max(apart) < _SHARE)


def require_grid(before: Path | str, after: Path | str, grids: tuple[Grid, Grid]) -> None:
    """Make sure that two maps lie on one grid.

    Raises:
        DataError: They do not.
    """
    if not same_grid(*grids):
        about = [
            f"{g.width} x {g.height} pixels from {g.transform.c:g}, {g.transform.f:g}, {crs}"
            for g, crs in zip(grids, crs_names(grids[0].crs, grids[1].crs), strict=True)
        ]
        raise DataError(
            f"{before} has {about[0]} and {after} has {about[1]}",
            "two maps on one grid",
            "--align brings the second onto the grid of the first",
        )


def require_common(names: tuple[str, str], places: tuple[Grid, Grid], mapped: int, compared: int) -> None:
    """Make sure that two maps have something to compare, and warn where that is little of the first.

    Args:
        names: Names of the maps.
        places: Where each of them lies.
        mapped: Pixels of the first that have data.
        compared: Those of them where the second has data too.

    Raises:
        DataError: There are none.
    """
    if not compared:
        crss = crs_names(places[0].crs, places[1].crs)
        about = [f"{name} ({_extent(grid)}, {crs})" for name, grid, crs in zip(names, places, crss, strict=True)]
        raise DataError(f"no pixel has data in both {about[0]} and {about[1]}", "two maps of one place")
    if compared < LEAST_COMMON * mapped:
        what = f"{names[1]} has data for {compared / mapped:.1%} of {names[0]}: only that is compared"
        warnings.warn(what, GeodistillWarning, stacklevel=2)


def _extent(grid: Grid) -> str:
    left, bottom, right, top = (f"{value:.10g}" for value in grid.bounds)
    return f"x {left} to {right}, y {bottom} to {top}"


def align_map(classes: AnyMap, grid: Grid, target: Path) -> AnyMap:
    """Bring a map of classes onto another grid, as `align` does.

    Raises:
        DataError: As `align`.
    """
    return replace(classes, path=align(classes.path, grid, target), grid=grid)


def align(source: Path | str, grid: Grid, target: Path) -> Path:
    """Write a virtual raster of a map on another grid: of each pixel the nearest of the map.

    All values stay as they are, since a class may be the file's nodata; an alpha band says where the map's mask hides
    it and where it does not reach.

    Args:
        source: The map.
        grid: The other grid.
        target: The virtual raster.

    Raises:
        DataError: One of them is not georeferenced by a CRS and a transform, or the map cannot be read.
    """
    try:
        with rasterio.open(source) as file:
            if grid.crs is None or file.crs is None or grid.transform.is_identity:
                raise DataError(f"{source} or the first map is not georeferenced", "a CRS with a transform in both")
            about = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
            kept = {"src_nodata": None, "nodata": None, "add_alpha": ColorInterp.alpha not in file.colorinterp}
            with WarpedVRT(file, **about, **kept, resampling=Resampling.nearest) as warped:
                rasterio.shutil.copy(warped, target, driver="VRT")
    except RasterioError as error:
        raise DataError(f"{source} cannot be brought onto the other grid ({error})", "a map of classes") from error
    return target
