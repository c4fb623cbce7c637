"""A legend made from the mask files themselves, where none is given."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from geodistill.data.mask_files import label_name, labels_mend, strips
from geodistill.errors import DataError, GeodistillWarning
from geodistill.legend_entries import Colour
from geodistill.raster import Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend

MAX_INFERRED_CLASSES = 64
"""A mask without legend and with more distinct values than this is taken for a picture, not for labels."""

_SHADES = 16
"""Largest difference, in a channel, of colours that may be one that was written otherwise."""


def infer_legend(paths: Iterable[Path]) -> Legend:
    """Make a legend from the values found in single-band masks, or the colours of those of three bands.

    Names and colours come from the masks' palette where they have one. Where their palettes have several colours at one
    value, the colours are the classes if these stand at other values too, as in files that number the colours that
    occur in them, or, with a warning, if each is in several files that share a colour at another value, as that of the
    background, and these are no shades of one; other tables say nothing, and the values are the classes, with a
    warning. Names are then, and without a palette, ``class0``, ``class1`` ... A value 255 beside others means
    "ignored", but exactly 0 and 255 mean background and foreground. A value 0 that the files call nodata, or leave
    transparent, is the class ``background``: tools that burn shapes into a raster write it so. Colours are named by
    themselves, ``#rrggbb``; beside masks of three bands those of a palette count as such.
    Files that cannot be read are passed over here; they are reported where the data are measured.

    Raises:
        DataError: The masks have too many values or colours to be classes, or are of both kinds.
    """
    counts: dict[int, int] = {}
    colours = set[Colour]()
    palettes: dict[int, dict[Colour, list[Path]]] = {}
    first: Path | None = None
    hidden, plain = 0, False
    for path in paths:
        try:
            with Raster(path) as raster:
                if raster.label_channels != 1:
                    _add_colours(raster, colours)
                    first = first or path
                    continue
                file_palette = {value: colour[:3] for value, colour in (raster.colormap or {}).items()}
                occurring = set[int]()
                for strip in strips(raster.grid.whole):
                    values, behind = _count_values(raster, strip, counts)
                    hidden += behind
                    occurring |= values
                plain = plain or not occurring <= file_palette.keys()
                for value in occurring & file_palette.keys():
                    palettes.setdefault(value, {}).setdefault(file_palette[value], []).append(path)
        except _LegendNeededError:
            raise
        except DataError:
            continue
        first = first or path
    sure = bool(colours) or _number_anew(palettes)
    by_colour = sure or _hold_one_class_each(palettes)
    if by_colour and plain:
        raise _LegendNeededError(
            f"masks of values and masks of colours, such as {first}", "one kind", "scan them apart"
        )
    differ = not sure and _warn_differing(palettes, by_colour)
    if by_colour:
        colours.update(*palettes.values())
        return Legend(tuple(label_name(colour) for colour in sorted(colours)), tuple(sorted(colours)))
    if not counts:
        raise DataError(f"masks without a single label{f', such as {first}' if first else ''}", "labelled masks")
    background = bool(hidden) and 0 not in counts
    palette = {} if differ else {value: next(iter(at)) for value, at in palettes.items()}
    return _legend_of_values(sorted({*counts, 0} if background else counts), palette, background)


def _number_anew(palettes: Mapping[int, Mapping[Colour, list[Path]]]) -> bool:
    """Whether most values that have several colours have one that stands at another value too."""
    values = Counter(colour for at in palettes.values() for colour in at)
    several = [any(values[colour] > 1 for colour in at) for at in palettes.values() if len(at) > 1]
    return 2 * sum(several) > len(several)


def _hold_one_class_each(palettes: Mapping[int, Mapping[Colour, list[Path]]]) -> bool:
    """Whether palettes that differ number a background that files share and one class of theirs, by its colour.

    Each such colour is in several files, as one drawn at random is not, and those at one value are no shades of one.
    """
    several = [at for at in palettes.values() if len(at) > 1]
    shared = any(len(at) == 1 and len(*at.values()) > 1 for at in palettes.values())
    recur = all(len(files) > 1 for at in several for files in at.values())
    few = sum(map(len, palettes.values())) <= MAX_INFERRED_CLASSES
    return bool(several) and shared and recur and few and all(np.ptp([*at], axis=0).max() > _SHADES for at in several)


def _warn_differing(palettes: Mapping[int, Mapping[Colour, list[Path]]], by_colour: bool) -> bool:
    """Warn where two masks have other colours at one value, and return whether any have."""
    for value, at in sorted(palettes.items()):
        if len(at) > 1:
            (one, [first, *_]), (other, [second, *_]) = islice(at.items(), 2)
            differ = f"{first} has {label_name(one)} at value {value}, {second} has {label_name(other)}"
            taken, other_reading = ("colours", "values") if by_colour else ("values", "colours")
            mend = f"if the {other_reading} are meant, give them as the legend"
            warnings.warn(f"{differ}: the {taken} are taken as the classes; {mend}", GeodistillWarning, stacklevel=3)
            return True
    return False


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
            labels_mend(raster.path, "give a legend if these are labels"),
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
        labels_mend(raster.path, "write 'classes: {name: \"#rrggbb\", ...}' to a YAML file and give it as the legend"),
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
