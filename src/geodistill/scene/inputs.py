"""What `--input` may name: rasters, folders of band files, STAC items, tile indexes; each becomes scenes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

from geodistill.errors import DataError
from geodistill.raster import IMAGE_SUFFIXES, Raster
from geodistill.raster.bands import aliases, band_token
from geodistill.raster.place import is_local, is_remote, shared_name, stem_of

LOCATION_COLUMNS = ("location", "path", "href", "url", "image")
"""Columns of a tile index that say where a raster is; ``location`` is what gdaltindex writes."""


@dataclass(frozen=True)
class Scene:
    """One scene to map.

    Attributes:
        name: What its map is called.
        source: A raster, or several that hold its bands.
        bands: Its bands where the input told which they are.
    """

    name: str
    source: str | tuple[str, ...]
    bands: tuple[str, ...] | None = None


def find_scenes(
    inputs: Sequence[Path | str], *, stack: bool = False, bands: Sequence[str] | None = None, own: Sequence[str] = ()
) -> list[Scene]:
    """Find the scenes that inputs name.

    Args:
        inputs: Rasters (files, GDAL paths, addresses), folders with the band files of one scene each, ``.json`` files
            with a STAC item or item collection, ``.parquet`` tile indexes.
        stack: All inputs are band files of one scene.
        bands: Bands asked for.
        own: Bands of the model, looked for by name where none are asked for.

    Raises:
        DataError: There is none, or an input cannot be understood.
    """
    sources = [str(source) for source in inputs]
    if not sources:
        raise DataError("no input raster", "at least one")
    if stack:
        return [Scene(clean(shared_name([stem_of(source) for source in sources])), tuple(sources))]
    scenes: list[Scene] = []
    for source in sources:
        suffix = Path(source.split("?", 1)[0]).suffix.lower()
        if is_local(source) and Path(source).is_dir():
            scenes.append(from_folder(Path(source), bands or own))
        elif suffix in (".json", ".geojson"):
            scenes += from_stac(source, bands or own, asked=bands is not None)
        elif suffix in (".parquet", ".geoparquet"):
            scenes += from_index(source, bands or own, asked=bands is not None)
        else:
            scenes.append(Scene(clean(stem_of(source)), source))
    return scenes


def clean(name: str) -> str:
    """Make a file's name of an identifier from outside: no folders, nothing hidden."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "scene"


def from_folder(folder: Path, bands: Sequence[str]) -> Scene:
    """Find the band files of one scene, such as a Landsat folder or a Sentinel-2 ``.SAFE``.

    Raises:
        DataError: A band is missing, or there are no band files.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        token = band_token(path.stem) if path.suffix.lower() in IMAGE_SUFFIXES else None
        if token:
            files.setdefault(token, []).append(path)
    if not files:
        raise DataError(f"{folder} is a folder without band files", "rasters named ..._B4.TIF", "name the rasters")
    chosen = {token: min(paths, key=_pixel_size) for token, paths in files.items()}
    found = []
    for name in bands:
        wanted = f"b{int(name)}" if name.isdigit() else name.lower()
        fitting = [path for path in chosen.values() if wanted in aliases(path.name, None, None, alone=True)]
        if len(fitting) != 1:
            raise DataError(
                f"{folder} has no file of band {name!r}",
                f"one of {', '.join(sorted(chosen))}",
                "name them with --bands",
            )
        found.append(str(fitting[0]))
    return Scene(clean(folder.name.removesuffix(".SAFE")), tuple(found), tuple(str(i + 1) for i in range(len(found))))


def _pixel_size(path: Path) -> float:
    """Sentinel-2 gives some bands at 10, 20 and 60 m: the finest is meant."""
    with Raster(path) as raster:
        return abs(float(raster.grid.transform.determinant))


def from_stac(source: str, bands: Sequence[str], *, asked: bool) -> list[Scene]:
    """Read a STAC item, or a collection of items (``FeatureCollection``).

    Raises:
        DataError: It cannot be read, or it is not clear which asset is meant.
    """
    try:
        if is_remote(source):
            with urlopen(source, timeout=30) as answer:
                data = json.load(answer)
        else:
            data = json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read ({error})", "a STAC item or item collection") from error
    items = data.get("features") if isinstance(data, dict) and data.get("type") == "FeatureCollection" else [data]
    if not isinstance(items, list) or not items:
        raise DataError(f"{source} holds no items", "a STAC item or item collection")
    return [_from_item(item, source, bands, asked) for item in items]


def _from_item(item: Any, source: str, bands: Sequence[str], asked: bool) -> Scene:
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict) or "id" not in item:
        raise DataError(f"{source} holds something that is not a STAC item", "items with an id and assets")
    return _from_assets(str(item["id"]), assets, source, bands, asked)


def _from_assets(name: str, assets: Mapping[str, Any], source: str, bands: Sequence[str], asked: bool) -> Scene:
    rasters = {key: asset for key, asset in assets.items() if isinstance(asset, dict) and _is_raster(asset)}
    by_band = [_asset_of(band.lower(), rasters) for band in bands if not band.isdigit()]
    if by_band and len(by_band) == len(bands) and all(by_band):
        found = [pair for pair in by_band if pair is not None]
        hrefs = [resolve(str(rasters[key]["href"]), source) for key, _ in found]
        if len(set(hrefs)) == 1:
            return Scene(clean(name), hrefs[0], tuple(str(position) for _, position in found))
        if all(position == 1 for _, position in found):
            return Scene(clean(name), tuple(hrefs), tuple(str(i + 1) for i in range(len(hrefs))))
    elif asked and by_band:
        missing = [band for band, pair in zip(bands, by_band, strict=False) if pair is None]
        raise DataError(f"item {name} in {source} has no asset for {missing}", f"one of {', '.join(sorted(rasters))}")
    for role in ("data", "visual"):
        if len(fitting := [a for k, a in rasters.items() if role in (a.get("roles") or []) or k == role]) == 1:
            return Scene(clean(name), resolve(str(fitting[0]["href"]), source))
    if len(rasters) != 1:
        raise DataError(
            f"item {name} in {source} has {len(rasters)} raster assets ({', '.join(sorted(rasters))})",
            "one, or assets of the model's bands",
            "name them with --bands",
        )
    return Scene(clean(name), resolve(str(next(iter(rasters.values()))["href"]), source))


def _is_raster(asset: Mapping[str, Any]) -> bool:
    roles = asset.get("roles") or []
    if "href" not in asset or any(role in roles for role in ("thumbnail", "overview", "metadata")):
        return False
    suffix = Path(str(asset["href"]).split("?", 1)[0]).suffix.lower()
    return suffix in IMAGE_SUFFIXES or any(word in str(asset.get("type") or "") for word in ("tiff", "jp2"))


def _asset_of(band: str, assets: Mapping[str, Any]) -> tuple[str, int] | None:
    """The asset that holds a band, and the band's position in it, from 1."""
    for key, asset in assets.items():
        listed = asset.get("bands") or asset.get("eo:bands") or []
        for position, entry in enumerate(listed, 1):
            names = {entry.get("name"), entry.get("common_name"), entry.get("eo:common_name")}
            if band in {str(name).lower() for name in names if name}:
                return key, position
        if not listed and key.lower() == band:
            return key, 1
    return None


def resolve(href: str, source: str) -> str:
    """Find what a file refers to: an address, or a path beside the file."""
    href = href.removeprefix("file://")
    if is_remote(href) or href.startswith(("/", "/vsi")):
        return href
    return urljoin(source, href) if is_remote(source) else str(Path(source).parent / href)


def from_index(source: str, bands: Sequence[str], *, asked: bool) -> list[Scene]:
    """Read a GeoParquet tile index: a column says where each raster is, or STAC assets as stac-geoparquet writes.

    Raises:
        DataError: It cannot be read or has no such column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(source)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{source} cannot be read ({error})", "a GeoParquet tile index") from error
    columns = set(table.column_names)
    if "assets" in columns and "id" in columns:
        rows: Iterable[dict[str, Any]] = table.select(["id", "assets"]).to_pylist()
        return [
            _from_assets(str(row["id"]), {k: v for k, v in row["assets"].items() if v}, source, bands, asked)
            for row in rows
        ]
    column = next((name for name in LOCATION_COLUMNS if name in columns), None)
    if column is None:
        raise DataError(f"{source} with the columns {', '.join(sorted(columns))}", f"one of {LOCATION_COLUMNS}")
    places = [resolve(str(place), source) for place in table.column(column).to_pylist()]
    names = table.column("id").to_pylist() if "id" in columns else [stem_of(place) for place in places]
    return [Scene(clean(str(name)), place) for name, place in zip(names, places, strict=True)]
