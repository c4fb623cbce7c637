"""Scenes cut into patches on disk, as the papers' scripts do; training here needs none, reproductions may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import read_mask
from geodistill.data.measure import measure
from geodistill.data.reader import refuse_moved
from geodistill.errors import DataError, OutputError, check_name
from geodistill.files import atomic_path, named_path
from geodistill.raster import Window
from geodistill.raster.grid import place_windows
from geodistill.raster.raster import open_image
from geodistill.spec import Legend

KIND, MANIFEST = "data patches", "manifest.parquet"


def cut_patches(
    manifest: Manifest, out: Path | str, size: int = 512, bands: Sequence[str] | None = None, *, stretch: bool = False
) -> Manifest:
    """Cut the scenes of a manifest into squares without overlap.

    Patches without a single valid pixel are left out, and so is what remains at the right and bottom edge; what is not
    valid in others is so in the patch, by a mask in its file. The folder
    appears whole or not at all; an earlier one of this command is replaced.

    Args:
        manifest: The scenes.
        out: Folder of ``images/``, ``masks/`` and ``manifest.parquet``.
        size: Side in pixels.
        bands: Names of the bands to keep, in this order; all where not given.
        stretch: Bring each band of each patch from its own range to 0..255 as 8 bits, which loses what bright and
            dark mean (the papers' L8 Biome patches).

    Raises:
        DataError: A scene cannot be read, is not labelled, two scenes would share names, or none is as large as a
            patch.
        UnknownNameError: There is no such band.
        OutputError: The folder cannot be written, holds what is not ours, or holds what is read.
    """
    if size < 1 or manifest.legend is None:
        raise DataError(f"patches of {size} px of {manifest.path}", "a size above 0 and labelled scenes")
    kept = tuple(bands) if bands else manifest.bands
    for name in kept:
        check_name("band", name, manifest.bands)
    places = [manifest.bands.index(name) for name in kept]
    out, entries = named_path(out), []
    legend = Legend(manifest.legend.names, manifest.legend.colours)
    _refuse_inputs(manifest, out)
    refuse_moved(manifest)
    with atomic_path(out, KIND) as part:
        for row in manifest.entries:
            entries += _cut(row, manifest, part, size, places, stretch)
        if not entries:
            raise DataError(
                f"no scene of {manifest.path} is {size} x {size} pixels", "larger scenes or smaller patches"
            )
        cut = Manifest(tuple(entries), kept, legend)
        cut.with_statistics(measure(cut)).save(part / MANIFEST)  # its paths are relative to its folder
    return Manifest.load(out / MANIFEST)


def _refuse_inputs(manifest: Manifest, out: Path) -> None:
    """Refuse a folder that holds what is cut, or the manifest: it would be emptied."""
    read = [manifest.path, *(path for row in manifest.entries for path in (row.image, row.mask))]
    place = out.resolve()
    for path in dict.fromkeys(path for path in read if path is not None):
        if path.resolve().is_relative_to(place):
            raise OutputError(f"{out} holds {path}, which is read", "another folder", "choose another --out")


def _cut(row: Row, manifest: Manifest, part: Path, size: int, bands: Sequence[int], stretch: bool) -> list[Row]:
    if row.mask is None or manifest.legend is None:
        return []
    patches = []
    with open_image(row.image, manifest.bands) as raster:
        for place in place_windows(row.window.height, row.window.width, size, edge="drop"):
            window = place.moved(row.window.row, row.window.col)
            pixels, valid = raster.read(window, bands)
            if not valid.any():
                continue
            mask = read_mask(row.mask, manifest.legend, window, ignore_unknown=manifest.ignore_unknown)
            name = f"{row.split}_{row.image.parent.name}_{row.image.stem}_{window.row}_{window.col}.tif"
            grid = raster.grid.window(window).profile()
            image, labels = part / "images" / name, part / "masks" / name
            if image.exists():
                raise DataError(f"two scenes called {row.image.stem} in folders called {row.image.parent.name}", "one")
            _write(image, stretched(pixels, valid) if stretch else pixels, grid, valid)
            _write(labels, mask[None], grid)
            patches.append(replace(row, image=image, mask=labels, window=Window(0, 0, size, size)))
    return patches


def stretched(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bring each band from its own range over valid pixels to 0..255; ``(C, H, W)`` -> ``(C, H, W)`` uint8."""
    low = pixels[:, valid].min(1).astype(np.float64)[:, None, None]
    span = np.maximum(pixels[:, valid].max(1).astype(np.float64)[:, None, None] - low, 1e-12)
    share = np.clip((pixels - low) / span, 0, 1)
    return np.where(valid, np.round(255 * share), 0).astype(np.uint8)


def _write(path: Path, pixels: NDArray[Any], grid: dict[str, Any], valid: NDArray[np.bool_] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(pixels), "dtype": pixels.dtype, "compress": "deflate", **grid}
    if len(pixels) > 3:
        profile["photometric"] = "minisblack"  # else GDAL calls the fourth band alpha
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
        if valid is not None and not valid.all():
            file.write_mask(valid)  # whatever said so in the scene: nodata, alpha, a mask
