"""Pixels on the ground: their areas are those of geodesic polygons, whatever the CRS."""

import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_geom

from geodistill.raster import Grid
from geodistill.raster.ground import Ground, outline_in_degrees

GRIDS = {
    "degrees": (CRS.from_epsg(4326), from_origin(10, 70, 0.01, 0.01)),
    "web mercator": (CRS.from_epsg(3857), from_origin(1e6, 9e6, 500, 500)),
    "polar": (CRS.from_epsg(3031), from_origin(1e6, 2e6, 1000, 1000)),
    "turned degrees": (
        CRS.from_epsg(4326),
        Affine.translation(10, 60) @ Affine.rotation(25) @ Affine.scale(0.01, -0.01),
    ),
    "albers": (CRS.from_epsg(5070), from_origin(0, 2e6, 1000, 1000)),
    "feet": (CRS.from_epsg(2263), from_origin(9e5, 2e5, 10, 10)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_are_those_of_geodesic_polygons(name: str) -> None:
    crs, transform = GRIDS[name]
    grid = Grid(900, 300, crs, transform)
    areas = np.broadcast_to(Ground(grid).pixel_areas(512, 388), (388, 300))
    geod = Geod(ellps="WGS84")
    for row, col in ((512, 0), (700, 150), (899, 299)):
        square = shapely.transform(shapely.box(col, row, col + 1, row + 1), lambda xy: _onto(xy, transform))
        degrees = shapely.geometry.shape(transform_geom(crs, "EPSG:4326", shapely.geometry.mapping(square)))
        true = abs(geod.geometry_area_perimeter(degrees)[0])
        assert areas[row - 512, col] == pytest.approx(true, rel=2e-3 if name == "feet" else 1e-4)


@pytest.mark.parametrize(
    ("crs", "left", "top", "side", "share"),
    [
        # A cap of 81.3 degrees across the antimeridian; then the world, each pixel by itself and from nodes.
        ("+proj=geos +h=35785831 +lon_0=140 +ellps=GRS80 +units=m", -5_570_248, 5_570_248, 11_140, 0.424),
        ("ESRI:54009", -18_041_000, 9_021_000, 100_000, 1.0),
        ("ESRI:54009", -18_041_000, 9_021_000, 18_041, 1.0),
    ],
)
def test_up_to_the_limb_every_pixel_has_its_area_and_beyond_it_none(
    crs: str, left: float, top: float, side: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.raster.ground._NODES", 100_000.0)
    height, width = (-int(2 * edge // side) for edge in (-top, left))
    ground = Ground(Grid(height, width, CRS.from_string(crs), from_origin(left, top, side, side)))
    areas = np.broadcast_to(ground.pixel_areas(0, height), (height, width))
    assert np.isfinite(areas).all()
    assert areas[0, 0] == 0
    assert areas.sum() / 5.100656e14 == pytest.approx(share, rel=0.02)


def _onto(xy: np.ndarray, transform: Affine) -> np.ndarray:
    return np.array([transform @ (x, y) for x, y in xy])


def test_a_plane_that_keeps_areas_is_left_as_it_is() -> None:
    utm = Ground(Grid(100, 100, CRS.from_epsg(32636), from_origin(500_000, 40_000, 0.5, 0.5)))
    assert utm.pixel_areas(0, 100).ravel() == pytest.approx(0.25, rel=1e-12)
    square = np.array([shapely.box(500_000, 0, 500_100, 50)], object)
    assert utm.areas(square) == pytest.approx(5000)
    assert utm.perimeters(square) == pytest.approx(300)


def test_perimeters_are_metres_on_the_ground() -> None:
    degrees = Ground(Grid(10, 10, CRS.from_epsg(4326), from_origin(10, 60, 0.01, 0.01)))
    outline = shapely.Polygon(shapely.box(10, 59, 11, 60).exterior, [shapely.box(10.4, 59.4, 10.6, 59.6).exterior])
    geod = Geod(ellps="WGS84")
    true = sum(geod.geometry_length(ring) for ring in (outline.exterior, *outline.interiors))
    assert degrees.perimeters(np.array([outline], object)) == pytest.approx(true)


def test_control_points_place_pixels_and_without_any_place_they_are_counted() -> None:
    corners = ((0, 0, 30.0, 50.0), (0, 50, 30.5, 50.0), (40, 0, 30.0, 49.6), (40, 50, 30.5, 49.6))
    points = tuple(GroundControlPoint(row, col, x, y) for row, col, x, y in corners)
    placed = Ground(Grid(40, 50, gcps=points, gcps_crs=CRS.from_epsg(4326)))
    plain = Ground(Grid(40, 50, CRS.from_epsg(4326), from_origin(30, 50, 0.01, 0.01)))
    assert np.broadcast_to(placed.pixel_areas(0, 40), (40, 50)) == pytest.approx(
        np.broadcast_to(plain.pixel_areas(0, 40), (40, 50)), rel=1e-6
    )
    assert Ground(Grid(40, 50)).pixel_areas(0, 40).tolist() == [[1.0]]


def test_control_points_across_the_antimeridian_are_measured_as_those_anywhere() -> None:
    places = ((0, 0), (0, 60), (40, 0), (40, 60))

    def grid(west: float) -> Grid:
        lons = [(west + col * 1e-3 + 180) % 360 - 180 for _, col in places]
        points = (GroundControlPoint(row, col, x, 52 - row * 1e-3) for (row, col), x in zip(places, lons, strict=True))
        return Grid(40, 60, gcps=tuple(points), gcps_crs=CRS.from_epsg(4326))

    # Areas depend on the latitude alone.
    across, inland = Ground(grid(179.97)), Ground(grid(10.0))
    assert across.pixel_areas(0, 40) == pytest.approx(inland.pixel_areas(0, 40), rel=1e-6)
    assert across.coordinates(np.array([[60.0, 0.0]]))[0] == pytest.approx([180.03, 52.0])


def test_the_way_from_a_crs_to_degrees_is_made_once_for_all_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = Transformer.from_crs
    monkeypatch.setattr(Transformer, "from_crs", lambda *args, **options: made.append(args) or real(*args, **options))
    tiles = [Grid(8, 8, CRS.from_epsg(32701), from_origin(500_000 + 8 * i, 9e6, 1, 1)) for i in range(5)]
    outlines = [outline_in_degrees(tile) for tile in tiles]
    assert len(made) == 1
    assert len({outline.wkt for outline in outlines if outline is not None}) == 5
