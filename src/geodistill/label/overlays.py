"""Pictures of a labelled image: boxes and prompts, masks in a colour for each object, classes as painted."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.data.mask_files import read_mask
from geodistill.label.boxes import rectangle
from geodistill.label.doubts import Shown, ViewedImage
from geodistill.label.label_set import LabelSet
from geodistill.label.masks import crop_runs
from geodistill.label.pixels import read_tiles
from geodistill.raster import Raster, Window

BASIC = ("cp", "hbox", "rhbox", "hbox-mask", "rbox-mask", "rhbox-mask")
"""The basic prompts, in the order of the SAMRS paper's figure 3."""

SIDE = 480
"""Side of a picture in pixels at most."""

LARGEST = 1024
"""Side of an image that is shown whole; of a larger one the surroundings of its most doubtful object are."""

Picture = NDArray[np.uint8]


def _window(view: ViewedImage) -> Window:
    """Return what is shown of an image: all, or the surroundings of its first object."""
    image = view.image
    if max(image.height, image.width) <= LARGEST:
        return Window(0, 0, image.height, image.width)
    left, top, right, bottom = view.objects[0].box
    height, width = min(SIDE, image.height), min(SIDE, image.width)
    row = int(np.clip((top + bottom) / 2 - height / 2, 0, image.height - height))
    column = int(np.clip((left + right) / 2 - width / 2, 0, image.width - width))
    return Window(row, column, height, width)


def draw_view(view: ViewedImage, label_set: LabelSet, prompt: str | None, *, two_boxes: bool = False) -> Picture:
    """Return the pictures of a view, three side by side, ``(h, 3 w, 3)`` uint8.

    They are boxes and the prompt, masks, and classes; without a prompt the six basic ones, in two rows. With
    ``two_boxes`` the set may have horizontal boxes of its own beside oriented ones.
    """
    window = _window(view)
    with Raster(view.image.image) as raster:
        rgb = next(iter(read_tiles(raster, [window], label_set.bands))).rgb
    scale = min(SIDE / max(window.height, window.width), 4.0)
    size = (max(round(window.width * scale), 1), max(round(window.height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    plain = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=how).astype(np.uint8)
    rows = slice(window.row, window.row + window.height)
    columns = slice(window.col, window.col + window.width)
    rings = [(one, _rings(one, two_boxes)) for one in view.objects]
    if prompt is None:
        basic = [_with_prompts(plain, rings, window, scale, one) for one in BASIC]
        return np.concatenate([np.concatenate(basic[:3], axis=1), np.concatenate(basic[3:], axis=1)])
    masks, covered = np.zeros((window.height, window.width, 3), np.uint8), np.zeros((window.height, window.width), bool)
    for one in reversed(view.objects):
        crop = crop_runs(one.runs, window).crop()
        masks[crop.place][crop.pixels] = instance_colour(one.number)
        covered[crop.place] |= crop.pixels
    indices = read_mask(view.image.mask, label_set.legend)[rows, columns]
    classes = label_set.legend.paint(indices)
    parts = [
        _with_prompts(plain, rings, window, scale, prompt),
        _blended(plain, masks, covered),
        cv2.resize(np.ascontiguousarray(classes), size, interpolation=cv2.INTER_NEAREST),
    ]
    return np.concatenate(parts, axis=1)


def instance_colour(number: int) -> tuple[int, int, int]:
    """Return a bright colour for an object; neighbours by number are far from each other."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618033988749895 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _blended(plain: Picture, colours: Picture, covered: NDArray[np.bool_]) -> Picture:
    size = (plain.shape[1], plain.shape[0])
    over = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST)
    where = cv2.resize(covered.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)[..., None] == 1
    mixed = np.where(where, plain * 0.4 + over * 0.6, plain)
    result: Picture = mixed.astype(np.uint8)
    return result


Rings = dict[str, NDArray[np.float64]]
"""Corners ``(4, 2)`` of an object's boxes, by the name of the prompt: ``hbox``, ``rbox``, ``rhbox``."""


def _rings(one: Shown, two_boxes: bool) -> Rings:
    """Return the boxes of an object as they may have been prompts.

    Where no oriented box was annotated, that of the label set is measured from the mask, and was no prompt.
    """
    hbox = rectangle(*one.box)
    is_measured = np.abs(one.runs.smallest_rectangle() - one.corners).max() < 0.01  # two decimals are kept
    rbox = hbox if is_measured else one.corners
    bounds = rectangle(*rbox.min(axis=0), *rbox.max(axis=0)) if two_boxes else hbox
    return {"hbox": hbox, "rbox": rbox, "rhbox": bounds}


def _with_prompts(
    plain: Picture, objects: Sequence[tuple[Shown, Rings]], window: Window, scale: float, prompt: str
) -> Picture:
    """Draw boxes in their object's colours, the doubtful ones thick; centre points and mask prompts where asked for."""
    picture = plain.copy()
    origin = np.array((window.col, window.row), np.float64)
    for one, rings in reversed(objects):
        colour, parts = instance_colour(one.number), prompt.split("+")
        for kind, corners in rings.items():
            ring = np.round((corners - origin) * scale).clip(-(2**14), 2**14).astype(np.int32)
            if f"{kind}-mask" in parts:
                filled = picture.copy()
                cv2.fillPoly(filled, [ring], colour)
                picture = cv2.addWeighted(picture, 0.65, filled, 0.35, 0).astype(np.uint8)
            # The horizontal box always; the oriented one also where its bounds are the prompt.
            if kind == "hbox" or any(part.startswith(kind) or (kind, part[:5]) == ("rbox", "rhbox") for part in parts):
                cv2.polylines(picture, [ring], True, colour, 3 if one.is_doubtful else 1, cv2.LINE_AA)
        if "cp" in parts:
            x, y = ((rings["rhbox"].mean(axis=0) - origin) * scale).round().clip(-(2**14), 2**14).astype(int).tolist()
            cv2.drawMarker(picture, (x, y), colour, cv2.MARKER_CROSS, 12, 2)
    return picture


def contact_sheet(views: Sequence[Picture]) -> Picture:
    """Return pictures of views, each three side by side, in two columns."""
    cells = []
    for picture in views:
        height = max(round(SIDE / 2 * picture.shape[0] * 3 / picture.shape[1]), 1)
        cell = np.full((min(height, 3 * SIDE) + 6, 3 * SIDE // 2 + 6, 3), 255, np.uint8)
        size = (3 * SIDE // 2, cell.shape[0] - 6)
        cell[:-6, :-6] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        cells.append(cell)
    if len(cells) % 2:
        cells.append(np.full_like(cells[-1], 255))
    rows = []
    for left, right in zip(cells[::2], cells[1::2], strict=True):
        tall = max(len(left), len(right))
        rows.append(np.concatenate([_padded(left, tall), _padded(right, tall)], axis=1))
    return np.concatenate(rows)


def _padded(picture: Picture, height: int) -> Picture:
    return np.concatenate([picture, np.full((height - len(picture), picture.shape[1], 3), 255, np.uint8)])
