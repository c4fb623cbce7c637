"""Where the pixels of a raster lie: Grid; Window, a part of one; and how windows cover a raster or reach beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyproj
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: top row, left column, height and width.

    Example:
        >>> gd.Window(0, 0, 64, 64).common(gd.Window(32, 48, 64, 64))
        Window(row=32, col=48, height=32, width=16)
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, for arrays of shape ``(..., H, W)``."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersection(self, height: int, width: int) -> Window:
        """Return the part of this window that lies inside a raster of ``height`` x ``width`` (may be empty)."""
        return self.common(Window(0, 0, height, width))

    def common(self, other: Window) -> Window:
        """Return the pixels that both windows hold (may be empty)."""
        top, left = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))

    def moved(self, rows: int, cols: int) -> Window:
        """Return a window of the same size, so many rows further down and columns further right."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def middle(self, most: int) -> Window:
        """Return the middle of this window, at most so many pixels a side."""
        height, width = min(self.height, most), min(self.width, most)
        return Window(self.row + (self.height - height) // 2, self.col + (self.width - width) // 2, height, width)

    def to_rasterio(self) -> RasterioWindow:
        """Return the same rectangle as rasterio writes it."""
        return RasterioWindow(self.col, self.row, self.width, self.height)


Edge = Literal["beyond", "flush", "even", "drop"]
"""What the last window along an axis does: reach beyond the end, end flush with it, do so with all windows evenly
spread, or be left out where it would not fit."""


def window_starts(length: int, size: int, stride: int | None = None, edge: Edge = "beyond") -> list[int]:
    """Place windows along one axis.

    For an axis of 10 pixels, windows of 4 and a stride of 3::

        beyond  0 3 6 9    the last reaches to 13
        flush   0 3 6      the last ends at 10, whatever the stride leaves
        even    0 3 6      as many as flush, their distances as equal as whole pixels allow
        drop    0 3 6      those that fit

    Args:
        length: Pixels of the axis.
        size: Pixels of a window.
        stride: Pixels from one start to the next; by default the size, so that windows do not overlap.
        edge: What the last one does.

    Returns:
        First pixel of each window, ascending; ``[0]`` for ``flush`` and ``even`` where one window covers the axis.
    """
    step = stride or size
    if edge == "beyond":
        return list(range(0, length, step))
    last = length - size
    if edge == "drop":
        return list(range(0, last + 1, step))
    if last <= 0:
        return [0]
    if edge == "flush":
        return [*range(0, last, step), last]
    count = -(-last // step) + 1
    return [round(i * last / (count - 1)) for i in range(count)]


def place_windows(height: int, width: int, size: int, edge: Edge = "beyond") -> list[Window]:
    """Place square windows over a raster, row by row, without overlap; arguments as of `window_starts`."""
    rows, cols = (window_starts(length, size, edge=edge) for length in (height, width))
    return [Window(row, col, size, size) for row in rows for col in cols]


Arrays = tuple[NDArray[Any], ...]
"""Arrays ``(..., H, W)`` of one window: pixels, validity, labels."""


def read_padded(
    window: Window, bounds: Window, read: Callable[[Window], Arrays], blank: Callable[[int, int], Arrays]
) -> Arrays:
    """Read a window that may reach beyond what there is.

    Only the part inside the bounds is read; it is put where it belongs into arrays of what lies outside::

        window +---------+
               | blank   |
               |    +----+------+ bounds
               |    |read|      |
               +----+----+      |
                    +-----------+

    ``blank`` makes the arrays of a height and width as they are outside the bounds, as many as ``read`` returns; those
    of ``read`` are returned themselves where all of the window lies inside.
    """
    inside = window.common(bounds)
    if inside == window and inside.height and inside.width:
        return read(window)
    arrays = blank(window.height, window.width)
    if inside.height and inside.width:
        part = inside.moved(-window.row, -window.col).slices
        for whole, pixels in zip(arrays, read(inside), strict=True):
            whole[(..., *part)] = pixels
    return arrays


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

    Example:
        >>> with gd.Raster("tile.tif") as raster:
        ...     raster.grid.height, raster.grid.width
        (96, 96)
    """

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine = field(default_factory=Affine.identity)
    gcps: tuple[GroundControlPoint, ...] = ()
    gcps_crs: CRS | None = None
    rpcs: RPC | None = None

    @property
    def whole(self) -> Window:
        """The window of all its pixels."""
        return Window(0, 0, self.height, self.width)

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
        if placed is None and (elsewhere := _lonlat_of_body(self.crs, points)):
            placed, geod = elsewhere  # on another planet
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
            points, crs = self.control_points, self.gcps_crs
            if not points or crs is None:
                return None
            x, y = sum(p.x for p in points) / len(points), sum(p.y for p in points) / len(points)
        else:
            (x, y), crs = self.transform @ (self.width / 2, self.height / 2), self.crs
        placed = _lonlat(crs, [(x, y)])
        return None if placed is None else (wrap_longitude(placed[0][0]), placed[1][0])

    @property
    def control_points(self) -> list[GroundControlPoint]:
        """The control points; in degrees across the antimeridian they count on beyond 180, as GDAL has it."""
        points, lons = list(self.gcps), [p.x for p in self.gcps]
        if self.gcps_crs is None or not self.gcps_crs.is_geographic or not all(map(math.isfinite, lons)):
            return points
        unbroken = [lon + 360 * round((max(lons) - lon) / 360) for lon in lons]
        if not 0 < max(unbroken) - min(unbroken) < 180:  # around the world, where both ends are one place
            return points
        return [
            GroundControlPoint(p.row, p.col, x, p.y, p.z, p.id, p.info) for p, x in zip(points, unbroken, strict=True)
        ]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in CRS coordinates, covering all four corners."""
        corners = [self.transform @ at for at in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))]
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, window: Window) -> Grid:
        """Return the grid of a part of this raster. Control points and RPCs hold for the whole only and are dropped."""
        moved = self.transform @ Affine.translation(window.col, window.row)
        return Grid(window.height, window.width, self.crs, self.transform if self.transform.is_identity else moved)

    def profile(self) -> dict[str, Any]:
        """Return the georeferencing as keyword arguments of ``rasterio.open(..., "w")``."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width}
        if self.gcps:
            profile |= {"gcps": list(self.gcps), "crs": self.gcps_crs or CRS()}
        elif self.crs is not None or not self.transform.is_identity:
            profile |= {"crs": self.crs, "transform": self.transform}
        if self.rpcs is not None:
            profile["rpcs"] = self.rpcs
        return profile


def wrap_longitude(lon: float) -> float:
    """Return a longitude within -180 to 180: grids count on across the antimeridian, or from 0 to 360.

    What is farther out than half a turn more is no longitude, and stays as it is.
    """
    return (lon + 180) % 360 - 180 if 180 < abs(lon) <= 540 else lon


def _lonlat(
    crs: CRS, points: Sequence[tuple[float, float]], onto: pyproj.CRS | str = "EPSG:4326"
) -> tuple[list[float], list[float]] | None:
    """Return longitudes and latitudes of points ``(x, y)``, by default on Earth, where the CRS says them."""
    try:
        to_lonlat = pyproj.Transformer.from_crs(crs.to_wkt(), onto, always_xy=True)
        lon, lat = to_lonlat.transform([p[0] for p in points], [p[1] for p in points])
    except (pyproj.exceptions.ProjError, CRSError):  # local, vertical, broken, or of another planet
        return None
    return (lon, lat) if _are_degrees(lon, lat) else None


def _lonlat_of_body(
    crs: CRS, points: Sequence[tuple[float, float]]
) -> tuple[tuple[list[float], list[float]], pyproj.Geod] | None:
    """Return longitudes and latitudes of points on the CRS's own ellipsoid, and that, where it has one."""
    try:
        of_body = pyproj.CRS.from_wkt(crs.to_wkt())
        body, geod = of_body.geodetic_crs, of_body.get_geod()
    except (pyproj.exceptions.ProjError, CRSError):
        return None
    if body is None or geod is None or (placed := _lonlat(crs, points, body)) is None:
        return None
    return placed, geod


def _are_degrees(lon: Sequence[float], lat: Sequence[float]) -> bool:
    """Whether longitudes and latitudes are such: a vertical CRS or a wrong one gives anything."""
    return all(map(math.isfinite, lon)) and all(abs(value) <= 90 for value in lat)


def _metres(crs: CRS) -> float:
    """Return metres of a unit of a plane CRS without an ellipsoid; 0 where that is unknown."""
    try:
        axes = pyproj.CRS.from_wkt(crs.to_wkt()).axis_info
    except (pyproj.exceptions.ProjError, CRSError):
        return 0.0
    plane = len(axes) >= 2 and all(axis.unit_name not in ("", "unknown", "degree", "unity") for axis in axes[:2])
    return float(axes[0].unit_conversion_factor) if plane else 0.0


def crs_name(crs: Any) -> str:
    """Return what people call a CRS, such as WGS 84 / UTM zone 32N; ``None`` is no CRS."""
    if crs is None:
        return "no CRS"
    try:
        return str(pyproj.CRS.from_user_input(crs).name)
    except pyproj.exceptions.ProjError:
        return " ".join(str(crs).split())[:80]


def crs_names(one: CRS | None, other: CRS | None) -> tuple[str, str]:
    """Return what people call two CRSs, with their definitions where different ones have one name, such as unknown."""
    names = crs_name(one), crs_name(other)
    if one is None or other is None or one == other or names[0] != names[1]:
        return names
    first, second = (f"{names[0]} ({(crs.to_proj4() or crs.to_wkt())[:200]})" for crs in (one, other))
    return first, second
