"""Where pixels lie, also where no one on Earth could say."""

from pathlib import Path

import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin

from factories import make_raster
from geodistill.raster import Grid, Raster, Window
from geodistill.raster.grid import crs_name, crs_names

MOON = (
    'PROJCS["Moon",GEOGCS["GCS_Moon",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference_Meridian",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
    'PARAMETER["central_meridian",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("crs", "gsd"),
    [
        ('LOCAL_CS["site",UNIT["metre",1]]', 0.25),
        ('LOCAL_CS["site",UNIT["foot",0.3048]]', 0.25 * 0.3048),
        ('LOCAL_CS["site",UNIT["unknown",1]]', None),
        (
            'ENGCRS["site",EDATUM["peg"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            0.25,
        ),
        ('VERT_CS["heights",VERT_DATUM["sea",2005],UNIT["metre",1],AXIS["Up",UP]]', None),
        (MOON, 0.25),
        ("EPSG:4326", None),  # metres under degrees
    ],
)
def test_a_place_that_is_not_on_earth_has_no_longitude(tmp_path: Path, crs: str, gsd: float | None) -> None:
    grid = Grid(10, 10, CRS.from_user_input(crs), from_origin(1000, 2000, 0.25, 0.25))
    assert grid.lonlat is None
    assert grid.gsd == (None if gsd is None else pytest.approx(gsd, rel=1e-6))
    with Raster(make_raster(tmp_path / "a.tif", crs=crs, transform=grid.transform)) as raster:
        assert raster.grid.transform == grid.transform
        assert raster.grid.lonlat is None
        if not crs.startswith(("VERT_CS", "LOCAL_CS")):  # of which GeoTIFF makes a local one in metres
            assert raster.grid.gsd == (None if gsd is None else pytest.approx(gsd, rel=1e-6))


def test_degrees_of_another_planet_are_measured_on_its_own_ellipsoid() -> None:
    degrees = Grid(10, 10, CRS.from_user_input("IAU_2015:49900"), from_origin(10, 10, 1e-4, 1e-4))
    # Mars: 3,396,190 m at the equator, of which a degree is 59,274 m; 10 degrees north is 1.5 % less across.
    assert degrees.gsd == pytest.approx(5.9274 * 0.985**0.5, rel=5e-3)
    assert degrees.lonlat is None


@pytest.mark.parametrize(
    ("lons", "centre"),
    [
        ((179.95, -179.97), 179.99),
        ((-179.95, 179.97), -179.99),
        ((-179.99, 179.95), 179.98),
        ((359.9, 0.3), 0.1),
        ((238.0, 238.2), -121.9),
        ((13.0, 13.5), 13.25),
        ((-180.0, 180.0), 0.0),
    ],
)
def test_control_points_are_averaged_across_the_antimeridian(lons: tuple[float, float], centre: float) -> None:
    points = tuple(
        GroundControlPoint(row, col * 100, lons[col], 51.9 - row * 1e-3) for row in (0, 100) for col in (0, 1)
    )
    grid = Grid(100, 100, gcps=points, gcps_crs=CRS.from_epsg(4326))
    assert grid.lonlat == pytest.approx((centre, 51.85))
    # On a plane there is nothing to go round.
    metres = tuple(GroundControlPoint(p.row, p.col, 5e5 + 1000 * p.col, 5.5e6) for p in points)
    assert Grid(100, 100, gcps=metres, gcps_crs=CRS.from_epsg(32633)).control_points == list(metres)
    lost = (GroundControlPoint(0, 0, float("nan"), 5), *points)
    assert Grid(100, 100, gcps=lost, gcps_crs=CRS.from_epsg(4326)).lonlat is None


@pytest.mark.parametrize(
    ("west", "centre"), [(179.9, -179.95), (-180.4, 179.75), (238.0, -121.85), (359.9, 0.05), (13.0, 13.15)]
)
def test_degrees_beyond_180_have_the_longitude_that_they_are(west: float, centre: float) -> None:
    grid, same = (Grid(100, 100, CRS.from_epsg(4326), from_origin(at, -16.5, 3e-3, 3e-3)) for at in (west, 13.0))
    assert grid.lonlat == pytest.approx((centre, -16.65))
    assert grid.gsd == pytest.approx(same.gsd)
    # What is no longitude is not turned into one.
    assert Grid(10, 10, CRS.from_epsg(4326), from_origin(5e5, 50, 1e-5, 1e-5)).lonlat == pytest.approx((5e5, 50), 1e-5)


def test_a_transform_and_control_points_without_a_crs_are_kept(tmp_path: Path) -> None:
    points = (GroundControlPoint(0, 0, 5, 6), GroundControlPoint(0, 9, 7, 6), GroundControlPoint(9, 0, 5, 3))
    for grid in (Grid(10, 10, transform=from_origin(10, 20, 0.5, 0.5)), Grid(10, 10, gcps=points)):
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, dtype="uint8", **grid.profile()):
            pass
        with Raster(tmp_path / "a.tif") as raster:
            found = raster.grid
        assert found.transform == grid.transform
        assert [(p.row, p.col, p.x, p.y) for p in found.gcps] == [(p.row, p.col, p.x, p.y) for p in grid.gcps]
        assert found.crs is None
        assert found.lonlat is None
        assert found.gsd is None


def test_the_middle_of_a_window_is_at_most_as_large_as_asked() -> None:
    assert Window(10, 20, 100, 31).middle(40) == Window(40, 20, 40, 31)
    assert Window(0, 0, 7, 8).middle(4) == Window(1, 2, 4, 4)


def test_a_crs_is_called_by_its_name() -> None:
    assert crs_name(CRS.from_epsg(32632)) == "WGS 84 / UTM zone 32N"
    assert crs_name(None) == "no CRS"
    assert crs_name("neither a code\n nor a definition") == "neither a code nor a definition"


def test_different_crss_of_one_name_are_told_apart_by_their_definitions() -> None:
    utm = CRS.from_epsg(32632)
    one, other = (CRS.from_string(f"+proj=tmerc +lon_0={lon} +ellps=bessel") for lon in (9, 12))
    assert crs_names(one, utm) == ("unknown", "WGS 84 / UTM zone 32N")
    assert crs_names(utm, utm) == ("WGS 84 / UTM zone 32N",) * 2
    assert crs_names(None, None) == ("no CRS",) * 2
    for name, lon in zip(crs_names(one, other), (9, 12), strict=True):
        assert name.startswith("unknown (")
        assert f"+lon_0={lon} " in name
