"""Mask files to class indices: single-band values, palette PNG, or RGB colours through a legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from geodistill.errors import DataError
from geodistill.legend_entries import Colour
from geodistill.raster import Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend, default_colours, hexadecimal

BLACK: Colour = (0, 0, 0)

STRIP_PIXELS = 4_000_000
"""Pixels read at once where a whole file is walked through."""


def strips(window: Window) -> Iterator[Window]:
    """Cut a window into full-width strips of at most about `STRIP_PIXELS`, so that memory stays bounded.

    GDAL decodes whole tiles, or whole strips of rows, and keeps few of them. A strip whose height is a multiple of
    the tile's ends on a border between tiles, so each tile is decoded for one strip alone::

        tiles of 512 rows  |-----|-----|-----|-----|
        strips             |-----------|-----------|    1024 rows: 4 tile rows decoded, not 5
    """
    # Common files have tiles of 256 or 512 rows.
    rows = max(STRIP_PIXELS // max(window.width, 1) // 512 * 512, 512 if window.width <= 32_768 else 64)
    for top in range(0, window.height, rows):
        yield Window(window.row + top, window.col, min(rows, window.height - top), window.width)


def label_name(label: int | Colour) -> str:
    """Write a mask value or colour for a message: ``7`` or ``#3c1098``."""
    return str(label) if isinstance(label, int) else hexadecimal(label)


def legend_text(legend: Legend, ignored: Sequence[int | Colour] = ()) -> str:
    """Return the YAML that `Legend.load` reads, for masks of values and of colours alike."""
    classes = {
        name: {"colour": label_name(colour), "value": value}
        for name, colour, value in zip(legend.names, legend.colours, legend.values, strict=True)
    }
    ignore = [label if isinstance(label, int) else label_name(label) for label in ignored]
    text: str = yaml.safe_dump({"classes": classes, "ignore": ignore}, sort_keys=False, allow_unicode=True)
    return text


Labels = tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]
"""What a mask file holds, ``(1, H, W)`` values or ``(3, H, W)`` colours; which pixels are valid; which are hidden."""


def read_labels(raster: Raster, window: Window | None = None) -> Labels:
    """Read a part of an open mask file, one band of values or three of 8-bit colours, as it is.

    Raises:
        DataError: The file has another number of bands or cannot be read.
    """
    if raster.label_channels not in (1, 3) or (raster.label_channels == 3 and raster.label_dtype != np.uint8):
        raise DataError(
            f"mask {raster.path} with {raster.label_channels} bands of {raster.label_dtype}",
            "one band of class values or three 8-bit bands of colours",
        )
    return raster.read_labels(window)


def decode_mask(
    raster: Raster, legend: Legend, window: Window | None = None, labels: Labels | None = None
) -> tuple[NDArray[np.uint8], dict[int | Colour, int]]:
    """Return a part of an open mask file, read here unless its ``labels`` are given, as class indices.

    A palette file is read through its colours where `means_colours`, any other through its values. A pixel that the
    file calls nodata, or transparent, is ignored, unless the legend names its value or colour: the background of a
    mask is often written so. A value in no legend entry is ignored where the palette has an ignored colour for it.

    Returns:
        ``(H, W)`` uint8 class indices, `IGNORE_INDEX` where ignored, not valid or unknown; and the number of valid
        pixels of each value or colour that is in no legend entry.

    Raises:
        DataError: See `read_labels`.
    """
    pixels, valid, hidden = labels or read_labels(raster, window)
    palette = raster.colormap
    if palette is not None and pixels.shape[0] == 1 and means_colours(palette, legend):
        return _decode_palette(pixels[0], valid, hidden, palette, legend)
    if valid.all():
        indices, unnamed = _decode(pixels, legend)
    else:
        indices = np.full(valid.shape, IGNORE_INDEX, np.uint8)
        indices[valid], unnamed = _decode(pixels[:, valid], legend)
    if hidden.any():
        # What no entry names is no label here, and the nearest entry none either.
        indices[hidden], _ = _decode(pixels[:, hidden], replace(legend, nearest=False))
    ignored = _ignored_entries(palette, legend)
    return indices, {label: count for label, count in unnamed.items() if label not in ignored}


def means_colours(palette: Mapping[int, tuple[int, ...]], legend: Legend) -> bool:
    """Whether the colours of a mask's palette say what its classes are, not the numbers of its entries.

    They do where the palette holds every colour of the legend. A file that was made small has the colours that occur
    in it alone, in an order of its own: of a legend whose colours were chosen, most entries are colours, and one
    stands at the value of another class. One alone says nothing: black is an entry of nearly every palette.
    """
    colours = {value: colour[:3] for value, colour in palette.items()}
    if set(legend.colours) <= set(colours.values()):
        return True
    if legend.colours == default_colours(len(legend)):
        return False
    # GeoTIFF fills up with black.
    filled = list(colours.values()).count(BLACK) > 1
    entries = {value: colour for value, colour in colours.items() if not (filled and colour == BLACK)}
    known = {v: colour for v, colour in entries.items() if colour in (*legend.colours, *legend.ignore_colours)}
    of_values = dict(zip(legend.values, legend.colours, strict=True))
    moved = any(of_values.get(v) != c and (v in of_values or c in legend.colours) for v, c in known.items())
    return moved and 2 * len(known) > len(entries)


def _ignored_entries(palette: Mapping[int, tuple[int, ...]] | None, legend: Legend) -> set[int]:
    """Return the values that a palette has in a colour that the legend says to ignore."""
    return {value for value, colour in (palette or {}).items() if colour[:3] in legend.ignore_colours}


def ignored_labels(raster: Raster, legend: Legend, labels: Labels) -> dict[int | Colour, int]:
    """Count the valid pixels of each value, or colour, of an open mask file that the legend says to ignore."""
    pixels, valid, _ = labels
    counts: dict[int | Colour, int] = {}
    palette = raster.colormap
    if pixels.shape[0] == 1 and palette is not None and means_colours(palette, legend):
        for value, colour in palette.items():
            if colour[:3] in legend.ignore_colours:
                counts[colour[:3]] = counts.get(colour[:3], 0) + int((pixels[0][valid] == value).sum())
    elif pixels.shape[0] == 1:
        counts = {value: int((pixels[0][valid] == np.int64(value)).sum()) for value in legend.ignore_values}
        if ignored := _ignored_entries(palette, legend):
            _, unnamed = legend.indices_from_values(pixels[0][valid])
            counts |= {value: count for value, count in unnamed.items() if value in ignored}
    else:
        counts = {c: int((pixels[:, valid] == np.array(c)[:, None]).all(0).sum()) for c in legend.ignore_colours}
    return {label: count for label, count in counts.items() if count}


def _decode(pixels: NDArray[Any], legend: Legend) -> tuple[NDArray[np.uint8], dict[int | Colour, int]]:
    """Turn ``(1, ...)`` values or ``(3, ...)`` colours into class indices; also give the unknown ones' counts."""
    unnamed: dict[int | Colour, int] = {}
    if pixels.shape[0] == 1:
        known, unnamed_values = legend.indices_from_values(pixels[0])
        unnamed.update(unnamed_values.items())
    else:
        known, unnamed_colours = legend.indices_from_colours(pixels)
        unnamed.update(unnamed_colours.items())
    return known, unnamed


def _decode_palette(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    palette: Mapping[int, tuple[int, ...]],
    legend: Legend,
) -> tuple[NDArray[np.uint8], dict[int | Colour, int]]:
    """Decode each entry of a palette once, instead of each pixel; arguments and result as in `decode_mask`."""
    colours = np.zeros((3, 1, 1 + max(*palette, int(values.max(initial=0)))), np.uint8)
    colours[:, 0, list(palette)] = np.array([colour[:3] for colour in palette.values()]).T
    table, unknown = legend.indices_from_colours(colours)
    indices = np.where(valid, table[0].take(values), np.uint8(IGNORE_INDEX))
    if hidden.any():
        # What no entry names is no label here, and the nearest entry none either.
        named, _ = replace(legend, nearest=False).indices_from_colours(colours)
        indices[hidden] = named[0].take(values[hidden])
    counts = np.bincount(values[valid].ravel(), minlength=colours.shape[2])
    unnamed: Counter[int | Colour] = Counter()
    for value in np.flatnonzero(counts).tolist():
        red, green, blue = colours[:, 0, value].tolist()
        if (red, green, blue) in unknown:
            unnamed[red, green, blue] += int(counts[value])
    return indices, dict(unnamed)


def unknown_labels_error(path: Path, unnamed: dict[int | Colour, int], legend: Legend) -> DataError:
    """Say which labels of a mask are in no legend entry."""
    most = sorted(unnamed, key=lambda label: -unnamed[label])[:4]
    named = ", ".join(f"{label_name(label)} ({unnamed[label]} pixels)" for label in most)
    more = f" and {len(unnamed) - 4} more" if len(unnamed) > 4 else ""
    kind = "label" if isinstance(most[0], int) else "colour"
    known = legend.values if kind == "label" else tuple(label_name(c) for c in legend.colours)
    return DataError(
        f"mask {path} has {kind} {named}{more} outside the legend",
        f"{kind}s among {', '.join(str(v) for v in known)}",
        labels_mend(path, "name them in the legend, as classes or under 'ignore'"),
    )


def labels_mend(path: Path, otherwise: str) -> str:
    """Return what to do about labels that are not as expected; of a JPEG no legend could name them all."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return "JPEG changes label values: export masks as PNG or GeoTIFF"
    return otherwise


def size_mismatch_error(image: Path, size: tuple[int, int], mask: Path, mask_size: tuple[int, int]) -> DataError:
    """Say that a mask does not fit its image; sizes are (height, width)."""
    return DataError(
        f"mask {mask} is {mask_size[1]} x {mask_size[0]} and its image {image.name} is {size[1]} x {size[0]}",
        "the same width and height",
        "export the mask on the image's grid",
    )


def read_mask(
    path: Path | str, legend: Legend, window: Window | None = None, *, ignore_unknown: bool = False
) -> NDArray[np.uint8]:
    """Read a mask file, or a window of it, as class indices ``(H, W)`` uint8.

    What lies outside the file is `IGNORE_INDEX`, and so are labels in no legend entry with ``ignore_unknown``.

    Raises:
        DataError: The file cannot be read, or has labels outside the legend.
    """
    with Raster(path) as raster:
        indices, unnamed = decode_mask(raster, legend, window)
    if unnamed and not ignore_unknown:
        raise unknown_labels_error(Path(path), unnamed, legend)
    return indices


def label_counts(indices: NDArray[np.uint8], classes: int) -> tuple[NDArray[np.int64], int]:
    """Count ``(N,)`` class indices: pixels of each class, and ignored ones."""
    counts: NDArray[Any] = np.bincount(indices.reshape(-1), minlength=256)
    return counts[:classes].astype(np.int64), int(counts[classes:].sum())
