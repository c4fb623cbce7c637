"""Several files that show one place as one raster with all their bands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from geodistill.errors import DataError
from geodistill.raster.bands import DESCRIBED, alpha_bands, described
from geodistill.raster.grid import crs_names
from geodistill.raster.source import open_source, vsi_name
from geodistill.raster.stored import colour_table, turn_of

TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
    "int64": "Int64",
    "uint64": "UInt64",
}


def joined(sources: Sequence[str], neighbours: bool) -> str:
    """Return the text of a virtual raster of several: `stack` of bands, or a mosaic of ``neighbours``.

    Raises:
        DataError: They do not fit together.
    """
    if not neighbours:
        return stack(sources)
    from geodistill.raster.mosaic import mosaic

    return mosaic(sources)


def stack(sources: Sequence[str]) -> str:
    """Return the text of a GDAL virtual raster with all bands of files that show one place, in the order of the files.

    The grid is that of the finest; coarser ones are read bilinearly onto it. Each band keeps its own nodata, mask,
    scale and offset, and answers to its file's name and its description in the file.

    Raises:
        DataError: A file cannot be read, they are in different coordinate systems, or do not show the same place.
    """
    files = [open_source(source) for source in sources]
    try:
        for source, file in zip(sources, files, strict=True):
            if not turn_of(source, file, file.tags()).none:
                raise DataError(f"{source} has an orientation tag", "band files as they are seen", "turn its pixels")
            if file.crs != files[0].crs:
                crs, first = crs_names(file.crs, files[0].crs)
                raise DataError(f"{source} in {crs}", f"{first} as {sources[0]}", "reproject one of them")
        finest = min(files, key=lambda file: abs(file.transform.determinant))
        bands: list[str] = []
        for source, file in zip(sources, files, strict=True):
            place, alpha = _place(source, file, finest), alpha_bands(file)
            bands += [_band(len(bands) + i, source, file, i, place, alpha) for i in file.indexes]
        return virtual_raster(finest, finest.width, finest.height, finest.transform, "".join(bands))
    except RasterioError as error:
        raise DataError(f"{', '.join(sources)} cannot be read together ({error})", "band files of one scene") from error
    finally:
        for file in files:
            file.close()


def virtual_raster(file: DatasetReader, width: int, height: int, transform: Affine, content: str) -> str:
    """Return the text of a virtual raster in a file's CRS; ``content`` are its bands, and its mask where it has one."""
    t = transform
    where = ", ".join(repr(float(v)) for v in (t.c, t.a, t.b, t.f, t.d, t.e))
    crs = escape(file.crs.to_wkt()) if file.crs else ""
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{crs}</SRS>'
        f"<GeoTransform>{where}</GeoTransform>{content}</VRTDataset>"
    )


def virtual_band(
    number: int, file: DatasetReader, index: int, name: str | None, sources: str, alpha: Collection[int]
) -> str:
    """Return a band of a virtual raster, of the type, colour, nodata, scale and offset of a file's band.

    A band tagged as alpha that is not among ``alpha`` is of no colour.

    Raises:
        DataError: GDAL has no virtual bands of that type.
    """
    at = index - 1
    kind, nodata = TYPES.get(file.dtypes[at]), file.nodatavals[at]
    if kind is None:
        raise DataError(f"{file.name} of type {file.dtypes[at]}", f"one of {', '.join(TYPES)}")
    tags = f"<Description>{escape(name)}</Description>" if name else ""
    false_alpha = file.colorinterp[at] == ColorInterp.alpha and index not in alpha
    colour = ColorInterp.undefined if false_alpha else file.colorinterp[at]
    tags += f"<ColorInterp>{colour.name.capitalize()}</ColorInterp>"
    tags += palette_text(file, index)
    tags += f"<NoDataValue>{nodata!r}</NoDataValue>" if nodata is not None else ""
    tags += f"<Offset>{file.offsets[at]!r}</Offset><Scale>{file.scales[at]!r}</Scale>"
    return f'<VRTRasterBand dataType="{kind}" band="{number}">{tags}{sources}</VRTRasterBand>'


def mask_band(sources: str) -> str:
    """Return the mask of a virtual raster, or of one of its bands."""
    return f'<MaskBand><VRTRasterBand dataType="Byte">{sources}</VRTRasterBand></MaskBand>'


def palette_text(file: DatasetReader, index: int) -> str:
    """Return the colour table of a virtual band like a file's, where that has one."""
    if colour_table(file, index) is None:
        return ""
    entries = file.colormap(index)
    colours = (entries.get(value, (0, 0, 0, 0)) for value in range(max(entries) + 1))
    lines = ("<Entry " + " ".join(f'c{i}="{v}"' for i, v in enumerate(colour, 1)) + "/>" for colour in colours)
    return f"<ColorTable>{''.join(lines)}</ColorTable>"


def _place(source: str, file: DatasetReader, finest: DatasetReader) -> tuple[float, float, float, float]:
    """Where a file lies on the finest grid: column, row, width and height in its pixels."""
    to_pixels: Affine = ~finest.transform @ file.transform
    (left, top), (right, bottom) = to_pixels @ (0, 0), to_pixels @ (file.width, file.height)
    slack = 1.5 * max(abs(to_pixels.a), abs(to_pixels.e))
    turned = abs(to_pixels.b) + abs(to_pixels.d) > 1e-6
    far = max(abs(left), abs(top), abs(right - finest.width), abs(bottom - finest.height)) > slack
    if turned or far or right <= left or bottom <= top:
        raise DataError(
            f"{source} covers another place than {finest.name}", "band files of one scene, which share their corners"
        )
    return left, top, right - left, bottom - top


def _band(
    number: int,
    source: str,
    file: DatasetReader,
    index: int,
    place: tuple[float, float, float, float],
    alpha: Collection[int],
) -> str:
    description, name = described(file)[index - 1], Path(source).name
    tags = f'<Metadata><MDI key="{DESCRIBED}">{escape(description)}</MDI></Metadata>' if description else ""
    name = name if file.count == 1 else description or f"{name} {index}"
    nodata = file.nodatavals[index - 1]
    x, y, width, height = place
    part = f'<SrcRect xOff="0" yOff="0" xSize="{file.width}" ySize="{file.height}"/>'
    part += f'<DstRect xOff="{x!r}" yOff="{y!r}" xSize="{width!r}" ySize="{height!r}"/>'
    opened = f'<SourceFilename relativeToVRT="0">{escape(vsi_name(source))}</SourceFilename>'
    masked = not {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha} & set(file.mask_flag_enums[index - 1])
    content = f"{opened}<SourceBand>{index}</SourceBand>{part}"
    content += f"<NODATA>{nodata!r}</NODATA>" if nodata is not None else ""
    content += "<UseMaskBand>true</UseMaskBand>" if masked else ""
    sources = f'<ComplexSource resampling="bilinear">{content}</ComplexSource>'
    if masked:
        mask = f"<SimpleSource>{opened}<SourceBand>mask,{index}</SourceBand>{part}</SimpleSource>"
        sources += mask_band(mask)
    return virtual_band(number, file, index, name, tags + sources, alpha)
