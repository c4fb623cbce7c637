"""Pictures of scores: image, truth and prediction side by side, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geodistill.errors import one_line
from geodistill.files import atomic_path, write_figure
from geodistill.metrics import Scores
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.writing import plot_label

_GAP = 6
_LINE = 22
_TEXT = (40, 40, 40)
_FRAME = (190, 190, 190)
_MOST_NUMBERED = 40
"""Classes up to which the confusion picture writes its numbers."""


def to_rgb(image: NDArray[Any], bands: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Make an image of any bands and range visible.

    One stretch serves all shown bands, so that colours keep their balance: from the 1st to the 99th percentile of
    the pixels that have data (those that are 0 in every band have none).

    Args:
        image: ``(C, H, W)``, sensor units.
        bands: Band names; those called red, green and blue are shown, else the first three (or the first as grey).

    Returns:
        ``(H, W, 3)`` uint8.
    """
    names = [name.lower() for name in bands]
    colours = [names.index(name) for name in ("red", "green", "blue") if name in names]
    chosen = colours if len(colours) == 3 else ([0, 1, 2] if len(image) >= 3 else [0, 0, 0])
    shown = image[chosen].astype(np.float32)
    valid = shown[:, image.any(axis=0)]
    low, high = np.percentile(valid, (1, 99)) if valid.size else (0, 1)
    stretched = (shown - low) / max(float(high - low), 1e-6) * 255
    return np.ascontiguousarray(stretched.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def error_map(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
    """``(H, W)`` classes -> ``(H, W, 3)`` uint8: red where wrong, light grey where right, black where ignored."""
    picture = np.full((*truth.shape, 3), 225, np.uint8)
    picture[truth != prediction] = (205, 40, 40)
    picture[truth == IGNORE_INDEX] = 0
    return picture


def prediction_grid(
    images: Sequence[NDArray[Any]],
    truths: Sequence[NDArray[Any]],
    predictions: Sequence[NDArray[Any]],
    legend: Legend,
    path: Path,
    bands: Sequence[str] = (),
    side: int = 256,
) -> None:
    """Write a PNG with one row per sample: image, truth, prediction, errors; the legend stands below.

    Args:
        images: ``(C, H, W)`` each, sensor units.
        truths: ``(H, W)`` class indices each.
        predictions: ``(H, W)`` class indices each.
        legend: The classes.
        path: The picture.
        bands: Band names, to find red, green and blue.
        side: Side of each panel in pixels.

    Raises:
        OutputError: The picture cannot be written.
    """
    panels = [
        [to_rgb(image, bands), legend.paint(truth), legend.paint(prediction), error_map(truth, prediction)]
        for image, truth, prediction in zip(images, truths, predictions, strict=True)
    ]
    panel_grid(panels, ("image", "truth", "prediction", "errors (red)"), legend, path, side)


def panel_grid(
    panels: Sequence[Sequence[NDArray[np.uint8]]],
    titles: Sequence[str],
    legend: Legend,
    path: Path,
    side: int = 256,
    captions: Sequence[str] = (),
) -> None:
    """Write a PNG of panels in rows and columns; a title stands above each column, the legend below.

    Args:
        panels: ``(H, W, 3)`` uint8 each, row by row; the first of a row is the image.
        titles: One for each column.
        legend: The classes.
        path: The picture.
        side: Side of each panel in pixels.
        captions: One for each row, above it; none where none is given.

    Raises:
        OutputError: The picture cannot be written.
    """
    rows = [_row(row, side) for row in panels]
    width = rows[0].shape[1]
    above = [_text_line([(caption, 2)], width) for caption in captions] or [rows[0][:0]] * len(rows)
    header = _text_line([(title, index * (side + _GAP) + 2) for index, title in enumerate(titles)], width)
    lines = [part for pair in zip(above, rows, strict=True) for part in pair]
    write_png(path, np.concatenate([header, *lines, legend_strip(legend, width)]))


def legend_strip(legend: Legend, width: int) -> NDArray[np.uint8]:
    """Colours and names of the classes, ``(H, width, 3)`` uint8, in as many lines as they need."""
    places, x, line, names = [], 2, 0, [one_line(name) for name in legend.names]
    for name in names:
        needed = 30 + round(_font().getlength(name))
        if x + needed > width and x > 2:
            x, line = 2, line + 1
        places.append((x, line * _LINE))
        x += needed
    strip = np.full(((line + 1) * _LINE, width, 3), 255, np.uint8)
    for (left, top), colour in zip(places, legend.colours, strict=True):
        cv2.rectangle(strip, (left, top + 5), (left + 12, top + 17), colour, -1)
        cv2.rectangle(strip, (left, top + 5), (left + 12, top + 17), _TEXT, 1)
    return _write(strip, [(name, left + 18, top + 4) for name, (left, top) in zip(names, places, strict=True)])


def confusion_picture(scores: Scores, path: Path) -> None:
    """Write the confusion matrix, each row as shares of its true class.

    Raises:
        OutputError: The picture cannot be written.
    """
    count = len(scores.names)
    side = min(4.5 + 0.5 * count, 40.0)
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    totals = scores.counts.sum(1, keepdims=True)
    shares = np.divide(scores.counts, totals, out=np.zeros(scores.counts.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [plot_label(name) for name in scores.names]
    axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"percent of each true class (overall accuracy {100 * scores.oa:.1f})", fontsize=10)
    for row, column in np.ndindex(count, count) if count <= _MOST_NUMBERED else ():
        ink = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=8)
    write_figure(path, figure)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write ``(H, W, 3)`` uint8 RGB, whole or not at all.

    Raises:
        OutputError: The picture cannot be written.
    """
    data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    with atomic_path(path) as part:
        part.write_bytes(data)


def _row(panels: Sequence[NDArray[np.uint8]], side: int) -> NDArray[np.uint8]:
    gap = np.full((side + _GAP, _GAP, 3), 255, np.uint8)
    parts: list[NDArray[np.uint8]] = []
    for index, panel in enumerate(panels):
        cell = np.full((side + _GAP, side, 3), 255, np.uint8)
        scale = side / max(panel.shape[:2])
        size = (max(round(panel.shape[1] * scale), 1), max(round(panel.shape[0] * scale), 1))
        interpolation = cv2.INTER_AREA if index == 0 and scale < 1 else cv2.INTER_NEAREST
        cell[: size[1], : size[0]] = cv2.resize(panel, size, interpolation=interpolation)
        cv2.rectangle(cell, (0, 0), (size[0] - 1, size[1] - 1), _FRAME)  # white classes would end nowhere
        parts += [cell, gap]
    return np.concatenate(parts[:-1], axis=1)


def _text_line(texts: Sequence[tuple[str, int]], width: int) -> NDArray[np.uint8]:
    """Return a white line with each text from its column on."""
    return _write(np.full((_LINE, width, 3), 255, np.uint8), [(one_line(text), x, 4) for text, x in texts])


def _write(picture: NDArray[np.uint8], texts: Sequence[tuple[str, int, int]]) -> NDArray[np.uint8]:
    """Write each text with its upper left corner at ``x, y``."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for text, x, y in texts:
        draw.text((x, y), text, _TEXT, _font())
    return np.asarray(image)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: it is always there and knows most alphabets."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 12)
