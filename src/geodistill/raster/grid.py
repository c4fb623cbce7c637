"""Where the pixels of a raster lie: Grid, and Window, a part of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyproj
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: top row, left column, height and width."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, for arrays of shape ``(..., H, W)``."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersection(self, height: int, width: int) -> Window:
        """Give the part of this window that lies inside a raster of ``height`` x ``width`` (may be empty)."""
        top, left = max(self.row, 0), max(self.col, 0)
        bottom, right = min(self.row + self.height, height), min(self.col + self.width, width)
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))

    def to_rasterio(self) -> RasterioWindow:
        """Give the same rectangle as rasterio writes it."""
        return RasterioWindow(self.col, self.row, self.width, self.height)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        crs: Coordinate reference system, or ``None``.
        transform: Affine map from (column, row) to CRS coordinates; identity where unknown.
        gcps: Ground control points with their CRS, where the file has them instead of a transform.
        rpcs: Rational polynomial coefficients, where the file has them.
    """

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    gcps: tuple[GroundControlPoint, ...] = ()
    gcps_crs: CRS | None = None
    rpcs: RPC | None = None

    @property
    def georeferenced(self) -> bool:
        """Whether a CRS with a transform, control points or RPCs say where the pixels lie."""
        return (self.crs is not None and not self.transform.is_identity) or bool(self.gcps) or self.rpcs is not None

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance in metres per pixel at the centre, or ``None`` where unknown.

        Web-Mercator and geographic grids are corrected for latitude. A local coordinate system counts by its unit.
        """
        if self.crs is None or self.transform.is_identity:
            return None
        col, row = self.width / 2, self.height / 2
        points = [self.transform @ at for at in ((col, row), (col + 1, row), (col, row + 1))]
        placed, geod = _lonlat(self.crs, points), pyproj.Geod(ellps="WGS84")
        if placed is None and (own := _own_lonlat(self.crs, points)):
            placed, geod = own  # on another planet
        if placed is None:
            unit = _metres(self.crs)
            side = math.sqrt(abs(self.transform.determinant)) if math.isfinite(self.transform.determinant) else 0.0
            return unit * side or None
        lon, lat = placed
        right = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
        down = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
        gsd = math.sqrt(right * down)
        return gsd if math.isfinite(gsd) and gsd > 0 else None

    @property
    def lonlat(self) -> tuple[float, float] | None:
        """Longitude and latitude on Earth of the centre in degrees, or ``None`` where unknown."""
        if self.crs is None or self.transform.is_identity:
            if not self.gcps or self.gcps_crs is None:
                return None
            x, y, crs = (
                sum(p.x for p in self.gcps) / len(self.gcps),
                sum(p.y for p in self.gcps) / len(self.gcps),
                self.gcps_crs,
            )
        else:
            (x, y), crs = self.transform @ (self.width / 2, self.height / 2), self.crs
        placed = _lonlat(crs, [(x, y)])
        return None if placed is None else (placed[0][0], placed[1][0])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in CRS coordinates, covering all four corners."""
        corners = [self.transform @ at for at in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, window: Window) -> Grid:
        """Give the grid of a part of this raster. Control points and RPCs hold for the whole only and are dropped."""
        moved = self.transform @ Affine.translation(window.col, window.row)
        return Grid(window.height, window.width, self.crs, self.transform if self.transform.is_identity else moved)

    def profile(self) -> dict[str, Any]:
        """Give the georeferencing as keyword arguments of ``rasterio.open(..., "w")``."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width}
        if self.gcps:
            profile |= {"gcps": list(self.gcps), "crs": self.gcps_crs or CRS()}
        elif self.crs is not None or not self.transform.is_identity:
            profile |= {"crs": self.crs, "transform": self.transform}
        if self.rpcs is not None:
            profile["rpcs"] = self.rpcs
        return profile


def _lonlat(crs: CRS, points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]] | None:
    """Return longitudes and latitudes on Earth of points ``(x, y)``, where the CRS says them."""
    try:
        to_lonlat = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)
        lon, lat = to_lonlat.transform([p[0] for p in points], [p[1] for p in points])
    except (pyproj.exceptions.ProjError, CRSError):  # local, vertical, broken, or of another planet
        return None
    return (lon, lat) if _are_degrees(lon, lat) else None


def _own_lonlat(
    crs: CRS, points: Sequence[tuple[float, float]]
) -> tuple[tuple[list[float], list[float]], pyproj.Geod] | None:
    """Return longitudes and latitudes of points on the CRS's own ellipsoid, and that, where it has one."""
    try:
        own = pyproj.CRS.from_wkt(crs.to_wkt())
        body, geod = own.geodetic_crs, own.get_geod()
        if body is None or geod is None:
            return None
        lon, lat = pyproj.Transformer.from_crs(own, body, always_xy=True).transform(
            [p[0] for p in points], [p[1] for p in points]
        )
    except (pyproj.exceptions.ProjError, CRSError):
        return None
    return ((lon, lat), geod) if _are_degrees(lon, lat) else None


def _are_degrees(lon: Sequence[float], lat: Sequence[float]) -> bool:
    """Whether longitudes and latitudes are such: a vertical CRS or a wrong one gives anything."""
    return all(map(math.isfinite, lon)) and all(abs(value) <= 90 for value in lat)


def _metres(crs: CRS) -> float:
    """Return metres of a unit of a plane CRS that lies nowhere on an ellipsoid; 0 where that is unknown."""
    try:
        axes = pyproj.CRS.from_wkt(crs.to_wkt()).axis_info
    except (pyproj.exceptions.ProjError, CRSError):
        return 0.0
    plane = len(axes) >= 2 and all(axis.unit_name not in ("", "unknown", "degree", "unity") for axis in axes[:2])
    return float(axes[0].unit_conversion_factor) if plane else 0.0
