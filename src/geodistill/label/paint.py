"""Instances of a tile become one class map: which one lies on top, and how often that had to be decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from geodistill.errors import UnknownNameError
from geodistill.label.masks import Runs
from geodistill.raster import Grid, atomic_path, output_error
from geodistill.spec import IGNORE_INDEX, Colour, Legend

Order = Literal["large-first", "annotation"]
"""``large-first``: small objects lie on top and survive. ``annotation``: later ones lie on top, as in the paper."""


@dataclass(frozen=True, eq=False)
class Painted:
    """A class map with what was painted over.

    Attributes:
        indices: ``(H, W)`` uint8 class indices; `IGNORE_INDEX` where no instance lies.
        overlapping: Pixels that more than one instance claims.
        between_classes: Those of them that instances of different classes claim.
        hidden: Instances of which no pixel is left to see.
    """

    indices: NDArray[np.uint8]
    overlapping: int
    between_classes: int
    hidden: int


def paint(
    instances: Sequence[Runs], classes: Sequence[int], height: int, width: int, order: Order = "large-first"
) -> Painted:
    """Paint instances over each other.

    Args:
        instances: Pixels of each, in the order of the annotation.
        classes: Class index of each, 0..254.
        height: Rows of the map.
        width: Columns of the map.
        order: Which lies on top.

    Raises:
        UnknownNameError: No order has that name.
    """
    if order not in get_args(Order):
        raise UnknownNameError("painting order", order, get_args(Order))
    sequence = list(range(len(instances)))
    if order == "large-first":
        sequence.sort(key=lambda i: -instances[i].area)  # stable: equals stay in the order of the annotation
    indices = np.full((height, width), IGNORE_INDEX, np.uint8)
    owner = np.full((height, width), -1, np.int32)
    twice = np.zeros((height, width), bool)
    mixed = np.zeros((height, width), bool)
    for position in sequence:
        top, left, mask = instances[position].crop()
        part = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
        taken = mask & (indices[part] != IGNORE_INDEX)
        twice[part] |= taken
        mixed[part] |= taken & (indices[part] != classes[position])
        indices[part][mask] = classes[position]
        owner[part][mask] = position
    seen = np.unique(owner)
    return Painted(indices, int(twice.sum()), int(mixed.sum()), len(instances) - int(np.count_nonzero(seen >= 0)))


def unlabelled_colour(legend: Legend) -> Colour:
    """Give the colour of unlabelled pixels in colour masks: white as in the paper, or another no class has."""
    choices: tuple[Colour, ...] = ((255, 255, 255), (0, 0, 0), (128, 128, 128))
    others = ((level, level, level) for level in range(1, 255))
    return next(colour for colour in (*choices, *others) if colour not in legend.colours)


def colour_table(legend: Legend) -> NDArray[np.uint8]:
    """Give ``(256, 3)`` uint8 colours of the values of an index mask."""
    table = np.full((256, 3), unlabelled_colour(legend), np.uint8)
    table[: len(legend)] = legend.colours
    return table


def write_mask(path: Path, indices: NDArray[np.uint8], grid: Grid | None, legend: Legend, *, colour: bool) -> None:
    """Write an index or colour mask whole or not at all; an index mask shows the legend's colours.

    Args:
        path: A PNG, or a GeoTIFF where a grid is given.
        indices: ``(H, W)`` uint8 class indices, `IGNORE_INDEX` where unlabelled.
        grid: Where the pixels lie; ``None`` for PNG.
        legend: Gives the colours.
        colour: Write RGB colours instead of indices.

    Raises:
        OutputError: The file cannot be written.
    """
    pixels = colour_table(legend)[indices] if colour else indices
    if grid is None:
        write_picture(path, pixels, None if colour else colour_table(legend))
        return
    planes = np.moveaxis(pixels, -1, 0) if colour else pixels[None]
    profile = grid.profile() | {"driver": "GTiff", "dtype": "uint8", "count": len(planes), "compress": "deflate"}
    profile |= {"photometric": "RGB"} if colour else {"nodata": IGNORE_INDEX}
    with atomic_path(path) as part:
        try:
            with rasterio.open(part, "w", **profile) as file:
                file.write(planes)
                if not colour:
                    file.colorinterp = [ColorInterp.palette]
                    file.write_colormap(1, {i: (*colour_, 255) for i, colour_ in enumerate(legend.colours)})
        except RasterioError as error:
            raise output_error(path, OSError(str(error))) from error


def write_picture(path: Path, pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> None:
    """Write ``(H, W)`` or ``(H, W, 3)`` uint8 as PNG, whole or not at all.

    Args:
        path: The file.
        pixels: Grey or colour; with a palette, places in it.
        palette: ``(256, 3)`` uint8, the colour in which each value is shown; `IGNORE_INDEX` is transparent.

    Raises:
        OutputError: The file cannot be written.
    """
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
        picture.info["transparency"] = IGNORE_INDEX  # GDAL takes one transparent entry for nodata
    with atomic_path(path) as part:
        picture.save(part, format="PNG")
