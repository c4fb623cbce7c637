"""The core of whole-scene inference: strips of windows in, finished rows of a map out, in flat memory."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError
from geodistill.inference.class_sets import least_probability
from geodistill.inference.network import SPAN, Network, reader_threads
from geodistill.inference.options import SlidingOptions
from geodistill.inference.strips import Hole, Strip, read_strips
from geodistill.inference.windows import Area, Blender, Part, WindowPlan
from geodistill.raster import Raster
from geodistill.spec import IGNORE_INDEX

if TYPE_CHECKING:
    from geodistill.inference.checkpoint import EdgeFile

STEPS = 250
"""A uint8 probability is this many times the true one, rounded; 255 is nodata."""

CHOOSE_BANDS = "choose some of them with --bands"
"""What to do about too many bands where they can be chosen."""


@dataclass(frozen=True)
class SceneRows:
    """Finished rows of a scene, or of a block of it.

    Attributes:
        row: The row of windows that finished them.
        first: Row of the scene they begin at.
        layers: ``(bands, rows, W)`` by name: ``classes`` uint8, 255 where not valid; where asked for ``confidence``
            ``distance`` and ``class_sets`` uint8 and ``probabilities`` in the sample type asked for.
        valid: ``(rows, W)`` bool.
        windows: Windows that the network has seen for them.
        holes: What could not be read.
    """

    row: int
    first: int
    layers: dict[str, NDArray[np.uint8] | NDArray[np.float32]]
    valid: NDArray[np.bool_]
    windows: int
    holes: tuple[Hole, ...]

    @property
    def classes(self) -> NDArray[np.uint8]:
        """``(rows, W)`` uint8 classes, `IGNORE_INDEX` where not valid."""
        classes: NDArray[np.uint8] = self.layers["classes"][0].astype(np.uint8, copy=False)
        return classes


def stream(
    network: Network,
    area: Area,
    windows: WindowPlan,
    options: SlidingOptions,
    *,
    batch: int,
    part: Part | None = None,
    left: EdgeFile | None = None,
    right: EdgeFile | None = None,
) -> Generator[SceneRows, None, None]:
    """Segment an area of any size.

    Windows have the side the network was trained on. Pixels without data, and those of a window that reaches
    beyond a smaller area, are 0 as they were in training. One strip of windows is in memory at a time, so the peak
    grows with the width and not with the height. The next rows are read while a strip is computed. Windows
    without any valid pixel never reach the network.

    A block (``part``) that does not begin at the top computes again the rows of windows above that overlap it: one,
    where neighbours overlap by at most half. One that does not begin at the left edge, or end at the right one, passes
    sums on through ``left`` and ``right``.

    Yields:
        Consecutive rows, from the top, covering the block exactly once.

    Raises:
        DataError: The raster has another number of bands than the network, or cannot be read.
    """
    check_bands(area.raster, network.bands)
    part = part or Part.whole(windows)
    width = part.pixels(windows).width
    blender = Blender(network.planes, windows, part, options.blend, network.device)
    coverage = options.class_sets
    least = None if coverage is None else least_probability(network.class_sets, coverage)
    reducer = RowReducer(network.classes, windows.size, width, options, network.device, least, network.distance)
    first_row = windows.reaching(part.first_row)
    threads = reader_threads(options, area.raster)
    strips = read_strips(area, windows, part, first_row, threads=threads, keep_going=options.keep_going)
    row_of_windows = _WindowRow(network, windows, part, batch, blender, reducer, left, right)
    with closing(strips):
        for strip in strips:
            row = strip.row
            computed = row_of_windows.compute(strip)
            if row < part.first_row:
                continue
            rows = min(windows.step_down(row), windows.height - windows.tops[row])
            valid = strip.valid[:rows, :width].copy()
            layers = reducer.take(rows, valid)
            yield SceneRows(row, windows.tops[row], layers, valid, computed, strip.holes)


def check_bands(raster: Raster, bands: Sequence[str], mend: str = "") -> None:
    """Refuse a raster whose bands are not as many as a model's; ``mend`` is what to do about too many.

    Raises:
        DataError: They differ.
    """
    if raster.channels != len(bands):
        named = ", ".join(bands[:12]) + (" ..." if len(bands) > 12 else "")
        raise DataError(
            f"{raster.source} has {raster.channels} bands",
            f"{len(bands)} ({named}) for this model",
            mend if raster.channels > len(bands) else "",
        )


@dataclass(frozen=True)
class _WindowRow:
    """Computes a row of windows at a time and passes its finished pixels on."""

    network: Network
    windows: WindowPlan
    part: Part
    batch: int
    blender: Blender
    reducer: RowReducer
    left: EdgeFile | None
    right: EdgeFile | None

    @torch.inference_mode()
    def compute(self, strip: Strip) -> int:
        """Compute the windows of a strip that hold data; return how many."""
        part, row = self.part, strip.row
        self.blender.start_row(row, None if self.left is None else self.left.read(row).to(self.network.device))
        computed = 0
        for first in range(part.first_column, part.last_column, self.batch * SPAN):
            group = range(first, min(first + self.batch * SPAN, part.last_column))
            visible = [column for column in group if strip.valid[:, self._columns(column)].any()]
            computed += len(visible)
            done = group.start
            for start in range(0, len(visible), self.batch):
                chosen = visible[start : start + self.batch]
                images = [strip.image[:, :, self._columns(column)] for column in chosen]
                maps = self.network.probabilities(images, [(row, column) for column in chosen])
                for column, probabilities in zip(chosen, maps, strict=True):
                    self._finish(done, column)
                    self.blender.add(column, probabilities)
                    self._finish(column, column + 1)
                    done = column + 1
            self._finish(done, group.stop)
        if self.right is not None:
            self.right.write(row, self.blender.edge().cpu())
        self.blender.end_row()
        return computed

    def _columns(self, column: int) -> slice:
        """Return the columns of the strip under a window."""
        left = self._offset(column)
        return slice(left, left + self.windows.size)

    def _offset(self, column: int) -> int:
        return self.windows.lefts[column] - self.windows.lefts[self.part.first_column]

    def _finish(self, first: int, last: int) -> None:
        """End the windows from ``first`` to before ``last``, left to right."""
        for column in range(first, last):
            self.reducer.put(self._offset(column), self.blender.finish(column))


class RowReducer:
    """Collects a row of windows' finished pixels, on the device, as map values: at most ``size`` rows of a block.

    ``least`` is the probability from which on a class is in a pixel's set, where sets are asked for; with ``distance``
    a last plane is the distance head's.
    """

    def __init__(
        self,
        classes: int,
        size: int,
        width: int,
        options: SlidingOptions,
        device: torch.device | str,
        least: float | None = None,
        distance: bool = False,
    ) -> None:
        shape = (size, width)
        self._with_confidence, self._samples = options.with_confidence, options.probabilities
        self._confidence_as = options.confidence_as
        self._classes = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._confidence = torch.zeros(shape if self._with_confidence else 0, dtype=torch.uint8, device=device)
        kind = torch.uint8 if self._samples == "uint8" else torch.float32
        many = (classes, *shape) if self._samples else (0,)
        self._probabilities = torch.zeros(many, dtype=kind, device=device)
        self._distance = torch.zeros(shape if distance else 0, dtype=torch.uint8, device=device)
        self._with_distance, self._least = distance, least
        sets = (0,) if least is None else (classes + 1, *shape)
        self._sets = torch.zeros(sets, dtype=torch.uint8, device=device)

    def put(self, column: int, finished: Tensor) -> None:
        """Put in ``(K, rows, columns)`` probabilities that begin at a column of the block; what is beyond it is cut."""
        columns = min(finished.shape[2], self._classes.shape[1] - column)
        rows = finished.shape[1]
        finished = finished[:, :, :columns]
        place = (slice(0, rows), slice(column, column + columns))
        if self._with_distance:
            self._distance[place] = as_steps(finished[-1])
            finished = finished[:-1]
        classes, highest = most_probable(finished)
        self._classes[place] = classes
        if self._with_confidence:
            self._confidence[place] = as_steps(confidence_of(finished, highest, self._confidence_as))
        if self._least is not None:
            self._sets[(slice(None), *place)] = sets_of(finished, classes, self._least)
        if self._samples:
            kept = self._probabilities[(slice(None), *place)]
            if self._samples == "uint8":
                kept.copy_(as_steps(finished))
            else:
                kept.copy_(finished.half() if self._samples == "float16" else finished)

    def take(self, rows: int, valid: NDArray[np.bool_]) -> dict[str, NDArray[np.uint8] | NDArray[np.float32]]:
        """Return the first rows of each layer, ``(bands, rows, W)``; nodata where not valid: 255, or NaN of floats."""
        layers = {"classes": self._classes[None]}
        if self._with_confidence:
            layers["confidence"] = self._confidence[None]
        if self._with_distance:
            layers["distance"] = self._distance[None]
        if self._least is not None:
            layers["class_sets"] = self._sets
        if self._samples:
            layers["probabilities"] = self._probabilities
        taken = {name: layer[:, :rows].cpu().numpy().copy() for name, layer in layers.items()}
        if not valid.all():
            for values in taken.values():
                values[:, ~valid] = IGNORE_INDEX if values.dtype == np.uint8 else np.nan
        return taken


def as_steps(probabilities: Tensor) -> Tensor:
    """Return probabilities 0..1 as uint8 0..`STEPS`."""
    return (probabilities * STEPS).round_().clamp_(0, STEPS).to(torch.uint8)


def confidence_of(probabilities: Tensor, highest: Tensor, kind: str) -> Tensor:
    """Return how sure the network is of each pixel, ``(H, W)`` in 0..1, 1 where it is sure.

    ``probability`` is that of the class; ``margin`` what it is above the next class; ``entropy`` is
    ``1 - H / log K``, the entropy of the K classes' probabilities against its largest.

    Args:
        probabilities: ``(K, H, W)`` that add up to 1.
        highest: ``(H, W)`` their highest.
        kind: One of `CONFIDENCES`.
    """
    if kind == "probability" or len(probabilities) == 1:
        return highest
    if kind == "entropy":
        entropies: Tensor = torch.special.entr(probabilities).sum(0)
        return 1 - entropies / math.log(len(probabilities))
    first, second = probabilities[0], torch.zeros_like(highest)
    for plane in probabilities[1:]:
        second = torch.maximum(second, torch.minimum(first, plane))
        first = torch.maximum(first, plane)
    return first - second


def most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first of the highest along the first axis of ``(K, H, W)``: its position as uint8, and its value.

    Whole planes are compared, which is many times as fast on a CPU as `Tensor.argmax` over the first axis.
    """
    highest = probabilities[0]
    classes = torch.zeros(highest.shape, dtype=torch.uint8, device=highest.device)
    for index in range(1, len(probabilities)):
        above = probabilities[index].gt(highest).view(torch.uint8)
        torch.maximum(classes, above.mul_(index), out=classes)
        highest = torch.maximum(highest, probabilities[index])
    return classes, highest


def sets_of(probabilities: Tensor, classes: Tensor, least: float) -> Tensor:
    """Return the class sets of ``(K, H, W)`` probabilities: the most probable class, and all of at least ``least``.

    Args:
        probabilities: They add up to 1.
        classes: ``(H, W)`` uint8, the most probable class of each pixel.
        least: Compared in the steps of 1/250 that maps hold probabilities in.

    Returns:
        ``(K + 1, H, W)`` uint8: how many classes the set holds, and 1 for each of them.
    """
    inside = (as_steps(probabilities) >= round(STEPS * least)).to(torch.uint8)
    inside.scatter_(0, classes[None].long(), 1)
    return torch.cat([inside.sum(0, keepdim=True, dtype=torch.uint8), inside])
