"""Where the pixels of a raster lie: Grid, and Window, a part of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pyproj
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
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
        """Ground sampling distance in metres per pixel at the centre, or ``None`` without CRS and transform.

        Web-Mercator and geographic grids are corrected for latitude.
        """
        if self.crs is None or self.transform.is_identity:
            return None
        col, row = self.width / 2, self.height / 2
        to_lonlat = pyproj.Transformer.from_crs(self.crs.to_wkt(), "EPSG:4326", always_xy=True)
        points = [self.transform @ at for at in ((col, row), (col + 1, row), (col, row + 1))]
        lon, lat = to_lonlat.transform([p[0] for p in points], [p[1] for p in points])
        if not all(map(math.isfinite, (*lon, *lat))):
            return None
        geod = pyproj.Geod(ellps="WGS84")
        right = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
        down = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
        return math.sqrt(right * down)

    @property
    def lonlat(self) -> tuple[float, float] | None:
        """Longitude and latitude of the centre in degrees, or ``None`` where unknown."""
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
        lon, lat = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True).transform(x, y)
        return (float(lon), float(lat)) if math.isfinite(lon) and math.isfinite(lat) else None

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
            profile |= {"gcps": list(self.gcps), "crs": self.gcps_crs}
        elif self.crs is not None or not self.transform.is_identity:
            profile |= {"crs": self.crs, "transform": self.transform}
        if self.rpcs is not None:
            profile["rpcs"] = self.rpcs
        return profile
