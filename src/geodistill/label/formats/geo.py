"""Polygons over georeferenced images (GeoJSON, GeoPackage ...): brought to each image's CRS, the image never warped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.files import files_below, stored_in
from geodistill.label.annotated_masks import mask_of
from geodistill.label.boxes import Kind, kind_of_corners
from geodistill.label.formats.geo_features import Feature, Features, read_features
from geodistill.label.formats.raw_boxes import (
    ImageAnnotations,
    Picture,
    Pictures,
    RawBox,
    ReadOptions,
    ReadResult,
)
from geodistill.label.formats.vector_files import SUFFIXES
from geodistill.raster import Grid
from geodistill.raster.grid import crs_name

BOX_SHARE = 0.95
"""Four corners that fill this share of their smallest enclosing rectangle are a box, else an outline."""

_TURN = np.array((360.0, 0.0))
"""Degrees round the Earth."""

GeoImages = Sequence[tuple[Picture, Grid]]
Shapes = NDArray[np.object_]


def read(place: Path, pictures: Pictures, options: ReadOptions) -> ReadResult:
    """Read one file, or every file of a folder; each polygon belongs to every image that it touches.

    Polygons of four corners that are nearly a rectangle are boxes; others are outlines, which also serve as true
    masks and whose holes are no part of the object. A feature of several parts is several objects. Features that touch
    no image are unmatched.

    Raises:
        DataError: A file cannot be read or has no CRS, no feature is a polygon, an image has no place on the ground,
            or no feature lies on any image.
    """
    if not place.exists():
        raise DataError(f"no boxes at {place}", "a GeoJSON or GeoPackage file, or a folder of them")
    files = files_below(place, SUFFIXES)
    if not files:
        raise DataError(f"no annotation in {place}", f"files {', '.join(SUFFIXES)}")
    placed = _placed(pictures)
    result = ReadResult()
    objects: dict[str, list[RawBox]] = defaultdict(list)
    missed: Features | None = None
    for file in files:
        features = read_features(file, options)
        result.unmatched += features.lost
        result.faults += features.faults
        matched: set[int] = set()
        for image_crs, group in _by_crs(placed).items():
            polygons = _brought(features, image_crs)
            for picture, grid, shape, at in _hits(group, polygons, image_crs):
                matched.add(at)
                objects[picture.key].append(_object(features.items[at], shape, grid))
        stored = stored_in(file)
        result.files += stored if matched else []
        result.lists += [] if matched else stored
        left = [feature.source for at, feature in enumerate(features.items) if at not in matched]
        result.unmatched += left
        missed = features if left and missed is None else missed
    result.entries = [ImageAnnotations(p, objects[p.key]) for p, _ in placed if p.key in objects]
    if missed is not None and placed and not result.entries:
        raise _elsewhere_error(missed, placed, pictures)
    return result


def _placed(pictures: Pictures) -> list[tuple[Picture, Grid]]:
    """Return every image with its grid; images that cannot be opened are left to be counted later."""
    placed = [(picture, picture.grid) for picture in pictures.all if picture.grid is not None]
    lost = [picture.path.name for picture, grid in placed if grid.crs is None or grid.transform.is_identity]
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise DataError(
            f"{', '.join(lost[:5])}{more} in {pictures.place} have no place on the ground",
            "images with a CRS and a transform",
            "georeference or orthorectify them, or give boxes in pixels",
        )
    return placed


def _by_crs(placed: GeoImages) -> dict[CRS, list[tuple[Picture, Grid]]]:
    groups: dict[CRS, list[tuple[Picture, Grid]]] = defaultdict(list)
    for picture, grid in placed:
        assert grid.crs is not None
        groups[grid.crs].append((picture, grid))
    return groups


def _brought(features: Features, image_crs: CRS) -> Shapes:
    """Return the polygons ``(N,)`` in the CRS of images; in degrees, none spans more than half the Earth."""
    shapes = geopandas.GeoSeries([feature.polygon for feature in features.items], crs=features.crs)
    try:
        brought: Shapes = np.asarray(shapes.to_crs(image_crs.to_wkt()).array, object)
    except (pyproj.exceptions.ProjError, CRSError, ValueError) as error:
        raise DataError(
            f"the CRS of {features.file} ({crs_name(features.crs)}) cannot be brought to that of the images"
            f" ({crs_name(image_crs.to_wkt())}): {' '.join(str(error).split())[:200]}",
            "annotations and images that both say where on Earth they lie, or share their CRS",
        ) from error
    if image_crs.is_geographic and len(brought):
        # A box over the antimeridian has corners near -180 and near 180.
        bounds = shapely.bounds(brought)
        across = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
        brought[across] = shapely.transform(brought[across], lambda xy: np.where(xy < (0, -np.inf), xy + _TURN, xy))
    return brought


def _hits(group: GeoImages, polygons: Shapes, crs: CRS) -> list[tuple[Picture, Grid, Any, int]]:
    """Return, image by image, the polygons that meet its footprint with their positions, rising.

    In degrees, 181 and -179 are one place: polygons are tried a turn to either side too.
    """
    # What lies beyond the reach of a projection comes out as infinity, and the tree would not bear it.
    finite = np.flatnonzero(np.isfinite(shapely.bounds(polygons)).all(axis=1))
    tree = shapely.STRtree(polygons[finite])
    matches = []
    for picture, grid in group:
        footprint = _footprint(grid)
        hits: dict[int, Any] = {}
        for turns in (0, 1, -1) if crs.is_geographic else (0,):
            for at in finite[tree.query(_turned(footprint, -turns), "intersects")].tolist():
                hits.setdefault(at, _turned(polygons[at], turns))
        matches += [(picture, grid, hits[at], at) for at in sorted(hits)]
    return matches


def _turned(shape: Any, turns: int) -> Any:
    return shapely.transform(shape, lambda xy: xy + turns * _TURN) if turns else shape


def _footprint(grid: Grid) -> Any:
    corners = ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))
    return shapely.Polygon([grid.transform @ corner for corner in corners])


def _elsewhere_error(features: Features, placed: GeoImages, pictures: Pictures) -> DataError:
    """Say where annotations and images lie, in the CRS of each, and in that of the annotations where there is a way."""
    bounds = shapely.bounds(np.array([feature.polygon for feature in features.items], object))
    finite = bounds[np.isfinite(bounds).all(axis=1)]
    extent = (*finite[:, :2].min(axis=0), *finite[:, 2:].max(axis=0)) if len(finite) else (np.nan,) * 4
    crs = placed[0][1].crs
    assert crs is not None
    footprints = shapely.union_all([_footprint(grid) for _, grid in placed if grid.crs == crs])
    images = footprints.bounds
    name = crs_name(crs.to_wkt())
    place = f"images span {_span(images)} in {name}"
    try:
        there = geopandas.GeoSeries([footprints], crs=crs.to_wkt()).to_crs(features.crs).total_bounds
        if np.isfinite(there).all() and crs_name(features.crs) != name:
            place += f", which is {_span(tuple(there))} there"
    except (pyproj.exceptions.ProjError, CRSError, ValueError):
        pass
    mend = "give boxes and images of one place; mind the order of x and y"
    if pyproj.CRS.from_user_input(features.crs).is_geographic and max(map(abs, extent)) > 360:
        mend = "these are no degrees: save the file with its true CRS, such as a GeoPackage in that of the images"
    return DataError(
        f"no annotation lies on an image of {pictures.place}: those of {features.file} span {_span(extent)} in"
        f" {crs_name(features.crs)}, {place}",
        "annotations on the ground that the images show",
        mend,
    )


def _span(bounds: Sequence[float]) -> str:
    left, bottom, right, top = (f"{value:.10g}" for value in bounds)
    return f"x {left} to {right}, y {bottom} to {top}"


def _object(feature: Feature, polygon: Any, grid: Grid) -> RawBox:
    outer = _pixels(polygon.exterior, grid.transform)
    rings = [_pixels(ring, grid.transform) for ring in polygon.interiors]
    holes = tuple(ring for ring in rings if np.isfinite(ring).all())
    kind = "polygon" if holes else _kind(outer)  # nobody draws a hole into a box
    segmentation = mask_of([outer], rings, grid.width, grid.height) if kind == "polygon" else None
    return RawBox(outer, feature.category, feature.source, kind, feature.difficult, segmentation, holes=holes)


def _pixels(ring: Any, transform: Affine) -> NDArray[np.float64]:
    """Return the vertices of a closed ring in pixels, without the last, which repeats the first."""
    x, y = shapely.get_coordinates(ring)[:-1].T
    inverse = ~transform
    return np.stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1)


def _kind(ring: NDArray[np.float64]) -> Kind:
    if len(ring) != 4:
        return "polygon"
    shape = shapely.Polygon(ring)
    enclosing = shapely.minimum_rotated_rectangle(shape).area
    if enclosing > 0 and shape.area < BOX_SHARE * enclosing:
        return "polygon"
    return kind_of_corners(ring)
