"""Georeferenced rasters: where a pixel lies (Grid), a part of one (Window), and masked reads."""

from geodistill.raster.grid import Grid, Window
from geodistill.raster.raster import Raster
from geodistill.raster.source import IMAGE_SUFFIXES, source_files, stamp_of

__all__ = [
    "IMAGE_SUFFIXES",
    "Grid",
    "Raster",
    "Window",
    "source_files",
    "stamp_of",
]
