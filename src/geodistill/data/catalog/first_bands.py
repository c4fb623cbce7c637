"""Images of a benchmark set that have more bands than its layout says: copies of their first ones."""

from __future__ import annotations

import os
from pathlib import Path

import rasterio

from geodistill.errors import DataError
from geodistill.files import atomic_path
from geodistill.raster import Raster


def with_first_bands(image: Path, count: int, copy: Path) -> Path:
    """Return an image that has no more than the first bands of another.

    Args:
        image: The image.
        count: Bands that it should have.
        copy: GeoTIFF to write where it has more; one of the same image, which its time says, is taken as it is.

    Returns:
        The image itself where it has no more bands, or cannot be opened, which the scan reports; else the copy.

    Raises:
        OutputError: The copy cannot be written.
    """
    try:
        with Raster(image) as raster:
            if raster.channels <= count:
                return image
            time = image.stat().st_mtime_ns
            if copy.is_file() and copy.stat().st_mtime_ns == time:
                return copy
            pixels, valid = raster.read(raster.grid.whole, list(range(count)))
            profile = {"driver": "GTiff", "count": count, "dtype": pixels.dtype, "compress": "deflate"}
            profile |= raster.grid.profile()
    except DataError:
        return image
    with (
        atomic_path(copy) as part,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(part, "w", **profile) as file,
    ):
        file.write(pixels)
        if not valid.all():
            file.write_mask(valid)
    os.utime(copy, ns=(time, time))
    return copy
