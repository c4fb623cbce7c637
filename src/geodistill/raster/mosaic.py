"""Neighbouring rasters as one."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.raster.bands import alpha_bands, described
from geodistill.raster.grid import crs_names
from geodistill.raster.source import open_source, vsi_name
from geodistill.raster.stack import mask_band, palette_text, virtual_band, virtual_raster
from geodistill.raster.stored import turn_of

SLACK = 0.02
"""By how much of a pixel a raster may lie off the grid of the first."""


def mosaic(sources: Sequence[str]) -> str:
    """Return the text of a GDAL virtual raster of neighbouring parts; where they overlap, the first lies on top.

    What none of them shows has no data. The parts have one CRS, pixel size and grid, and the same bands.

    Raises:
        DataError: One cannot be read, or does not fit the first.
    """
    files: list[DatasetReader] = []
    try:
        for source in sources:
            files.append(open_source(source))
        first = files[0]
        places = [_place(source, file, first, sources[0]) for source, file in zip(sources, files, strict=True)]
        left, top = min(x for x, _ in places), min(y for _, y in places)
        width = max(x + file.width for (x, _), file in zip(places, files, strict=True)) - left
        height = max(y + file.height for (_, y), file in zip(places, files, strict=True)) - top
        if max(width, height) >= 2**31:
            raise DataError(f"a mosaic of {width} x {height} pixels", f"less than {2**31} along a side")
        t = first.transform @ Affine.translation(left, top)
        of_parts = [alpha_bands(file) for file in files]
        alpha = [i for i in of_parts[0] if all(i in part for part in of_parts)]
        names = [_masked_by(alpha, source, file) for source, file in zip(sources, files, strict=True)]
        parts = [(name, f, (x - left, y - top)) for name, f, (x, y) in zip(names, files, places, strict=True)]
        parts.reverse()  # what comes later in the text lies on top
        bands = "".join(
            virtual_band(i, first, i, described(first)[i - 1], _sources(str(i), parts, alpha), alpha)
            for i in first.indexes
        )
        mask = mask_band(_sources("mask,1", parts, alpha)) if not alpha and first.nodata is None else ""
        return virtual_raster(first, width, height, t, bands + mask)
    except RasterioError as error:
        raise DataError(f"{', '.join(sources)[:500]} cannot be read together ({error})", "parts of a scene") from error
    finally:
        for file in files:
            file.close()


def _place(source: str, file: DatasetReader, first: DatasetReader, other: str) -> tuple[int, int]:
    """Return column and row of a file's corner in pixels of the first."""
    mend = "bring them onto one grid, such as with gdalwarp -tap"
    if not turn_of(source, file, file.tags()).none:
        raise DataError(f"{source} has an orientation tag", "parts as they are seen", "turn its pixels")
    if file.crs != first.crs or file.transform.is_identity:
        crs, expected = crs_names(file.crs, first.crs)
        raise DataError(f"{source} in {crs}", f"{expected} as {other}, and a transform", mend)
    if palette_text(file, 1) != palette_text(first, 1):
        raise DataError(f"{source} with another palette", f"that of {other}", "write all parts in RGB")
    for what in ("count", "dtypes", "nodatavals", "scales", "offsets", "colorinterp"):
        if repr(getattr(file, what)) != repr(getattr(first, what)):
            raise DataError(
                f"{source} with {what} {str(getattr(file, what))[:80]}",
                f"{str(getattr(first, what))[:80]} as {other}",
                "make them alike",
            )
    to_first: Affine = ~first.transform @ file.transform
    x, y = to_first.c, to_first.f
    end_x, end_y = to_first @ (file.width, file.height)
    off = max(abs(x - round(x)), abs(y - round(y)), abs(end_x - x - file.width), abs(end_y - y - file.height))
    if off > SLACK:
        raise DataError(f"{source} lies {off:.2g} of a pixel off the grid of {other}", "parts on one grid", mend)
    return round(x), round(y)


def _masked_by(alpha: Sequence[int], source: str, file: DatasetReader) -> str:
    """Return a file's name, or a virtual raster of it whose mask is its alpha, where GDAL takes another for it."""
    name, flags = vsi_name(source), file.mask_flag_enums[0]
    if (MaskFlags.all_valid if alpha else MaskFlags.alpha) not in flags:
        return name

    def bands(index: int) -> str:
        where = f'<SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename><SourceBand>{index}</SourceBand>'
        return f"<SimpleSource>{where}</SimpleSource>"

    every = "".join(virtual_band(i, file, i, None, bands(i), alpha) for i in file.indexes)
    mask = mask_band(bands(alpha[0])) if alpha else ""
    return virtual_raster(file, file.width, file.height, file.transform, every + mask)


Part = tuple[str, DatasetReader, tuple[int, int]]


def _sources(band: str, parts: Sequence[Part], alpha: Sequence[int]) -> str:
    """Return a band of every part; pixels of a part that it does not show leave those below as they are."""
    texts = []
    for name, file, (x, y) in parts:
        size = f'xSize="{file.width}" ySize="{file.height}"'
        content = f'<SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename><SourceBand>{band}</SourceBand>'
        content += f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{x}" yOff="{y}" {size}/>'
        flags = file.mask_flag_enums[0]
        if MaskFlags.nodata in flags and not band.startswith("mask"):
            content += f"<NODATA>{file.nodatavals[int(band) - 1]!r}</NODATA>"
        elif band.startswith("mask"):
            content += "<NODATA>0</NODATA>"  # what it hides does not hide what lies below
        elif alpha or not {MaskFlags.all_valid, MaskFlags.alpha} & set(flags):
            content += "<UseMaskBand>true</UseMaskBand>"
        texts.append(f"<ComplexSource>{content}</ComplexSource>")
    return "".join(texts)
