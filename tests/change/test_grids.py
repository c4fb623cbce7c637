"""Grids are the same where their pixels lie on each other, by whatever they are placed."""

from dataclasses import replace

from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from factories import rational_polynomials
from geodistill.change.grids import same_grid
from geodistill.raster import Grid

UTM = CRS.from_epsg(32636)
GRID = Grid(40, 50, UTM, from_origin(500_000, 40_000, 0.5, 0.5))


def test_a_hundredth_of_a_pixel_is_no_shift() -> None:
    assert same_grid(GRID, replace(GRID))
    assert same_grid(GRID, replace(GRID, transform=GRID.transform @ Affine.translation(0.004, 0)))
    assert not same_grid(GRID, replace(GRID, transform=GRID.transform @ Affine.translation(0.4, 0)))
    assert not same_grid(GRID, replace(GRID, transform=from_origin(500_000, 40_000, 0.501, 0.5)))
    assert not same_grid(GRID, replace(GRID, crs=CRS.from_epsg(32635)))
    assert not same_grid(GRID, replace(GRID, height=41))


def test_points_and_polynomials_must_agree() -> None:
    def placed(shift: float) -> Grid:
        corners = ((0, 0), (0, 50), (40, 0), (40, 50))
        points = tuple(GroundControlPoint(r, c, 30 + c / 100 + shift, 50 - r / 100) for r, c in corners)
        return Grid(40, 50, gcps=points, gcps_crs=CRS.from_epsg(4326))

    assert same_grid(placed(0), placed(0))
    assert not same_grid(placed(0), placed(0.1))
    assert not same_grid(placed(0), Grid(40, 50))
    assert same_grid(Grid(40, 50, rpcs=rational_polynomials(20, 25)), Grid(40, 50, rpcs=rational_polynomials(20, 25)))
    assert not same_grid(Grid(40, 50, rpcs=rational_polynomials(20, 25)), Grid(40, 50, rpcs=rational_polynomials(9, 9)))
