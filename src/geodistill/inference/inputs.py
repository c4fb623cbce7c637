"""What `--input` may name: rasters, folders of band files, STAC items, tile indexes; each becomes scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from geodistill.errors import DataError
from geodistill.inference.listed import from_index, from_stac
from geodistill.inference.named import Scene, clean
from geodistill.inference.strangers import refuse_remote
from geodistill.raster import IMAGE_SUFFIXES, Raster
from geodistill.raster.bands import aliases, band_token
from geodistill.raster.source import is_local, shared_name, stem_of

__all__ = ["Scene", "find_scenes"]


def find_scenes(
    inputs: Sequence[Path | str],
    *,
    stack: bool = False,
    bands: Sequence[str] | None = None,
    own: Sequence[str] = (),
    local_only: bool = False,
) -> list[Scene]:
    """Find the scenes that inputs name.

    Args:
        inputs: Rasters (files, GDAL paths, addresses), folders with the band files of one scene each, ``.json`` files
            with a STAC item or item collection, ``.parquet`` tile indexes.
        stack: All inputs are band files of one scene.
        bands: Bands asked for.
        own: Bands of the model, looked for by name where none are asked for.
        local_only: Refuse whatever is on the network.

    Raises:
        DataError: There is none, an input cannot be understood, or is on the network against ``local_only``.
    """
    sources = [str(source) for source in inputs]
    if not sources:
        raise DataError("no input raster", "at least one")
    if local_only:
        refuse_remote(sources)
    if stack:
        return [Scene(clean(shared_name([stem_of(source) for source in sources])), tuple(sources))]
    scenes: list[Scene] = []
    for source in sources:
        suffix = Path(source.split("?", 1)[0]).suffix.lower()
        if is_local(source) and os.path.isdir(source):  # noqa: PTH112 - a name too long is no folder
            scenes.append(from_folder(Path(source), bands or own))
        elif suffix in (".json", ".geojson"):
            scenes += from_stac(source, bands or own, asked=bands is not None)
        elif suffix in (".parquet", ".geoparquet"):
            scenes += from_index(source, bands or own, asked=bands is not None)
        else:
            scenes.append(Scene(clean(stem_of(source)), source))
    if local_only:
        refuse_remote([source for scene in scenes for source in scene.sources])
    return scenes


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
