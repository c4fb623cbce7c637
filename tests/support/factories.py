"""Rasters and data sets that tests make for themselves: over CRS, sample type, nodata, alpha, size and format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine, from_origin

DTYPES = ("uint8", "uint16", "float32")
CRSS = (None, "EPSG:32636", "EPSG:3857", "EPSG:4326")


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    """Random samples that use the range a sensor of that type would: never 0, so that 0 can be nodata."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.uniform(0.01, 1.0, shape).astype(np.float32)
    return rng.integers(1, 200 if dtype == "uint8" else 4000, shape).astype(dtype)


def make_raster(
    path: Path,
    *,
    height: int = 40,
    width: int = 50,
    channels: int = 3,
    dtype: str = "uint8",
    crs: str | None = "EPSG:32636",
    transform: Affine | None = None,
    nodata: float | None = None,
    alpha: NDArray[Any] | None = None,
    mask_band: NDArray[Any] | None = None,
    tiled: bool = False,
    pixels: NDArray[Any] | None = None,
    palette: Sequence[tuple[int, int, int]] | None = None,
    bands: Sequence[str] = (),
    date: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a GeoTIFF of noise, or of ``pixels (C, H, W)``, and give its path.

    ``alpha`` and ``mask_band`` are ``(H, W)`` bool; ``palette`` makes a single band an index into colours.
    """
    if pixels is None:
        pixels = noise((channels, height, width), dtype, seed)
    channels, height, width = pixels.shape
    if transform is None and crs is not None:
        transform = from_origin(30.0, 1.0, 1e-5, 1e-5) if crs == "EPSG:4326" else from_origin(500_000, 40_000, 0.5, 0.5)
    profile: dict[str, Any] = {"crs": crs, "transform": transform} if crs else {}
    if tiled:
        profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    if channels > 3 and alpha is None:
        profile["photometric"] = "minisblack"  # else GDAL calls the fourth band alpha
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=channels + (alpha is not None),
            dtype=pixels.dtype,
            nodata=nodata,
            **profile,
        ) as file,
    ):
        file.write(pixels, list(range(1, channels + 1)))
        if alpha is not None:
            file.colorinterp = [*file.colorinterp[:channels], ColorInterp.alpha]
            file.write(alpha.astype(pixels.dtype) * 255, channels + 1)
        if mask_band is not None:
            file.write_mask(mask_band)
        if palette is not None:
            file.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(palette)})
        for index, name in enumerate(bands, 1):
            file.set_band_description(index, name)
        if date is not None:
            file.update_tags(TIFFTAG_DATETIME=date)
    return path


def tagged_as_alpha(path: Path, pixels: NDArray[np.uint8], transform: Affine | None = None) -> Path:
    """Write ``(4, H, W)`` uint8 as a GeoTIFF whose fourth band GDAL calls alpha, whatever it holds."""
    _, height, width = pixels.shape
    place = {"crs": "EPSG:32636", "transform": transform or from_origin(500_000, 40_000, 0.5, 0.5)}
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=4, dtype="uint8", **place) as file:
        file.write(pixels)
        assert file.colorinterp[3] == ColorInterp.alpha
    return path


def make_picture(path: Path, pixels: NDArray[Any], palette: Sequence[tuple[int, int, int]] | None = None) -> Path:
    """Write ``(H, W)`` or ``(H, W, 3 or 4)`` uint8 as PNG, JPEG or BMP, by the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if palette is not None:
        picture = Image.fromarray(pixels.astype(np.uint8), mode="P")
        picture.putpalette([value for colour in palette for value in colour])
    picture.save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Cut a file short, as an interrupted download leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def make_dataset(
    folder: Path,
    count: int = 8,
    *,
    height: int = 40,
    width: int = 50,
    channels: int = 3,
    classes: int = 3,
    dtype: str = "uint8",
    crs: str | None = "EPSG:32636",
    nodata: float | None = None,
    tiled: bool = False,
    seed: int = 0,
) -> Path:
    """Write ``images/scene_<i>.tif`` and ``masks/scene_<i>.tif``, side by side on the ground, and give the folder.

    Labels are vertical stripes of ``classes`` classes, and each class adds its index to the samples, so that a
    network can learn them.
    """
    labels = np.tile(np.arange(width) * classes // width, (height, 1)).astype(np.uint8)
    for i in range(count):
        place = None if crs is None else from_origin(500_000 + i * width * 0.5, 40_000, 0.5, 0.5)
        step = {"uint8": 20, "uint16": 400, "float32": 0.3}[dtype]
        pixels = noise((channels, height, width), dtype, seed + i) // (1 if dtype == "float32" else 4) + 1
        pixels = (pixels + labels * step).astype(dtype)
        name = f"scene_{i}.tif"
        make_raster(folder / "images" / name, pixels=pixels, crs=crs, transform=place, nodata=nodata, tiled=tiled)
        make_raster(folder / "masks" / name, pixels=labels[None], crs=crs, transform=place, tiled=tiled)
    return folder


def rational_polynomials(row: float, col: float) -> RPC:
    """Rational polynomials that are linear: pixel (``row``, ``col``) lies at 30 degrees east, 2 north."""
    first = [1.0] + [0.0] * 19
    line = {"line_off": row, "line_scale": row, "line_num_coeff": [0.0, 1.0] + [0.0] * 18, "line_den_coeff": first}
    samp = {"samp_off": col, "samp_scale": col, "samp_num_coeff": [0.0, 0.0, 1.0] + [0.0] * 17}
    place = {"lat_off": 2.0, "lat_scale": 0.1, "long_off": 30.0, "long_scale": 0.1}
    return RPC(height_off=10.0, height_scale=500.0, samp_den_coeff=first, **line, **samp, **place)
