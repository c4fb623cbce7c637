"""Scenes that a STAC item, an item collection or a tile index names: files from outside, of any shape."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin
from urllib.request import urlopen

from geodistill.errors import DataError
from geodistill.inference.inputs import InputScene, clean_name
from geodistill.raster import IMAGE_SUFFIXES
from geodistill.raster.source import is_gdal_name, is_local, is_remote, stem_of
from geodistill.reading import TABLE_ROWS, bounded, parse_json, read_answer, read_bytes, within

LOCATION_COLUMNS = ("location", "path", "href", "url", "image")
"""Columns of a tile index that say where a raster is; ``location`` is what gdaltindex writes."""

MOST_BYTES = 256 << 20
"""Bytes of an item collection at most."""

MOST_ROWS = 10_000_000
"""Rows of a tile index at most."""

SECONDS = 120.0
"""How long an answer may take."""


def from_stac(source: str, bands: Sequence[str], *, asked: bool) -> list[InputScene]:
    """Read a STAC item or a collection of items (``FeatureCollection``) from a file or an address.

    The bands are looked for among the assets; an item may lack them where the user has not ``asked`` for them.

    Raises:
        DataError: It cannot be read, or it is not clear which asset is meant.
    """
    return [_from_item(item, source, bands, asked) for item in _items(source)]


def listed_rasters(source: str) -> list[str]:
    """Return every raster that a STAC item, a collection of items or a tile index refers to; none of another file.

    Raises:
        DataError: It cannot be read, or a row of an index is no address and no path.
    """
    suffix = Path(source).suffix.lower()
    if suffix in (".json", ".geojson"):
        assets = [item.get("assets") for item in _items(source) if isinstance(item, dict)]
    elif suffix in (".parquet", ".geoparquet"):
        columns, rows = _rows(source)
        if "assets" not in columns:
            column = _location(columns)
            return [resolve(str(row[column]), source) for row in rows]
        assets = [_present(row["assets"]) for row in rows]
    else:
        return []
    entries = [asset for each in assets if isinstance(each, dict) for asset in each.values()]
    rasters: list[str] = []
    for asset in entries:
        with suppress(DataError):  # an asset that is odd matters where it is the one that is mapped, which says so
            rasters += [resolve(asset["href"], source)] if isinstance(asset, dict) and _is_raster(asset, source) else []
    return rasters


def _items(source: str) -> list[Any]:
    data = parse_json(_fetch(source) if is_remote(source) else read_bytes(source, MOST_BYTES), source)
    items = data.get("features") if isinstance(data, dict) and data.get("type") == "FeatureCollection" else [data]
    if not isinstance(items, list) or not items:
        raise DataError(f"{source} holds no items", "a STAC item or item collection")
    return items


def _fetch(source: str) -> bytes:
    def ask() -> bytes:
        with urlopen(source, timeout=30) as answer:
            return read_answer(answer, source, MOST_BYTES, SECONDS)

    try:
        return within(SECONDS, ask)
    except (OSError, ValueError, HTTPException) as error:
        raise DataError(f"{source} cannot be read ({error})", "a STAC item or item collection") from error


def _from_item(item: Any, source: str, bands: Sequence[str], asked: bool) -> InputScene:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str | int) or "assets" not in item:
        raise DataError(f"{source} holds something that is not a STAC item", "items with an id and assets")
    return _from_assets(str(item["id"]), item["assets"], source, bands, asked)


def _from_assets(name: str, assets: Any, source: str, bands: Sequence[str], asked: bool) -> InputScene:
    if not isinstance(assets, dict):
        raise DataError(f"item {name} in {source} with the assets {assets!r}", "a mapping from name to asset")
    rasters = {
        str(key): asset for key, asset in assets.items() if isinstance(asset, dict) and _is_raster(asset, source)
    }
    by_band = [_asset_of(band.lower(), rasters, source) for band in bands if not band.isdecimal()]
    if by_band and len(by_band) == len(bands) and all(by_band):
        positions = [pair for pair in by_band if pair is not None]
        hrefs = [resolve(str(rasters[key]["href"]), source) for key, _ in positions]
        if len(set(hrefs)) == 1:
            return InputScene(clean_name(name), hrefs[0], tuple(str(position) for _, position in positions), source)
        if all(position == 1 for _, position in positions):
            return InputScene(clean_name(name), tuple(hrefs), tuple(str(i + 1) for i in range(len(hrefs))), source)
    elif asked and by_band:
        missing = [band for band, pair in zip(bands, by_band, strict=False) if pair is None]
        raise DataError(f"item {name} in {source} has no asset for {_few(missing)}", f"one of {_few(rasters)}")
    for role in ("data", "visual"):
        fitting = [a for key, a in rasters.items() if role in _list(a, "roles", source) or key == role]
        if len(fitting) == 1:
            return InputScene(clean_name(name), resolve(str(fitting[0]["href"]), source), listed=source)
    if len(rasters) != 1:
        raise DataError(
            f"item {name} in {source} has {len(rasters)} raster assets ({_few(rasters)})",
            "one, or assets of the model's bands",
            "name them with --bands",
        )
    return InputScene(clean_name(name), resolve(str(next(iter(rasters.values()))["href"]), source), listed=source)


def _few(names: Mapping[str, Any] | Sequence[str]) -> str:
    """Return the first of some names, on a line that can be read."""
    ordered = sorted(names)
    return ", ".join(ordered[:12]) + (f" and {len(ordered) - 12} more" if len(ordered) > 12 else "")


def _list(asset: Mapping[str, Any], key: str, source: str) -> list[Any]:
    """Return a list of an asset's; empty where it has none.

    Raises:
        DataError: It is something else.
    """
    value = asset.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{source}: {key} of an asset is {value!r}", "a list")
    return value


def _is_raster(asset: Mapping[str, Any], source: str) -> bool:
    roles = _list(asset, "roles", source)
    if not isinstance(asset.get("href"), str) or any(role in roles for role in ("thumbnail", "overview", "metadata")):
        return False
    suffix = Path(asset["href"].split("?", 1)[0]).suffix.lower()
    return suffix in IMAGE_SUFFIXES or any(word in str(asset.get("type") or "") for word in ("tiff", "jp2"))


def _asset_of(band: str, assets: Mapping[str, Any], source: str) -> tuple[str, int] | None:
    """Return the asset that holds a band, and the band's position in it, from 1."""
    for key, asset in assets.items():
        listed = _list(asset, "bands", source) or _list(asset, "eo:bands", source)
        for position, entry in enumerate(listed, 1):
            if not isinstance(entry, dict):
                raise DataError(f"{source}: a band of asset {key} is {entry!r}", "a mapping with a name")
            names = (entry.get("name"), entry.get("common_name"), entry.get("eo:common_name"))
            if band in {str(name).lower() for name in names if name}:
                return key, position
        if not listed and key.lower() == band:
            return key, 1
    return None


def resolve(href: str, source: str) -> str:
    """Return what a file refers to: an address, or a path beside the file.

    Raises:
        DataError: It is no address and no path: the text of a virtual raster, or a name such as ``WMS:...``.
    """
    if href.startswith("file://"):
        href = unquote(href.removeprefix("file://").removeprefix("localhost"))
    try:
        if is_remote(href) or href.startswith("/"):
            target = href
        else:
            target = urljoin(source, href) if is_remote(source) else str(Path(source).parent / href)
    except ValueError as error:
        raise DataError(f"{source} refers to {href[:200]!r} ({error})", "an address or a path") from error
    plain = is_remote(target) or is_local(target) or target.startswith("/vsi")
    if not plain or is_gdal_name(target) or not href.strip() or href.lstrip().startswith("<") or "\0" in href:
        raise DataError(f"{source} refers to {href[:200]!r}", "an address or a path")
    # Relative references are addresses too, in which a blank is %20.
    if "%" in target and not os.path.exists(target) and os.path.exists(unquote(target)):  # noqa: PTH110 - too long: none
        return unquote(target)
    return target


def from_index(source: str, bands: Sequence[str], *, asked: bool) -> list[InputScene]:
    """Read a GeoParquet tile index: a column says where each raster is, or STAC assets as stac-geoparquet writes.

    Bands are looked for as in `from_stac`.

    Raises:
        DataError: It cannot be read, has no row or no such column, or a row names no raster.
    """
    columns, rows = _rows(source)
    if not rows:
        raise DataError(f"{source} has no rows", "a tile index with one row per raster")
    if "assets" in columns:
        return [_from_assets(str(row["id"]), _present(row["assets"]), source, bands, asked) for row in rows]
    column = _location(columns)
    scenes = []
    for number, row in enumerate(rows):
        if not isinstance(row[column], str):
            raise DataError(f"{source}: {column} of row {number} is {row[column]!r}", "an address or a path")
        place = resolve(row[column], source)
        scenes.append(
            InputScene(clean_name(str(row["id"]) if "id" in columns else stem_of(place)), place, listed=source)
        )
    return scenes


def _location(columns: Collection[str]) -> str:
    """Return the column that says where each raster is."""
    return next(name for name in LOCATION_COLUMNS if name in columns)


def _present(assets: Any) -> Any:
    """Leave out the assets that other rows have: a table's rows share one list of names."""
    return {key: value for key, value in assets.items() if value} if isinstance(assets, dict) else assets


def _rows(source: str) -> tuple[set[str], list[dict[str, Any]]]:
    """Return the columns that matter of a tile index, and its rows."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if file.metadata.num_rows > MOST_ROWS:
                raise DataError(f"{source} has {file.metadata.num_rows} rows", f"at most {MOST_ROWS}")
            columns = {"id", "assets"} if {"id", "assets"} <= set(names) else {"id", *LOCATION_COLUMNS} & set(names)
            if not columns - {"id"}:
                raise DataError(f"{source} with the columns {_few(names)}", f"one of {', '.join(LOCATION_COLUMNS)}")
            parts = bounded(file.iter_batches(TABLE_ROWS, columns=sorted(columns)), source)
            return columns, [row for part in parts for row in part.to_pylist()]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{source} cannot be read ({str(error)[:300]})", "a GeoParquet tile index") from error
