"""The section of a map: scene, classes and confidence over each other, switched, zoomed and swiped."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geodistill.raster import Grid
from geodistill.reading import read_bytes
from geodistill.report.map_layers import CutMap, MapLayer
from geodistill.report.markup import Attributes, Html, element, join, json_block
from geodistill.report.page import Section, swatch
from geodistill.report.palette import starts_safe
from geodistill.report.pyramid import TILE


@dataclass(frozen=True)
class MapTiles:
    """Tiles that were written into a folder, and which of them go into the page.

    Attributes:
        folder: With ``LAYER/LEVEL/COLUMN/ROW.SUFFIX``.
        layers: The layers, the lowest first.
        level: The finest.
        embedded: Levels below this one are in the page.
    """

    folder: Path
    layers: tuple[MapLayer, ...]
    level: int
    embedded: int

    @property
    def beside(self) -> bool:
        """Whether the finer levels need a folder beside the page."""
        return self.embedded <= self.level


_COARSER = (
    "While classes are switched off or have other colours, the classes are drawn from the coarser tiles in this page."
)


def within_budget(folder: Path, level: int, budget: int) -> int:
    """Return how many levels, from the coarsest, fit into so many bytes as base64; the coarsest always does."""
    total = 0
    for at in range(level + 1):
        total += sum(-(-file.stat().st_size // 3) * 4 for file in folder.glob(f"*/{at}/*/*"))
        if at and total > budget:
            return at
    return level + 1


def map_section(tiles: MapTiles, cut: CutMap, beside: str, name: str) -> Section:
    """Return the section of a map.

    Args:
        tiles: What it is drawn of.
        cut: The map.
        beside: Name of the folder beside the page that holds the finer levels.
        name: What the map is called.
    """
    grid = cut.grid
    layers = [
        {"name": layer.name, "title": layer.title, "suffix": layer.suffix, "kind": layer.kind} for layer in tiles.layers
    ]
    about = {
        "height": grid.height,
        "width": grid.width,
        "tile": TILE,
        "level": tiles.level if tiles.beside else tiles.embedded - 1,
        "finest": tiles.level,
        "embedded": tiles.embedded,
        "folder": beside if tiles.beside else None,
        "layers": layers,
        "palette": "safe" if starts_safe(cut.legend.colours) else "legend",
        "gsd": grid.gsd,
        "transform": list(grid.transform)[:6] if grid.georeferenced and not grid.gcps else None,
        "crs": None if grid.crs is None else grid.crs.to_string()[:40],
    }
    stored = {layer.name: dict(_stored(tiles, layer)) for layer in tiles.layers}
    controls = [_layer_control(layer, k) for k, layer in enumerate(tiles.layers)]
    swipe = element("input", {"type": "range", "id": "swipe", "min": 0, "max": 100, "step": 0.5, "value": 100})
    body = join(
        element("p", {"class": "quiet"}, _sentence(tiles, grid, beside)),
        element("div", {"id": "map-frame", "class": "map", "role": "application", "aria-label": f"Map {name}"}),
        element("p", {"id": "map-place", "class": "quiet", "aria-live": "off"}, "\u00a0"),
        element("div", {"class": "controls"}, controls, element("label", {"class": "strength"}, "Swipe ", swipe)),
        _classes(cut),
        element("p", {"id": "map-coarser", "class": "quiet", "role": "status", "hidden": True}, _COARSER),
        json_block("map-about", about),
        json_block("map-tiles", stored),
    )
    areas = dict(zip(cut.legend.names, cut.areas, strict=True)) if cut.areas else None
    pixels = dict(zip(cut.legend.names, cut.counts, strict=True))
    figures = {"pixels": pixels, "areas": areas, "gsd": grid.gsd, "crs": about["crs"]}
    style, script = ("leaflet/leaflet.css",), ("leaflet/leaflet.js", "map.js")
    return Section("map", "Map", body, figures, style, script, beside=tiles.beside)


def _stored(tiles: MapTiles, layer: MapLayer) -> Iterator[tuple[str, str]]:
    for level in range(tiles.embedded):
        for file in sorted((tiles.folder / layer.name / str(level)).glob("*/*")):
            yield f"{level}/{file.parent.name}/{file.stem}", base64.b64encode(read_bytes(file)).decode()


def _layer_control(layer: MapLayer, position: int) -> Html:
    """Return the switch of a layer, with its strength where it lies over others."""
    check = element("input", {"type": "checkbox", "class": "map-layer", "value": layer.name, "checked": layer.visible})
    parts = [element("label", {"class": "switch"}, check, f" {layer.title}")]
    if position:
        label = f"Strength of {layer.title}"
        about: Attributes = {"class": "map-strength", "data-layer": layer.name, "aria-label": label, "value": 70}
        parts.append(element("input", {"type": "range", "min": 0, "max": 100, **about}))
    return element("div", {"class": "strength"}, parts)


def _sentence(tiles: MapTiles, grid: Grid, beside: str) -> str:
    size = f"{grid.width:,} x {grid.height:,} pixels"
    gsd = "" if grid.gsd is None else f" of {grid.gsd:.3g} m"
    more = (
        f" The finest detail lies in the folder {beside} beside this page; without it the map is coarser."
        if tiles.beside
        else ""
    )
    return f"{size}{gsd}. Drag or use the arrows to move, + and \u2212 to zoom; swipe uncovers the lowest layer.{more}"


def _classes(cut: CutMap) -> Html:
    """Return the list of classes, each with a switch, its share and its area on the ground."""
    total = max(sum(cut.counts), 1)
    items = []
    for k, (name, count) in enumerate(zip(cut.legend.names, cut.counts, strict=True)):
        area = f", {area_text(cut.areas[k])}" if cut.areas else ""
        check = element("input", {"type": "checkbox", "class": "map-class", "value": k, "checked": True})
        note = element("span", {"class": "quiet"}, f" {100 * count / total:.1f} %{area}")
        items.append(
            element("li", None, element("label", {"class": "switch"}, check, " ", swatch(f"k{k}"), name, note))
        )
    return element("ul", {"class": "legend", "aria-label": "Classes of the map"}, items)


def area_text(square_metres: float) -> str:
    """Return an area in square metres, hectares or square kilometres."""
    for size, unit in ((1e6, "km\u00b2"), (1e4, "ha")):
        if square_metres >= 10 * size:
            return f"{square_metres / size:,.1f} {unit}"
    return f"{square_metres:,.0f} m\u00b2"
