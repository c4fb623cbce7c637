"""Mask files to class indices: single-band values, palette PNG, or RGB colours through a legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

MAX_INFERRED_CLASSES = 64
"""A mask without legend and with more distinct values than this is taken for a picture, not for labels."""

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
    mask is often written so.

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
        return _decode(pixels, legend)
    indices = np.full(valid.shape, IGNORE_INDEX, np.uint8)
    indices[valid], unnamed = _decode(pixels[:, valid], legend)
    if hidden.any():
        # What no entry names is no label here, and the nearest entry none either.
        indices[hidden], _ = _decode(pixels[:, hidden], replace(legend, nearest=False))
    return indices, unnamed


def means_colours(palette: Mapping[int, tuple[int, ...]], legend: Legend) -> bool:
    """Whether the colours of a mask's palette say what its classes are, not the numbers of its entries.

    They do where the palette holds every colour of the legend; and, of a legend whose colours were chosen, where it
    holds no others, or that of a class at the value of another. A file that was made small has the colours that occur
    in it alone, in an order of its own.
    """
    colours = {value: colour[:3] for value, colour in palette.items()}
    if set(legend.colours) <= set(colours.values()):
        return True
    if legend.colours == default_colours(len(legend)):
        return False
    of_values = dict(zip(legend.values, legend.colours, strict=True))
    moved = any(colours[v] in legend.colours and colours[v] != of_values[v] for v in colours.keys() & of_values.keys())
    last = max((value for value, colour in colours.items() if any(colour)), default=0)  # GeoTIFF fills up with black
    entries = {colour for value, colour in colours.items() if value <= last}
    return moved or entries <= {*legend.colours, *legend.ignore_colours}


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
        _mend(path, "name them in the legend, as classes or under 'ignore'"),
    )


def _mend(path: Path, otherwise: str) -> str:
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


def infer_legend(paths: Iterable[Path]) -> Legend:
    """Make a legend from the values found in single-band masks, or the colours of those of three bands.

    Names and colours come from the masks' palette where they have one; where their palettes have other colours at one
    value, the colours are the classes. Without a palette names are ``class0``, ``class1`` ... A
    value 255 beside others means "ignored", but exactly 0 and 255 mean background and foreground. A value 0 that the
    files call nodata, or leave transparent, is the class ``background``: tools that burn shapes into a raster write it
    so. Colours are named by themselves, ``#rrggbb``; beside masks of three bands those of a palette count as such.
    Files that cannot be read are passed over here; they are reported where the data are measured.

    Raises:
        DataError: The masks have too many values or colours to be classes, or are of both kinds.
    """
    counts: dict[int, int] = {}
    colours, painted = set[Colour](), set[Colour]()
    palette: dict[int, Colour] = {}
    first: Path | None = None
    hidden, plain, differing = 0, False, False
    for path in paths:
        try:
            with Raster(path) as raster:
                if raster.label_channels != 1:
                    _add_colours(raster, colours)
                    first = first or path
                    continue
                file_palette = {value: colour[:3] for value, colour in (raster.colormap or {}).items()}
                for strip in strips(raster.grid.whole):
                    values, behind = _count_values(raster, strip, counts)
                    hidden += behind
                    plain = plain or not values <= file_palette.keys()
                    shown = {value: file_palette[value] for value in values & file_palette.keys()}
                    differing = differing or any(palette.get(v, colour) != colour for v, colour in shown.items())
                    palette |= shown
                    painted.update(shown.values())
        except _LegendNeededError:
            raise
        except DataError:
            continue
        first = first or path
    if (colours or differing) and plain:
        raise _LegendNeededError(
            f"masks of values and masks of colours, such as {first}", "one kind", "scan them apart"
        )
    if colours or differing:
        colours |= painted
        return Legend(tuple(label_name(colour) for colour in sorted(colours)), tuple(sorted(colours)))
    if not counts:
        raise DataError(f"masks without a single label{f', such as {first}' if first else ''}", "labelled masks")
    background = bool(hidden) and 0 not in counts
    return _legend_of_values(sorted({*counts, 0} if background else counts), palette, background)


def _count_values(raster: Raster, strip: Window, counts: dict[int, int]) -> tuple[set[int], int]:
    """Add the pixels of each value to ``counts``.

    Returns:
        The values, and how many pixels of value 0 nodata or alpha hides.
    """
    pixels, valid, hidden = raster.read_labels(strip)
    values, numbers = np.unique(pixels[0][valid], return_counts=True)
    for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
        counts[int(value)] = counts.get(int(value), 0) + number
    whole = bool((values == np.floor(values)).all())
    if len(counts) > MAX_INFERRED_CLASSES or values.min(initial=0) < 0 or not whole:
        raise _LegendNeededError(
            f"mask {raster.path} has values such as {', '.join(map(str, values[:8].tolist()))}",
            f"up to {MAX_INFERRED_CLASSES} class values from 0",
            _mend(raster.path, "give a legend if these are labels"),
        )
    return {int(value) for value in values.tolist()}, int(np.count_nonzero(pixels[0][hidden] == 0))


def _add_colours(raster: Raster, colours: set[Colour]) -> None:
    """Add the colours of a mask to those found before.

    Raises:
        DataError: It has other bands than three of 8 bits, or there are more colours than classes might be.
    """
    if raster.label_channels != 3 or raster.label_dtype != np.uint8:
        raise _needs_legend(raster)
    for strip in strips(raster.grid.whole):
        pixels, valid, _ = raster.read_labels(strip)
        packed = pixels[:, valid].astype(np.uint32)
        values = np.unique(packed[0] << 16 | packed[1] << 8 | packed[2]).tolist()
        colours.update((value >> 16, value >> 8 & 255, value & 255) for value in values[: MAX_INFERRED_CLASSES + 1])
        if len(colours) > MAX_INFERRED_CLASSES:
            raise _needs_legend(raster)


class _LegendNeededError(DataError):
    """No legend can be made from these masks."""


def _needs_legend(raster: Raster) -> _LegendNeededError:
    """Refuse a colour mask, naming the colours its first rows hold so that a legend is soon written."""
    window = Window(0, 0, min(raster.grid.height, 2048), min(raster.grid.width, 2048))
    listed_colours = ""
    if raster.label_channels == 3 and raster.label_dtype == np.uint8:
        pixels, _, _ = raster.read_labels(window)
        colours, numbers = np.unique(pixels.reshape(3, -1), axis=1, return_counts=True)
        order = np.argsort(-numbers)[:6]
        names = [label_name((int(r), int(g), int(b))) for r, g, b in colours[:, order].T]
        listed_colours = f" (its colours: {', '.join(names)})"
    return _LegendNeededError(
        f"mask {raster.path} has {raster.label_channels} bands{listed_colours} and no legend is given",
        "a legend file that names each colour's class",
        _mend(raster.path, "write 'classes: {name: \"#rrggbb\", ...}' to a YAML file and give it as the legend"),
    )


def _legend_of_values(values: list[int], palette: dict[int, Colour], background: bool) -> Legend:
    if values == [0, 255]:
        return Legend(("background", "foreground"), values=(0, 255))
    ignored = (IGNORE_INDEX,) if IGNORE_INDEX in values and len(values) > 1 else ()
    classes = tuple(value for value in values if value not in ignored)
    colours = tuple(palette.get(value, (0, 0, 0)) for value in classes)
    if palette and len(set(colours)) == len(colours):
        return Legend(tuple(label_name(c) for c in colours), colours, classes, ignored)
    names = tuple("background" if background and value == 0 else f"class{value}" for value in classes)
    return Legend(names, values=classes, ignore_values=ignored)


def label_counts(indices: NDArray[np.uint8], classes: int) -> tuple[NDArray[np.int64], int]:
    """Count ``(N,)`` class indices: pixels of each class, and ignored ones."""
    counts: NDArray[Any] = np.bincount(indices.reshape(-1), minlength=256)
    return counts[:classes].astype(np.int64), int(counts[classes:].sum())
