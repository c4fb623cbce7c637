"""From the pixels of a grid to the ground: places in its CRS, areas in square metres, lengths in metres."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.transform import GCPTransformer

from geodistill.raster.grid import Grid, Window

_SHARE = 1e-4
"""Of a pixel's side: GeoJSON's last decimal, so that no polygon's area moves by a thousandth."""

_DISTORTION = 0.005
"""Share by which areas on the plane may differ from those on the ground: UTM's differ by 0.2 % at most."""

_ROUNDING = 1e-6
"""Share of an area by which coordinates of millions of metres move that of pixels of a centimetre."""

_ALONG = 20
"""Parts of a grid's longer side between points of its outline: sides straight in a projection are curves in degrees."""

_POLE = 1e-6
"""Degrees from a pole, and from half a turn of longitude, that are none."""

_NODES = 10_000.0
"""Metres between the places that the area of a pixel is computed at; between them it is interpolated."""


class Ground:
    """From pixels of a map to its CRS, and to square metres.

    Areas are the plane ones where the CRS keeps them within half a percent all over the grid (UTM, national grids), as
    land registers state them; elsewhere (degrees, Mercator, polar maps) those on the ellipsoid.

    Attributes:
        crs: The CRS of the grid or of its control points; ``None`` where it is not georeferenced.
        on_earth: Whether longitudes and latitudes on Earth are known.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid, self._transform = grid, grid.transform
        self._points = GCPTransformer(grid.control_points) if grid.gcps and grid.gcps_crs is not None else None
        crs = grid.gcps_crs if self._points is not None else grid.crs
        placed = crs is not None and (self._points is not None or not grid.transform.is_identity)
        self.crs: pyproj.CRS | None = None
        self.on_earth = False
        self._to_degrees: Callable[..., Any] | None = None
        self._ellipsoid = pyproj.Geod(ellps="WGS84")
        if crs is None or not placed:
            return
        try:
            self.crs = pyproj.CRS.from_wkt(crs.to_wkt())
            self._to_degrees = _onto_earth(self.crs).transform
            self.on_earth = True
        except ProjError:
            # A local grid, or another planet: it has places of its own, and none on Earth.
            geodetic = self.crs.geodetic_crs if self.crs is not None else None
            if self.crs is not None and geodetic is not None and (ellipsoid := self.crs.get_geod()) is not None:
                self._to_degrees = pyproj.Transformer.from_crs(self.crs, geodetic, always_xy=True).transform
                self._ellipsoid = ellipsoid
        axes = self.crs.axis_info if self.crs is not None else []
        self._unit = axes[0].unit_conversion_factor if axes else math.nan
        if self._keeps_areas():
            self._to_degrees = None

    def _keeps_areas(self) -> bool:
        if self.crs is None or not self.crs.is_projected or self._to_degrees is None:
            return False
        cols, rows = np.meshgrid(*(np.linspace(0.5, n - 0.5, 5) for n in (self._grid.width, self._grid.height)))
        plane = self._plane_areas(cols.ravel(), rows.ravel())
        ratio = self._round_areas(cols.ravel(), rows.ravel()) / plane
        return bool((np.abs(ratio - 1) < _DISTORTION).all())

    @property
    def decimals(self) -> int:
        """Decimals of GeoJSON's coordinates, so that rounding moves no point by more than a share of a pixel."""
        middle, size = np.array([self._grid.width, self._grid.height]) / 2, np.eye(2)
        ends = self.coordinates(np.stack([middle, *(middle + size)]))
        if self.on_earth and self.crs is not None:
            ends = np.column_stack(_onto_earth(self.crs).transform(ends[:, 0], ends[:, 1]))
        side = float(np.hypot(*(ends[1:] - ends[0]).T).min())
        return min(max(math.ceil(-math.log10(side * _SHARE)), 7), 14) if math.isfinite(side) and side > 0 else 7

    @property
    def turn(self) -> float:
        """By how many degrees, whole turns, longitudes of the CRS go on beyond 180 or -180; 0 in a projected one."""
        if self.crs is None or not self.crs.is_geographic:
            return 0.0
        width, height = self._grid.width, self._grid.height
        west = self.coordinates(np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64))[:, 0].min()
        return _whole_turns(west)

    def coordinates(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points ``(N, 2)`` in pixels, columns first, the first pixel's corner at 0, 0, as points in the CRS."""
        if self._points is not None:
            return np.column_stack(self._points.xy(xy[:, 1], xy[:, 0], offset="ul"))
        a, b, c, d, e, f = self._transform[:6]
        return np.column_stack([a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f])

    def place(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        """Return polygons in pixels as polygons in the CRS, outlines counter-clockwise and holes clockwise."""
        placed: NDArray[np.object_] = shapely.orient_polygons(shapely.transform(polygons, self.coordinates))
        return placed

    def areas(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the square metres of polygons in the CRS; NaN where there is none, or a vertex lies off the Earth."""
        if self.crs is None:
            return np.full(len(polygons), np.nan)
        if self._to_degrees is None:
            plane: NDArray[np.float64] = shapely.area(polygons) * self._unit**2
            return plane
        with np.errstate(invalid="ignore"):  # vertices off the Earth
            around = shapely.orient_polygons(self._in_degrees(polygons))
        return np.abs(np.array([self._ellipsoid.geometry_area_perimeter(p)[0] for p in around], np.float64))

    def on_it(self, polygons: NDArray[np.object_], *, wholly: bool) -> NDArray[np.bool_]:
        """Return which polygons in the CRS have a vertex on the Earth, or ``wholly`` none off it."""
        if self._to_degrees is None:
            return np.ones(len(polygons), bool)
        xy, index = shapely.get_coordinates(polygons, return_index=True)
        off = np.bincount(index, ~np.isfinite(self._to_degrees(*xy.T)[0]), len(polygons))
        return np.asarray(off == 0 if wholly else off < shapely.get_num_coordinates(polygons))

    def least(self, area: float) -> float:
        """Return from where on areas are not smaller than one: less by rounding where they are in square metres."""
        return area if self.crs is None else area * (1 - _ROUNDING)

    def perimeters(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the metres of polygons' outlines in the CRS, holes included; NaN where there is none."""
        if self.crs is None:
            return np.full(len(polygons), np.nan)
        if self._to_degrees is None:
            plane: NDArray[np.float64] = shapely.length(polygons) * self._unit
            return plane
        rings = shapely.boundary(self._in_degrees(polygons))
        return np.array([self._ellipsoid.geometry_length(ring) for ring in rings], np.float64)

    def sides(self, col: float, row: float) -> tuple[float, float]:
        """Return the metres that a step of one column and one row goes at a place; 1, 1 if not georeferenced."""
        if self.crs is None:
            return 1.0, 1.0
        ends = self.coordinates(_ends(np.array([col]), np.array([row])))
        if self._to_degrees is None:
            along, down = np.hypot(*(ends[0] - ends[1])), np.hypot(*(ends[2] - ends[3]))
            return float(along * self._unit), float(down * self._unit)
        lon, lat = self._to_degrees(*ends.T)
        _, _, metres = self._ellipsoid.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
        return float(metres[0]), float(metres[1])

    def pixel_areas(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the square metres of each pixel of ``count`` rows, in a shape that broadcasts to ``(count, W)``.

        All are 1 where the grid is not georeferenced: areas are then in pixels. A pixel whose centre lies off the
        Earth, beyond the limb of a full disk or of a world map, has 0.
        """
        if self.crs is None:
            return np.ones((1, 1))
        if self._to_degrees is None and self._points is None:
            return self._plane_areas(np.array([0.5]), np.array([first + 0.5]))[:, None]
        # On a grid of nodes, since places change slowly; where all columns agree (north is up), one of them.
        step = max(1, min(64, int(_NODES / (self._grid.gsd or _NODES))))
        cols, rows = _nodes(0, self._grid.width, step), _nodes(first, count, step)
        at_cols, at_rows = np.meshgrid(cols, rows)
        areas = self._areas_at(at_cols.ravel(), at_rows.ravel()).reshape(len(rows), len(cols))
        if np.ptp(areas, axis=1).max() <= 1e-9 * areas.max():
            return _spread(areas[:, :1], rows, first, count)

        def over_pixels(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
            return _spread(_spread(nodes, rows, first, count).T, cols, 0, self._grid.width).T

        spread, known = over_pixels(areas), np.isfinite(areas)
        if not known.all():  # between a node on the Earth and one off it each pixel is looked at
            limb = np.nonzero(~np.isfinite(spread) & (over_pixels(known.astype(np.float64)) > 0))
            down, along = np.array(limb, np.float64) + 0.5
            spread[limb] = self._areas_at(along, first + down)
        return np.nan_to_num(spread)

    def _areas_at(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return (self._plane_areas if self._to_degrees is None else self._round_areas)(cols, rows)

    def _plane_areas(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the square metres on the plane of pixels around points."""
        x, y = self.coordinates(_ends(cols, rows)).T.reshape(2, 4, -1)
        areas: NDArray[np.float64] = np.abs((x[0] - x[1]) * (y[2] - y[3]) - (x[2] - x[3]) * (y[0] - y[1]))
        return areas * self._unit**2

    def _round_areas(self, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the square metres on the ellipsoid of pixels around points.

        ``M N cos(latitude) |d(longitude, latitude) / d(column, row)|``, M and N the radii of curvature along the
        meridian and across it (Snyder 1987, equations 4-18 and 4-20). NaN where a point lies off the Earth.
        """
        assert self._to_degrees is not None
        cross = np.concatenate([_ends(cols, rows), np.column_stack([cols, rows])])
        degrees = np.radians(self._to_degrees(*self.coordinates(cross).T)).reshape(2, 5, -1)
        degrees = np.where(np.isfinite(degrees), degrees, np.nan)
        # An end off the Earth is put as far from the point as the opposite one.
        ends, opposite = degrees[:, :4], degrees[:, [1, 0, 3, 2]]
        lon, lat = np.where(np.isfinite(ends), ends, 2 * degrees[:, 4:] - opposite)
        east, south = (np.remainder(lon[i] - lon[i + 1] + np.pi, 2 * np.pi) - np.pi for i in (0, 2))
        middle = lat.mean(0)
        flat = 1 - self._ellipsoid.es * np.sin(middle) ** 2
        radii = self._ellipsoid.a**2 * (1 - self._ellipsoid.es) / flat**2
        turned = np.abs(east * (lat[2] - lat[3]) - south * (lat[0] - lat[1]))
        areas: NDArray[np.float64] = turned * radii * np.cos(middle)
        return areas

    def _in_degrees(self, polygons: NDArray[np.object_]) -> NDArray[np.object_]:
        to_degrees = self._to_degrees
        assert to_degrees is not None
        degrees: NDArray[np.object_] = shapely.transform(
            polygons, lambda xy: np.column_stack(to_degrees(xy[:, 0], xy[:, 1]))
        )
        return degrees


@lru_cache(maxsize=64)
def _onto_earth(crs: pyproj.CRS) -> pyproj.Transformer:
    """Return the way from a CRS to longitudes and latitudes, made once: it takes as long as to read a small image.

    Raises:
        ProjError: It does not lie on Earth.
    """
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _ends(cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half a pixel right, left, below and above each point, ``(4 N, 2)``."""
    moves = ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
    return np.concatenate([np.column_stack([cols + right, rows + down]) for right, down in moves])


def _nodes(first: int, count: int, step: int) -> NDArray[np.float64]:
    """Return centres of pixels along an axis, ``step`` apart and the last one."""
    return np.unique([*range(first, first + count, step), first + count - 1]) + 0.5


def _spread(areas: NDArray[np.float64], nodes: NDArray[np.float64], first: int, count: int) -> NDArray[np.float64]:
    """Interpolate along the first axis, from nodes to each of ``count`` pixels."""
    at = np.arange(first, first + count) + 0.5
    spread = [np.interp(at, nodes, column) for column in areas.T]
    return np.stack(spread, axis=1)


def _whole_turns(west: float) -> float:
    """Return by how many degrees, whole turns, a longitude lies beyond 180 or -180."""
    return 360.0 * math.floor((float(west) + 180) / 360)


def outline_in_degrees(grid: Grid, window: Window | None = None) -> shapely.Polygon | None:
    """Return the unbroken outline of a grid, or of a window of it, in longitudes (from -180..180 on) and latitudes.

    One around a pole, or with a pole on its edge, goes on along it. ``None`` where the grid is not georeferenced or not
    on Earth, or reaches beyond it.
    """
    ground = Ground(grid)
    if ground.crs is None or not ground.on_earth:
        return None
    w = window or grid.whole
    ring = shapely.box(w.col, w.row, w.col + w.width, w.row + w.height)
    placed = shapely.transform(shapely.segmentize(ring, max(w.width, w.height) / _ALONG), ground.coordinates)
    lon, lat = _onto_earth(ground.crs).transform(*shapely.get_coordinates(placed).T)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    lon, lat, at_pole = _from_pole(lon, lat)
    lon = np.unwrap(lon, period=360)
    if at_pole or abs(lon[-1] - lon[0]) > 180:
        lon, lat = np.append(lon, lon[[-1, 0]]), np.append(lat, np.copysign([90, 90], lat.mean()))
    return shapely.Polygon(np.column_stack([lon - _whole_turns(lon.min()), lat]))


def _from_pole(
    lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return a closed ring, cut open at the pole where that is a point of it or lies between two, and whether it is.

    The pole has every longitude, and the one that it comes with would lead astray.
    """
    points, over = np.abs(lat[:-1]) > 90 - _POLE, np.abs(np.remainder(np.diff(lon), 360) - 180) < _POLE
    if points.sum() == 1:  # in degrees a whole side may lie there, and its longitudes are known
        first = int(points.argmax())
        return np.roll(lon[:-1], -first)[1:], np.roll(lat[:-1], -first)[1:], True
    if not points.any() and over.any():
        first = int(over.argmax()) + 1
        return np.roll(lon[:-1], -first), np.roll(lat[:-1], -first), True
    return lon, lat, False
