"""The core of whole-scene inference: strips of windows in, finished rows of a map out, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.inference.blend import BLENDS, Blender
from geodistill.inference.network import TTA, Network
from geodistill.inference.reduce import RowReducer, Wanted
from geodistill.inference.strips import Hole, Strip, read_strips
from geodistill.inference.windows import MAX_OVERLAP, Area, Part, Plan
from geodistill.raster import Raster

SPAN = 8
"""Batches are filled within groups of this many times the batch size of window columns. Blocks of a wide scene end
with a group, so that cutting a scene in blocks changes no batch and thereby no bit."""


@dataclass(frozen=True)
class Settings:
    """How a scene is segmented.

    Attributes:
        overlap: Smallest share of a window that its neighbour covers too, 0 to 0.75.
        blend: ``cosine`` (of probabilities) or ``none`` (each pixel from the window whose centre is nearest).
        tta: Average over ``none`` (the image as it is), ``flips`` (4 mirrors) or ``d4`` (8 mirrors and turns).
        batch: Windows a forward pass.
        wanted: What is made beside classes.
        threads: How many read at once; by default 1, or 4 for a source on the network.
        keep_going: Make recorded holes of what cannot be read.

    Raises:
        RecipeError: Overlap, batch size or threads are out of range.
        UnknownNameError: There is no such blending or averaging.
    """

    overlap: float = 0.25
    blend: str = "cosine"
    tta: str = "none"
    batch: int = 4
    wanted: Wanted = field(default_factory=Wanted)
    threads: int | None = None
    keep_going: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise RecipeError(f"overlap {self.overlap}", f"a share from 0 to {MAX_OVERLAP}")
        if self.blend not in BLENDS:
            raise UnknownNameError("blending", self.blend, BLENDS)
        if self.tta not in TTA:
            raise UnknownNameError("test-time averaging", self.tta, TTA)
        if self.batch < 1:
            raise RecipeError(f"batch size {self.batch}", "at least 1")
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"{self.threads} reading threads", "at least 1")

    def readers(self, raster: Raster) -> int:
        """Give how many threads read a raster."""
        return self.threads or (4 if raster.remote else 1)


@dataclass(frozen=True)
class SceneRows:
    """Finished rows of a scene, or of a block of it.

    Attributes:
        row: The row of windows that finished them.
        first: Row of the scene they begin at.
        layers: ``(bands, rows, W)`` by name: ``classes`` uint8, 255 where not valid; where wanted ``confidence``
            uint8 and ``probabilities`` in the sample type asked for.
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


@dataclass(frozen=True)
class Edges:
    """Where a block of a wide scene gets the sums at its left edge from, and leaves those at its right edge.

    Attributes:
        read: Gives the sums that the block to the left kept of a row of windows, on the host.
        write: Keeps the sums of a row of windows for the block to the right.
    """

    read: Callable[[int], Tensor] | None = None
    write: Callable[[int, Tensor], None] | None = None


def stream(
    network: Network,
    area: Area,
    settings: Settings | None = None,
    *,
    part: Part | None = None,
    edges: Edges | None = None,
) -> Generator[SceneRows, None, None]:
    """Segment an area of any size.

    Windows have the side the network was trained on. Pixels without data, and those of a window that reaches
    beyond a smaller area, are 0 as they were in training. One strip of windows is in memory at a time, so the peak
    grows with the width and not with the height. The next rows are read while a strip is computed. Windows
    without any valid pixel never reach the network.

    Args:
        network: The model.
        area: What to segment.
        settings: How, by default those of `Settings`.
        part: A block of the windows, by default all. A block that does not begin at the top computes again the rows
            of windows above that overlap it: one, where neighbours overlap by at most half.
        edges: Where a block that does not begin at the left edge or end at the right one passes sums on.

    Yields:
        Consecutive rows, from the top, covering the block exactly once.

    Raises:
        DataError: The raster has another number of bands than the network, or cannot be read.
    """
    settings, edges = settings or Settings(), edges or Edges()
    check_bands(area.raster, network.bands)
    plan = Plan.of(area.window.height, area.window.width, network.size, settings.overlap)
    part = part or Part.whole(plan)
    pixels = part.pixels(plan)
    blender = Blender(network.classes, plan, part, settings.blend, network.device)
    reducer = RowReducer(network.classes, plan, pixels.width, settings.wanted, network.device)
    first_row = plan.reaching(part.first_row)
    threads, keep_going = settings.readers(area.raster), settings.keep_going
    strips = read_strips(area, plan, part, first_row, threads=threads, keep_going=keep_going)
    with closing(strips):
        for strip in strips:
            row = strip.row
            windows = _one_row(network, blender, reducer, strip, plan, part, settings.batch, edges)
            if row < part.first_row:
                continue
            rows = min(plan.step_down(row), plan.height - plan.tops[row])
            valid = strip.valid[:rows, : pixels.width].copy()
            layers = reducer.take(rows, valid)
            yield SceneRows(row, plan.tops[row], layers, valid, windows, strip.holes)


def check_bands(raster: Raster, bands: Sequence[str]) -> None:
    """Refuse a raster whose bands are not as many as a model's.

    Raises:
        DataError: They differ.
    """
    if raster.channels != len(bands):
        named = ", ".join(bands[:12]) + (" ..." if len(bands) > 12 else "")
        raise DataError(
            f"{raster.source} has {raster.channels} bands",
            f"{len(bands)} ({named}) for this model",
            "choose some of them with --bands" if raster.channels > len(bands) else "",
        )


@torch.inference_mode()
def _one_row(
    network: Network,
    blender: Blender,
    reducer: RowReducer,
    strip: Strip,
    plan: Plan,
    part: Part,
    batch: int,
    edges: Edges,
) -> int:
    """Compute a row of windows and pass its finished pixels on; give the number of windows computed."""
    row, size, origin = strip.row, plan.size, plan.lefts[part.first_column]
    edge = edges.read(row).to(network.device) if edges.read is not None else None
    blender.start_row(row, edge)
    computed = 0
    for first in range(part.first_column, part.last_column, batch * SPAN):
        group = range(first, min(first + batch * SPAN, part.last_column))
        seen = [j for j in group if strip.valid[:, plan.lefts[j] - origin : plan.lefts[j] - origin + size].any()]
        computed += len(seen)
        done = group.start
        for start in range(0, len(seen), batch):
            chosen = seen[start : start + batch]
            windows = [strip.image[:, :, plan.lefts[j] - origin : plan.lefts[j] - origin + size] for j in chosen]
            found = network.probabilities(windows, [(row, j) for j in chosen])
            for column, probabilities in zip(chosen, found, strict=True):
                for skipped in range(done, column):
                    reducer.put(plan.lefts[skipped] - origin, blender.finish(skipped))
                blender.add(column, probabilities)
                reducer.put(plan.lefts[column] - origin, blender.finish(column))
                done = column + 1
        for skipped in range(done, group.stop):
            reducer.put(plan.lefts[skipped] - origin, blender.finish(skipped))
    if edges.write is not None:
        edges.write(row, blender.edge().cpu())
    blender.end_row()
    return computed
