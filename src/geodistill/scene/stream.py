"""The core of whole-scene inference: rows of windows in, finished rows of probabilities out, in flat memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.scene.blend import BLENDS, RollingStrip
from geodistill.scene.windows import MAX_OVERLAP, Area, window_starts
from geodistill.segmenter import Segmenter


@dataclass(frozen=True)
class SceneRows:
    """Finished rows of a scene.

    Attributes:
        first: Row of the scene they begin at.
        probabilities: ``(K, rows, W)`` float32, summing to 1 over the classes where valid.
        valid: ``(rows, W)`` bool.
    """

    first: int
    probabilities: Tensor
    valid: NDArray[np.bool_]


def stream(
    segmenter: Segmenter,
    area: Area,
    *,
    overlap: float = 0.25,
    blend: str = "cosine",
    batch_size: int = 4,
    flips: bool = False,
) -> Generator[SceneRows, None, None]:
    """Segment an area of any size.

    Windows have the side the Segmenter was trained on. Pixels without data, and those of a window that reaches
    beyond a smaller area, are 0 as they were in training. One strip of windows is in memory at a time, so the peak
    grows with width x window and not with the height. The next rows are read while a strip is computed. Windows
    without any valid pixel never reach the network.

    Args:
        segmenter: The model, on its device.
        area: What to segment.
        overlap: Smallest share of a window that its neighbour covers too, 0 to 0.75.
        blend: ``cosine`` or ``none``.
        batch_size: Windows a forward pass.
        flips: Average over the image and its horizontal, vertical and double mirror.

    Yields:
        Consecutive rows, from the top, covering the area exactly once.

    Raises:
        DataError: The raster has another number of bands than the Segmenter, or cannot be read.
        RecipeError: Overlap or batch size are out of range.
        UnknownNameError: There is no such blending.
    """
    check_bands(segmenter, area)
    check_options(overlap, blend, batch_size)
    size, height, width = segmenter.tile, area.window.height, area.window.width
    tops, lefts = window_starts(height, size, overlap), window_starts(width, size, overlap)
    padded = lefts[-1] + size
    device = next(segmenter.parameters()).device
    strip = RollingStrip(segmenter.spec.classes, tops, lefts, size, blend, device)
    image = np.zeros((segmenter.spec.channels, size, padded), np.float32)
    valid = np.zeros((size, padded), bool)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(area.read_rows, 0, size, padded)
        for index, top in enumerate(tops):
            fresh, seen = ahead.result()
            kept = size - fresh.shape[1]
            image[:, :kept], valid[:kept] = image[:, size - kept :].copy(), valid[size - kept :].copy()
            image[:, kept:], valid[kept:] = fresh, seen
            if index + 1 < len(tops):
                ahead = reader.submit(area.read_rows, top + size, tops[index + 1] + size, padded)
            _add_windows(segmenter, strip, image, valid, lefts, batch_size, flips, device)
            finished = strip.finish_row()
            rows = min(finished.shape[1], height - top)
            yield SceneRows(top, finished[:, :rows, :width], valid[:rows, :width].copy())


def check_bands(segmenter: Segmenter, area: Area) -> None:
    """Refuse a raster whose bands are not as many as the Segmenter's.

    Raises:
        DataError: They differ.
    """
    spec, raster = segmenter.spec, area.raster
    if raster.channels != spec.channels:
        raise DataError(
            f"{raster.path} has {raster.channels} bands", f"{spec.channels} ({', '.join(spec.bands)}) for this model"
        )


def check_options(overlap: float, blend: str, batch_size: int) -> None:
    """Refuse settings that no scene can be segmented with.

    Raises:
        RecipeError: Overlap or batch size are out of range.
        UnknownNameError: There is no such blending.
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise RecipeError(f"overlap {overlap}", f"a share from 0 to {MAX_OVERLAP}")
    if blend not in BLENDS:
        raise UnknownNameError("blending", blend, BLENDS)
    if batch_size < 1:
        raise RecipeError(f"batch size {batch_size}", "at least 1")


def _add_windows(
    segmenter: Segmenter,
    strip: RollingStrip,
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    lefts: Sequence[int],
    batch_size: int,
    flips: bool,
    device: torch.device,
) -> None:
    size = segmenter.tile
    columns = [i for i, left in enumerate(lefts) if valid[:, left : left + size].any()]
    for first in range(0, len(columns), batch_size):
        chosen = columns[first : first + batch_size]
        windows = np.stack([image[:, :, lefts[i] : lefts[i] + size] for i in chosen])
        probabilities = window_probabilities(segmenter, torch.from_numpy(windows).to(device), flips)
        for position, column in enumerate(chosen):
            strip.add(column, probabilities[position])


@torch.inference_mode()
def window_probabilities(segmenter: Segmenter, windows: Tensor, flips: bool = False) -> Tensor:
    """``(B, C, H, W)`` sensor units -> ``(B, K, H, W)`` float32 class probabilities, averaged over mirrors if asked."""
    windows = windows.contiguous(memory_format=torch.channels_last)
    probabilities: Tensor = segmenter(windows).float().softmax(1)
    if not flips:
        return probabilities
    for axes in ([3], [2], [2, 3]):
        probabilities += segmenter(windows.flip(axes)).float().softmax(1).flip(axes)
    return probabilities / 4
