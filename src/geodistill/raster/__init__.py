"""Georeferenced rasters: where a pixel lies (Grid), a part of one (Window), and masked reads."""

from geodistill.files import atomic_path, output_error
from geodistill.raster.grid import Grid, Window
from geodistill.raster.read import IMAGE_SUFFIXES, Raster
from geodistill.raster.resample import ResampledRaster
from geodistill.raster.sources import source_files, stamp_of

__all__ = [
    "IMAGE_SUFFIXES",
    "Grid",
    "Raster",
    "ResampledRaster",
    "Window",
    "atomic_path",
    "output_error",
    "source_files",
    "stamp_of",
]
