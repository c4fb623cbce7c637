"""What made-up towns look like: the legend, and the regions with their colours, densities and sensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from geodistill.legend_entries import Colour
from geodistill.spec import Legend

LEGEND = Legend(
    names=("impervious", "building", "low vegetation", "tree", "car", "water", "soil"),
    colours=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (28, 108, 200), (170, 120, 70)),
)
"""Classes of every made-up scene, in the colours of the ISPRS benchmarks where those have the class."""

IMPERVIOUS, BUILDING, LOW_VEGETATION, TREE, CAR, WATER, SOIL = range(7)

Ground = tuple[Colour, int]
"""A ground colour with its class."""

LAND_USES = ("field", "bare", "park", "houses", "flats", "commerce")
"""What fills a block between streets, from the rim of the town to its centre."""


@dataclass(frozen=True)
class TownRegion:
    """How scenes of one region look.

    Attributes:
        name: Key in `REGIONS` and prefix of file names.
        epsg: UTM zone of the grids.
        origin: Easting and northing in metres near which scenes lie.
        gsd: Ground sampling distance in metres per pixel.
        sun_azimuth, sun_elevation: Direction of the sun, clockwise from north, and its height, in degrees.
        block: Shortest and longest side of a block between streets in metres.
        shares: Share of each of `LAND_USES` in the area.
        trees: Trees a hectare in gardens; parks have several times as many.
        river: Chance that a river crosses the scene.
        pitched: Share of houses with a pitched roof.
        asphalt: Colour of streets.
        paving: Colour of pavements, drives and yards.
        tiles: Colours of pitched roofs.
        decks: Colours of flat roofs.
        lots: Grounds of gardens.
        fields: Grounds of fields.
        crowns: Colours of tree crowns.
        grass, bare: Colours of parks and banks, and of bare soil.
        water: Colour of rivers and ponds.
        haze: Factor and offset of each band, as the atmosphere leaves them.
        noise: Standard deviation of the sensor's noise in digital numbers.
        blur: Standard deviation of the sensor's point spread in pixels.
    """

    name: str
    epsg: int
    origin: tuple[float, float]
    gsd: float
    sun_azimuth: float
    sun_elevation: float
    block: tuple[float, float]
    shares: tuple[float, float, float, float, float, float]
    trees: float
    river: float
    pitched: float
    asphalt: Colour
    paving: Colour
    tiles: tuple[Colour, ...]
    decks: tuple[Colour, ...]
    lots: tuple[Ground, ...]
    fields: tuple[Ground, ...]
    crowns: tuple[Colour, ...]
    grass: Colour
    bare: Colour
    water: Colour
    haze: tuple[tuple[float, float], ...] = field(default=((1.0, 0.0),) * 3)
    noise: float = 3.0
    blur: float = 0.6


REGIONS = {
    "north": TownRegion(
        name="north",
        epsg=32632,
        origin=(500_000.0, 5_540_000.0),
        gsd=0.3,
        sun_azimuth=150.0,
        sun_elevation=48.0,
        block=(60.0, 110.0),
        shares=(0.14, 0.08, 0.13, 0.39, 0.13, 0.13),
        trees=34.0,
        river=0.5,
        pitched=0.85,
        asphalt=(96, 98, 102),
        paving=(146, 143, 138),
        tiles=((139, 72, 56), (124, 62, 50), (92, 84, 80), (72, 72, 76), (150, 92, 70), (110, 66, 52)),
        decks=((150, 150, 150), (176, 174, 170), (120, 122, 124), (196, 196, 194), (104, 110, 104)),
        lots=(
            ((88, 112, 62), LOW_VEGETATION),
            ((98, 120, 66), LOW_VEGETATION),
            ((110, 124, 76), LOW_VEGETATION),
            ((82, 104, 58), LOW_VEGETATION),
            ((142, 138, 132), IMPERVIOUS),
        ),
        fields=(
            ((112, 128, 70), LOW_VEGETATION),
            ((146, 142, 88), LOW_VEGETATION),
            ((86, 118, 60), LOW_VEGETATION),
            ((124, 102, 78), SOIL),
        ),
        crowns=((52, 78, 40), (62, 88, 44), (44, 70, 42), (74, 94, 46), (58, 74, 36)),
        grass=(94, 118, 64),
        bare=(138, 116, 90),
        water=(44, 66, 68),
        haze=((1.0, 4.0), (1.0, 6.0), (1.0, 10.0)),
        noise=3.0,
        blur=0.6,
    ),
    "south": TownRegion(
        name="south",
        epsg=32736,
        origin=(500_000.0, 9_250_000.0),
        gsd=0.5,
        sun_azimuth=62.0,
        sun_elevation=58.0,
        block=(50.0, 95.0),
        shares=(0.14, 0.15, 0.08, 0.42, 0.09, 0.12),
        trees=20.0,
        river=0.5,
        pitched=0.45,
        asphalt=(128, 120, 114),
        paving=(178, 164, 146),
        tiles=((166, 90, 62), (150, 110, 84), (122, 132, 140), (178, 110, 78), (96, 120, 138)),
        decks=((214, 208, 196), (196, 186, 170), (226, 222, 214), (174, 170, 164), (158, 146, 132)),
        lots=(
            ((184, 152, 112), SOIL),
            ((172, 140, 100), SOIL),
            ((150, 142, 92), LOW_VEGETATION),
            ((138, 136, 84), LOW_VEGETATION),
            ((186, 172, 152), IMPERVIOUS),
        ),
        fields=(((158, 150, 92), LOW_VEGETATION), ((132, 140, 76), LOW_VEGETATION), ((172, 132, 92), SOIL)),
        crowns=((82, 98, 56), (96, 106, 60), (74, 92, 58), (104, 108, 66)),
        grass=(138, 142, 82),
        bare=(190, 154, 112),
        water=(96, 104, 84),
        haze=((1.0, 10.0), (0.97, 8.0), (0.9, 8.0)),
        noise=4.5,
        blur=0.75,
    ),
}
"""The two regions; ``south`` differs in colours, building forms, sun, sensor and ground sampling distance."""
