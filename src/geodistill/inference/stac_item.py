"""A STAC item beside a map: its place, what it holds, its classes and what it was made from."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geodistill.errors import RecipeError, printable
from geodistill.files import write_text
from geodistill.inference.geotiff import band_names
from geodistill.inference.layers import LAYERS
from geodistill.inference.sliding import STEPS
from geodistill.inference.style import plain_name
from geodistill.raster import Grid
from geodistill.raster.ground import outline_in_degrees
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

TILES = {".pmtiles": "application/vnd.pmtiles", ".mbtiles": "application/vnd.sqlite3"}
"""Media type of each file of map tiles, by suffix."""

ANY_TIME = {"start_datetime": "1800-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
"""Span of an item whose scene does not say when it was taken; `geodistill:acquired` is then ``unknown``."""

_ROUNDING = 1e-9
"""Degrees that are none."""


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

    ``maps`` holds the file of each layer, and of ``polygons`` and ``objects`` where there are some. Where the day of
    acquisition (``YYYY-MM-DD``) is unknown the item's ``datetime`` is null and says so.

    Raises:
        OutputError: It cannot be written.
        RecipeError: pystac is not installed.
    """
    require_pystac()
    import pystac

    path = maps["classes"].with_suffix(".json")
    geometry, bbox = footprint(grid)
    when = _moment(acquired)
    properties: dict[str, Any] = {"proj:shape": [grid.height, grid.width]}
    if when is None:
        properties |= {**ANY_TIME, "geodistill:acquired": "unknown"}
    if grid.crs is not None:
        properties |= _projection(grid.crs)
        properties["proj:transform"] = list(grid.transform)[:6]
    properties |= {"geodistill:source": printable(source), "geodistill:model": model}
    item = pystac.Item(path.stem, geometry, bbox, when, properties, stac_extensions=list(EXTENSIONS))
    for layer, file in maps.items():
        item.add_asset(layer, _asset(layer, file, legend))
    item.set_self_href(str(path.absolute()))
    item.make_asset_hrefs_relative()
    write_text(path, json.dumps(item.to_dict(include_self_link=False), indent=2) + "\n")
    return path


def described_classes(legend: Legend) -> list[dict[str, Any]]:
    """Return the classes in the terms of STAC's classification extension: ``name`` a slug."""
    return [
        {
            "value": value,
            "name": slug,
            "title": plain_name(name),
            "description": plain_name(name),
            "color_hint": "{:02X}{:02X}{:02X}".format(*colour),
        }
        for value, (slug, name, colour) in enumerate(
            zip(slugs(legend.names), legend.names, legend.colours, strict=True)
        )
    ]


def slugs(names: Sequence[str]) -> list[str]:
    """Return distinct machine-readable names, of ASCII letters, digits, ``-`` and ``_`` alone."""
    distinct: list[str] = []
    for index, name in enumerate(names):
        plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^0-9A-Za-z_-]+", "-", plain).strip("-") or f"class-{index}"
        taken = {"nodata", *distinct}
        distinct.append(next(s for s in (slug, f"{slug}-{index}", *(f"{slug}-{index}-{n}" for n in range(256)))
                          if s not in taken))  # fmt: skip
    return distinct


def _moment(acquired: str | None) -> datetime | None:
    """Return the beginning of a day, or ``None`` where it is not known."""
    try:
        return datetime.fromisoformat(acquired).replace(tzinfo=UTC) if acquired else None
    except ValueError:
        return None


def _projection(crs: CRS) -> dict[str, Any]:
    """Return a CRS in the terms of STAC's projection extension: its code, or WKT2; nothing where it has neither."""
    try:
        code = crs.to_authority()
        return {"proj:code": ":".join(code)} if code else {"proj:wkt2": crs.to_wkt(version="WKT2_2019")}
    except CRSError:
        return {"proj:code": None}


def _asset(layer: str, file: Path, legend: Legend) -> pystac.Asset:
    import pystac

    if layer == "thumbnail":
        return pystac.Asset(str(file.absolute()), "preview", None, pystac.MediaType.PNG, ["thumbnail"])
    if layer in ("tiles", "polygons_tiles", "objects_tiles"):
        title = layer.replace("_", ", ")
        return pystac.Asset(str(file.absolute()), title, None, TILES[file.suffix], ["data", "visual"])
    if layer in ("polygons", "objects"):
        return pystac.Asset(str(file.absolute()), layer, None, VECTORS[file.suffix], ["data"])
    extra: dict[str, Any] = {}
    if layer == "classes":
        nodata = {"value": IGNORE_INDEX, "name": "nodata", "title": "no data", "nodata": True}
        extra["classification:classes"] = [*described_classes(legend), nodata]
        extra["bands"] = [{"name": "class", "data_type": "uint8", "nodata": IGNORE_INDEX}]
    else:
        # Unlike places are no layer that the network gives.
        names, scaled = (band_names(layer, legend.names), LAYERS[layer].scaled) if layer in LAYERS else ((layer,), True)
        unit = {"description": f"0..1, or 0..{STEPS} as bytes"} if scaled else {}
        extra["bands"] = [{"name": plain_name(name), **unit} for name in names]
    return pystac.Asset(str(file.absolute()), layer, None, pystac.MediaType.COG, ["data"], extra)


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return a grid's outline as GeoJSON in degrees, and its bounding box.

    Both are ``None`` where it is not georeferenced, or not on Earth.

    Across the antimeridian the outline is cut in two and the box goes from a larger longitude to a smaller one, as
    GeoJSON asks; all around the Earth, from -180 to 180.
    """
    outline = outline_in_degrees(grid)
    if outline is None:
        return None, None
    west, south, east, north = outline.bounds
    if east <= 180:
        return shapely.geometry.mapping(outline), [west, south, east, north]
    left = outline.intersection(shapely.box(-180, -90, 180, 90))
    right = shapely.transform(outline.intersection(shapely.box(180, -90, 540, 90)), lambda xy: xy - (360, 0))
    west, east = (west, east - 360) if east - west < 360 - _ROUNDING else (-180.0, 180.0)
    return shapely.geometry.mapping(shapely.union_all([left, right])), [west, south, east, north]
