"""Class names and colours as QGIS and GDAL read them: a QML file, layer styles and a raster attribute table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from geodistill.errors import printable
from geodistill.files import LONGEST_NAME, write_text
from geodistill.spec import Legend, hexadecimal

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"

_NO_BEGIN = frozenset("`~!@#$%^&*()+-={}|[]\\:\";'<>?,./")
"""Signs that the name of a GeoPackage's layer cannot begin with."""

_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
"""Of the attribute table: name, GDAL's type (0 whole number, 2 text) and GDAL's use."""


def plain_name(name: str) -> str:
    """Return a class's name without what XML, Unicode files and terminals cannot hold, as escapes."""
    return re.sub("[\ufffe\uffff]", "?", " ".join(printable(name).split())) or "?"


def layer_name(path: Path) -> str:
    """Return what the layer of a file is called: GDAL refuses names in a GeoPackage that begin with these."""
    name = plain_name(path.stem)
    return f"map_{name}" if name[0] in _NO_BEGIN or name.lower().startswith("gpkg") else name


def style_files(classes: Path) -> tuple[Path, ...]:
    """Return the files that `write_style` makes beside a map of classes: ``map.qml`` and ``map.tif.aux.xml``.

    A map whose own name is nearly as long as a name may be has no second one: no reader would look for another.
    """
    table = classes.with_name(f"{classes.name}.aux.xml")
    fits = len(os.fsencode(table.name)) <= LONGEST_NAME
    return (classes.with_suffix(".qml"), table) if fits else (classes.with_suffix(".qml"),)


def write_style(classes: Path, legend: Legend, listed: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Write names and colours of the classes beside a finished map of them.

    Args:
        classes: The map.
        legend: Its classes.
        listed: Metadata of the domain ``geodistill``: what `list_beside` returns.

    Returns:
        ``map.qml``, by which QGIS shows the map, and polygons of the same name, and ``map.tif.aux.xml``, the class
        names and attribute table that GDAL, ArcGIS and others read (see `style_files`).

    Raises:
        OutputError: They cannot be written.
    """
    style, *tables = style_files(classes)
    write_qml(style, legend)
    for table in tables:
        write_text(table, _attribute_table(legend, listed or {}))
    return (style, *tables)


def write_qml(path: Path, legend: Legend) -> None:
    """Write a style of QGIS for a map of classes and for polygons with the column ``class``.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, qml(legend))


def set_sizes(classes: int) -> Legend:
    """Return how a map of class sets is shown: by how many classes a set holds, the more the darker."""
    counts = range(min(classes + 1, 255))
    names = tuple(f"{count} class{'es' * (count != 1)}" for count in counts)
    shades = [250 - 220 * count // (classes + 1) for count in counts]
    # The blue tells apart what many classes would make one grey: a legend has no colour twice.
    return Legend(names, tuple((shade, shade, 255 - count) for count, shade in zip(counts, shades, strict=True)))


def qml(legend: Legend) -> str:
    """Return the style of QGIS: a palette for rasters and, in the same file, categories for polygons."""
    root = Element("qgis", version="3.22.0", styleCategories="Symbology")
    entries = [(str(i), plain_name(n), c) for i, (n, c) in enumerate(zip(legend.names, legend.colours, strict=True))]
    raster = SubElement(
        SubElement(root, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    SubElement(raster, "rasterTransparency")
    palette = SubElement(raster, "colorPalette")
    vector = SubElement(
        root, "renderer-v2", {"type": "categorizedSymbol", "attr": "class", "symbollevels": "0", "forceraster": "0"}
    )
    categories, symbols = SubElement(vector, "categories"), SubElement(vector, "symbols")
    for value, name, colour in entries:
        shade = hexadecimal(colour)
        SubElement(palette, "paletteEntry", {"value": value, "color": shade, "alpha": "255", "label": name})
        SubElement(categories, "category", {"value": value, "symbol": value, "label": name, "render": "true"})
        symbol = SubElement(symbols, "symbol", {"type": "fill", "name": value, "alpha": "1", "clip_to_extent": "1"})
        fill = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        for key, text in (("color", "{},{},{},255".format(*colour)), ("style", "solid"), ("outline_style", "no")):
            SubElement(fill, "prop", {"k": key, "v": text})
    # QGIS tells by it a style of polygons from one of lines or points; rasters do not look at it.
    SubElement(root, "layerGeometryType").text = "2"
    return _HEAD + _text(root)


def _attribute_table(legend: Legend, listed: Mapping[str, str]) -> str:
    root = Element("PAMDataset")
    if listed:
        metadata = SubElement(root, "Metadata", domain="geodistill")
        for key, text in listed.items():
            SubElement(metadata, "MDI", key=key).text = text
    band = SubElement(root, "PAMRasterBand", band="1")
    names, table = SubElement(band, "CategoryNames"), SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, use) in enumerate(_COLUMNS):
        column = SubElement(table, "FieldDefn", index=str(index))
        for key, text in (("Name", name), ("Type", str(kind)), ("Usage", str(use))):
            SubElement(column, key).text = text
    for index, (name, colour) in enumerate(zip(legend.names, legend.colours, strict=True)):
        SubElement(names, "Category").text = plain_name(name)
        row = SubElement(table, "Row", index=str(index))
        for cell in (str(index), plain_name(name), *map(str, colour)):
            SubElement(row, "F").text = cell
    return _text(root)


def _text(root: Element) -> str:
    indent(root)
    return tostring(root, encoding="unicode") + "\n"
