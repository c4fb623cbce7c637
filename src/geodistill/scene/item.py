"""A STAC item beside a map: where it lies, what it holds, its classes and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from rasterio.transform import GCPTransformer

from geodistill.errors import RecipeError
from geodistill.files import atomic_path
from geodistill.raster import Grid
from geodistill.scene.reduce import STEPS
from geodistill.spec import IGNORE_INDEX, Legend

if TYPE_CHECKING:
    import pystac

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)

VECTORS = {
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
}
"""Media type of each format of polygons, by suffix."""

_ALONG = 21
"""Points along each side of a footprint: sides that are straight in a projection are curves in degrees."""


def require_pystac() -> None:
    """Refuse before any work is done where pystac is missing.

    Raises:
        RecipeError: It is.
    """
    try:
        import pystac  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            "a STAC item asks for the package pystac, which is not installed", "", "pip install 'geodistill[export]'"
        ) from error


def write_item(
    maps: Mapping[str, Path], grid: Grid, legend: Legend, source: str, model: str, acquired: str | None
) -> Path:
    """Write the item of a scene's maps, as ``NAME.json`` beside the map of classes.

    Args:
        maps: File of each layer, ``classes`` among them, and of the ``polygons`` where there are some.
        grid: Shape and georeferencing of the maps.
        legend: The classes.
        source: The scene.
        model: What made the maps.
        acquired: Date of the scene, ``YYYY-MM-DD``; where unknown the item holds the time it was written.

    Raises:
        OutputError: It cannot be written.
        RecipeError: pystac is not installed.
    """
    require_pystac()
    import pystac

    path = maps["classes"].with_suffix(".json")
    now = datetime.now(UTC)
    when = datetime.fromisoformat(acquired).replace(tzinfo=UTC) if acquired else now
    geometry, bbox = footprint(grid)
    properties: dict[str, Any] = {"created": now.isoformat(), "proj:shape": [grid.height, grid.width]}
    if grid.crs is not None:
        code = grid.crs.to_authority()
        properties |= {"proj:code": ":".join(code)} if code else {"proj:wkt2": grid.crs.to_wkt()}
        properties["proj:transform"] = list(grid.transform)[:6]
    properties |= {"geodistill:source": source, "geodistill:model": model}
    item = pystac.Item(path.stem, geometry, bbox, when, properties, stac_extensions=list(EXTENSIONS))
    for layer, file in maps.items():
        item.add_asset(layer, _asset(layer, file, legend))
    item.set_self_href(str(path.absolute()))
    item.make_asset_hrefs_relative()
    with atomic_path(path) as part:
        part.write_text(json.dumps(item.to_dict(include_self_link=False), indent=2) + "\n", encoding="utf-8")
    return path


def _asset(layer: str, file: Path, legend: Legend) -> pystac.Asset:
    import pystac

    if layer == "polygons":
        return pystac.Asset(str(file.absolute()), layer, None, VECTORS[file.suffix], ["data"])
    extra: dict[str, Any] = {}
    if layer == "classes":
        classes: list[dict[str, Any]] = [
            {"value": value, "name": name, "color_hint": "{:02X}{:02X}{:02X}".format(*colour)}
            for value, (name, colour) in enumerate(zip(legend.names, legend.colours, strict=True))
        ]
        extra["classification:classes"] = [*classes, {"value": IGNORE_INDEX, "name": "nodata", "nodata": True}]
        extra["bands"] = [{"name": "class", "data_type": "uint8", "nodata": IGNORE_INDEX}]
    else:
        names = legend.names if layer == "probabilities" else ("confidence",)
        extra["bands"] = [{"name": name, "description": f"0..1, or 0..{STEPS} as bytes"} for name in names]
    return pystac.Asset(str(file.absolute()), layer, None, pystac.MediaType.COG, ["data"], extra)


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Give a grid's outline as GeoJSON in degrees, and its bounding box; ``None`` where it lies nowhere.

    Across the antimeridian the outline is cut in two and the box goes from a larger longitude to a smaller one, as
    GeoJSON asks.
    """
    t = np.linspace(0, 1, _ALONG)[:-1]
    cols = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)]) * grid.width
    rows = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t]) * grid.height
    if grid.gcps and grid.gcps_crs is not None:
        with GCPTransformer(list(grid.gcps)) as transformer:
            xs, ys = transformer.xy(rows, cols, offset="ul")
        crs = grid.gcps_crs
    elif grid.crs is not None and not grid.transform.is_identity:
        xs, ys = (grid.transform @ (cols, rows))[:2]
        crs = grid.crs
    else:
        return None, None
    lon, lat = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True).transform(xs, ys)
    lon = np.unwrap(np.asarray(lon), period=360)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None, None
    lon -= 360 * np.floor((lon.min() + 180) / 360)
    outline = shapely.Polygon(np.column_stack([lon, lat]))
    west, south, east, north = outline.bounds
    if east <= 180:
        return shapely.geometry.mapping(outline), [west, south, east, north]
    left = outline.intersection(shapely.box(-180, -90, 180, 90))
    right = shapely.transform(outline.intersection(shapely.box(180, -90, 540, 90)), lambda xy: xy - (360, 0))
    return shapely.geometry.mapping(shapely.MultiPolygon([left, right])), [west, south, east - 360, north]
