"""How QGIS shows the points of a sample: coloured by what was interpreted, with a form that asks for nothing else."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from geodistill.errors import DataError
from geodistill.inference.style import plain_name
from geodistill.spec import Legend

SHOWN = ("id", "reference", "note")
"""Columns that the form shows. The map's class is hidden: who sees it agrees with it too often."""


def form_names(legend: Legend) -> tuple[str, ...]:
    """Return the classes as the form offers them, which are plain.

    Raises:
        DataError: Two of them cannot be told apart there.
    """
    names = tuple(map(plain_name, legend.names))
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two classes that are shown as '{repeated}'", "names that differ in more than white space")
    return names


def point_style(legend: Legend, columns: tuple[str, ...]) -> str:
    """Return the style (QML) of a layer of points with these columns.

    Raises:
        DataError: Two classes cannot be told apart in it.
    """
    root = Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    _add_symbols(root, legend)
    configuration = SubElement(root, "fieldConfiguration")
    for column in columns:
        field = SubElement(configuration, "field", name=column)
        kind = "ValueMap" if column == "reference" else "TextEdit" if column in SHOWN else "Hidden"
        config = SubElement(SubElement(field, "editWidget", type=kind), "config")
        if kind == "ValueMap":
            names = SubElement(SubElement(config, "Option", type="Map"), "Option", name="map", type="List")
            for name in form_names(legend):
                SubElement(SubElement(names, "Option", type="Map"), "Option", name=name, type="QString", value=name)
    editable = SubElement(root, "editable")
    for column in columns:
        SubElement(editable, "field", name=column, editable=str(int(column in ("reference", "note"))))
    SubElement(root, "layerGeometryType").text = "0"
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, encoding="unicode")


def _add_symbols(root: Element, legend: Legend) -> None:
    attributes = {"type": "categorizedSymbol", "attr": "reference", "symbollevels": "0", "forceraster": "0"}
    renderer = SubElement(root, "renderer-v2", attributes)
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    entries = [*zip(form_names(legend), legend.colours, strict=True), ("", (255, 0, 255))]
    for position, (name, colour) in enumerate(entries):
        category = {"value": name, "symbol": str(position), "label": name or "to be interpreted", "render": "true"}
        SubElement(categories, "category", category)
        symbol = SubElement(symbols, "symbol", type="marker", name=str(position), alpha="1", clip_to_extent="1")
        layer = SubElement(symbol, "layer", {"class": "SimpleMarker", "enabled": "1", "locked": "0", "pass": "0"})
        fill = ("color", "{},{},{},255".format(*colour))
        for key, text in (fill, ("name", "circle"), ("outline_color", "0,0,0,255"), ("size", "3")):
            SubElement(layer, "prop", {"k": key, "v": text})
