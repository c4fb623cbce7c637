"""Finished rows become maps: tiled, compressed, cloud-optimised GeoTIFFs with colours, names and georeferencing."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetWriter

from geodistill.description import network_words
from geodistill.errors import output_errors, printable
from geodistill.inference.layers import LAYERS, Layer
from geodistill.inference.majority import majority
from geodistill.inference.sliding import STEPS
from geodistill.raster import Grid, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.version import __version__

BLOCK = 512
"""Side of the map's blocks in pixels."""

_CACHE = 2**23
"""Bytes of blocks that GDAL may hold while it copies. They are raw rows, and beside each it holds as much again."""

_ROWS = 128
"""Rows of which an overview is made at once; an even number."""

_SPARE = 2**20
"""Bytes that must stay free on the disk beside what is about to be written."""

DATE_BANDS = ("before", "after")
"""Bands behind the first one of a map of changes' confidence."""

_GDAL_TYPES = {"uint8": "Byte", "float32": "Float32"}
"""Sample types with GDAL's names."""


@dataclass(frozen=True)
class MapInfo:
    """What a map says about itself: where it lies, its classes, and further tags such as ``MODEL``."""

    grid: Grid
    legend: Legend
    tags: Mapping[str, str]


def describe(segmenter: Segmenter) -> str:
    """Return what a model is called in a map's tags: network, encoder, and the package that wrote the map."""
    words = network_words(segmenter.name, segmenter.arguments, ("architecture", "encoder"))
    return f"{words}, geodistill {__version__}"


class StoredRows(Protocol):
    """A part of a map whose rows are stored as bytes, as `PartFiles` stores them."""

    @property
    def pixels(self) -> Window:
        """The part, in pixels of the map."""

    def path(self, layer: Layer) -> Path:
        """Return the file of a layer's bytes: rows of bands of columns."""


def map_beside(path: Path, layer: str) -> Path:
    """Return the file of a layer beside the map of classes: ``town_confidence.tif`` for ``town.tif``."""
    return path if layer == "classes" else path.with_name(f"{path.stem}_{layer}{path.suffix}")


def band_names(layer: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return what the bands of a layer are called."""
    kind = LAYERS[layer]
    return (*kind.bands, *classes) if kind.per_class else kind.bands


def preview_beside(classes: Path) -> Path:
    """Return the file of a map's preview."""
    return classes.with_name(f"{classes.stem}_preview.png")


def unlike_beside(classes: Path) -> Path:
    """Return the file of unlike places beside a map."""
    return classes.with_name(f"{classes.stem}_unlike.tif")


def tiles_beside(classes: Path, kind: str) -> Path:
    """Return the file of a map's tiles: ``map_tiles.pmtiles``.

    Not ``map.pmtiles``: QGIS would show it by ``map.qml``, the style of classes, and what it holds are colours.
    """
    return classes.with_name(f"{classes.stem}_tiles.{kind}")


def vector_tiles_beside(classes: Path, layer: str, kind: str) -> Path:
    """Return the file of vector tiles of a map's ``polygons`` or ``objects``: ``map_polygons.pmtiles``."""
    return classes.with_name(f"{classes.stem}_{layer}.{kind}")


def write_map(path: Path, layer: Layer, parts: Sequence[StoredRows], info: MapInfo, folder: Path) -> None:
    """Put the stored rows of a layer together as a cloud-optimised GeoTIFF, whole or not at all.

    Classes are uint8 with nodata 255, a colour table, and the tags ``CLASS_0``, ``CLASS_1`` ... and ``LEGEND``
    (JSON), since GDAL keeps category names of a GeoTIFF in a second file only. Confidence and probabilities are
    uint8 with the scale 1/250 and nodata 255, or float with nodata NaN; probabilities have one band per class, named
    after it, and so have class sets, behind a first band that counts them. Georeferencing (CRS with transform, control
    points, RPCs) is that of the grid.

    Raises:
        OutputError: The place cannot be written or the disk is full.
    """
    # Not beside its final name but among the work: what a killed process leaves there is taken away with it.
    part = folder / f"{layer.name}.tif"
    with output_errors(path):
        _write_map(part, Mosaic(folder / f"{layer.name}.vrt", layer, parts, info.grid), info)
        part.replace(path)


def _write_map(target: Path, mosaic: Mosaic, info: MapInfo) -> None:
    # GDAL would else keep blocks, written ones too, in 5 % of the machine's memory, and no copy is faster for it.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), _quiet_gdal() as messages:
        try:
            mosaic.write()
            with rasterio.open(mosaic.path, "r+") as file:
                _place(file, info.grid)
                _describe(file, mosaic.layer, info)
            _to_cog(mosaic.path, target, mosaic.layer)
        except (RasterioError, CPLE_BaseError) as error:
            # A failed copy takes its unfinished file back, so that what it had needed is free again.
            needed = sum(part.path(mosaic.layer).stat().st_size for part in mosaic.parts) // 4
            if shutil.disk_usage(target.parent).free < needed + _SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError("; ".join(dict.fromkeys([*messages, str(error)]))) from error


@dataclass(frozen=True)
class Mosaic:
    """The stored bytes of a layer as one raster that GDAL can read, without a copy of them.

    Three kinds of files lie in the work's folder, each naming those to its right::

        classes.vrt  the mosaic: where in the scene each block lies
          |-- rows-...-columns-....classes.vrt  how GDAL is to read bytes: rows, columns, bands, sample type
          |     `-- rows-...-columns-....classes.bin  a block's bytes, as `PartFiles` appended them
          `-- overview-0.vrt -> overview-0.bin, ...  of 2 x 2 pixels, of 4 x 4 ... (classes only)

    From the mosaic GDAL copies the finished GeoTIFF, block by block and in several threads.
    """

    path: Path
    layer: Layer
    parts: Sequence[StoredRows]
    grid: Grid

    def write(self) -> None:
        """Write the mosaic; of classes with overviews, which are read from it."""
        self.path.write_text(self._xml(), encoding="utf-8")
        if self.layer.name == "classes":
            self.path.write_text(self._xml(self._overviews()), encoding="utf-8")

    def _xml(self, overviews: Sequence[str] = ()) -> str:
        sources = [""] * self.layer.bands
        for part in self.parts:
            pixels = part.pixels
            name = _raw_view(part.path(self.layer), pixels.height, pixels.width, self.layer).name
            inner = f'<SrcRect xOff="0" yOff="0" xSize="{pixels.width}" ySize="{pixels.height}"/>'
            outer = f'<DstRect xOff="{pixels.col}" yOff="{pixels.row}" xSize="{pixels.width}" ySize="{pixels.height}"/>'
            for band in range(self.layer.bands):
                file = f'<SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band + 1}</SourceBand>'
                sources[band] += f"<SimpleSource>{file}{inner}{outer}</SimpleSource>"
        smaller = "".join(
            f'<Overview><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand></Overview>'
            for name in overviews
        )
        kind = _GDAL_TYPES[self.layer.dtype]
        bands = "".join(
            f'<VRTRasterBand dataType="{kind}" band="{band + 1}">{smaller}{source}</VRTRasterBand>'
            for band, source in enumerate(sources)
        )
        return f'<VRTDataset rasterXSize="{self.grid.width}" rasterYSize="{self.grid.height}">{bands}</VRTDataset>'

    def _overviews(self) -> list[str]:
        """Write the class that most of 2 x 2, 4 x 4 ... pixels have: the mean of classes 2 and 4 is not class 3."""
        names: list[str] = []
        source = self.path
        while True:
            with rasterio.open(source) as file:
                if max(file.height, file.width) <= BLOCK:
                    return names
                pixels = self.path.with_name(f"overview-{len(names)}.bin")
                with pixels.open("wb") as smaller:
                    for top in range(0, file.height, _ROWS):
                        window = Window(top, 0, min(_ROWS, file.height - top), file.width)
                        rows = file.read(1, window=window.to_rasterio())
                        smaller.write(majority(rows).tobytes())
                source = _raw_view(pixels, -(-file.height // 2), -(-file.width // 2), self.layer)
            names.append(source.name)


def _raw_view(path: Path, height: int, width: int, layer: Layer) -> Path:
    """Write beside a file of bytes how GDAL is to read it; return what it is to open.

    So no bytes are ever taken for a file of another format, whatever they begin with and however few they are.
    """
    size = np.dtype(layer.dtype).itemsize
    bands = "".join(
        f'<VRTRasterBand dataType="{_GDAL_TYPES[layer.dtype]}" band="{band + 1}" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename>'
        f"<ImageOffset>{band * width * size}</ImageOffset><PixelOffset>{size}</PixelOffset>"
        f"<LineOffset>{layer.bands * width * size}</LineOffset><ByteOrder>LSB</ByteOrder></VRTRasterBand>"
        for band in range(layer.bands)
    )
    view = path.with_suffix(".vrt")
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'
    view.write_text(text, encoding="utf-8")
    return view


def _place(file: DatasetWriter, grid: Grid) -> None:
    """Put a map where its scene lies; either may lack the CRS, and then the transform or the points stand alone."""
    if grid.gcps:
        file.gcps = (list(grid.gcps), grid.gcps_crs if grid.gcps_crs is not None else CRS())
    elif grid.crs is not None or not grid.transform.is_identity:
        file.transform = grid.transform
        if grid.crs is not None:
            file.crs = grid.crs
    if grid.rpcs is not None:
        file.rpcs = grid.rpcs


def _describe(file: DatasetWriter, layer: Layer, info: MapInfo) -> None:
    legend = info.legend
    names = list(map(printable, legend.names))
    # The map holds class indices, whatever values the masks had.
    by_index = Legend(legend.names, legend.colours)
    file.update_tags(
        LEGEND=json.dumps(by_index.to_dict()),
        **{f"CLASS_{index}": name for index, name in enumerate(names)},
        **info.tags,
    )
    file.nodata = IGNORE_INDEX if layer.dtype == "uint8" else float("nan")
    file.descriptions = (*band_names(layer.name, names), *DATE_BANDS)[: layer.bands]
    if layer.name == "classes":
        table = {index: (*colour, 255) for index, colour in enumerate(legend.colours)}
        file.write_colormap(1, {**dict.fromkeys(range(256), (0, 0, 0, 255)), **table, IGNORE_INDEX: (0, 0, 0, 0)})
        file.colorinterp = [ColorInterp.palette]
    if LAYERS[layer.name].scaled and layer.dtype == "uint8":
        file.scales = [1 / STEPS] * layer.bands


def _to_cog(source: Path, target: Path, layer: Layer) -> None:
    """Copy into the cloud-optimised layout, with overviews; GDAL does it block by block, in several threads.

    Without GDAL's NBITS=16: under it, GDAL 3.10 leaves what memory held before in the part of the last blocks that lies
    beyond the map. The zeros that float16 leaves in float32 cost little once compressed.
    """
    floating = layer.dtype != "uint8"
    rasterio.shutil.copy(
        source,
        target,
        driver="COG",
        compress="deflate",
        # Three times as fast as the default 6; the file grows by a third.
        level=1,
        predictor="yes" if floating else "no",
        blocksize=BLOCK,
        overview_resampling="average" if LAYERS[layer.name].scaled else "nearest",
        bigtiff="if_safer",
        num_threads=min(os.cpu_count() or 1, 4),
    )
    # GDAL reports some failed writes only when the file is read; its last pixels are written last.
    with rasterio.open(target) as file:
        file.read(1, window=Window(file.height - 1, file.width - 1, 1, 1).to_rasterio())


class _Collector(logging.Handler):
    """Keeps what GDAL says, in place of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


@contextmanager
def _quiet_gdal() -> Iterator[list[str]]:
    """Collect GDAL's error messages: the reason of a failed write is often in an earlier one only."""
    logger, collector = logging.getLogger("rasterio"), _Collector()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
