"""Masks drawn anew while a person looks: a nudged box, a point added to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, GeodistillError
from geodistill.label.boxes import Box, rectangle
from geodistill.label.masks import Mask
from geodistill.label.output_folder import CHUNK
from geodistill.label.pixels import Tile, read_tiles
from geodistill.label.postprocess import Rules, finish
from geodistill.label.segmenters.promptable import Embedding, PromptableSegmenter, Prompts
from geodistill.label.tile_labeller import segmenter_of
from geodistill.label.tiles import TileId
from geodistill.raster import Raster
from geodistill.review.open_labels import OpenLabels

KEPT = 4
"""Tiles whose features are kept."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask that a prompt gave, in the frame of its tile of ``height`` x ``width`` pixels."""

    mask: Mask
    height: int
    width: int

    def runs(self) -> dict[str, Any]:
        """Return its COCO run lengths."""
        return self.mask.runs(self.height, self.width).to_coco()


class Prompter:
    """Asks the segmenter that made the labels, loaded when it is first asked.

    Args:
        labels: The labels.
        device: Where a network runs.
    """

    def __init__(self, labels: OpenLabels, device: str = "auto") -> None:
        self._labels, self._device = labels, device
        self._lock = threading.Lock()
        self._embeddings: OrderedDict[TileId, Embedding] = OrderedDict()

    @property
    def segmenter(self) -> PromptableSegmenter:
        """The segmenter.

        Raises:
            DataError: It is not at hand, such as weights that lie elsewhere.
        """
        name = self._labels.settings.segmenter
        try:
            return segmenter_of(name, self._device, Path(self._labels.folder).absolute() / CHUNK)
        except (GeodistillError, ModuleNotFoundError) as error:
            raise DataError(f"the segmenter {name} is not at hand ({error})", "", "decide by the other keys") from error

    def embed(self, name: TileId) -> Embedding:
        """Return what the segmenter keeps of a tile; the last ones are at hand.

        Raises:
            DataError: The image cannot be read, or the segmenter is not at hand.
        """
        if name not in self._embeddings:
            (self._embeddings[name],) = self.segmenter.embed([tile_pixels(self._labels, name).rgb])
            while len(self._embeddings) > KEPT:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(name)
        return self._embeddings[name]

    def propose(self, name: TileId, box: Sequence[float], point: Sequence[float] | None) -> Proposal:
        """Return the mask of a box and a point of the object, both in pixels of the tile.

        Raises:
            DataError: The prompt lies outside, gives no mask, or the segmenter is not at hand.
        """
        window = self._labels.tiles[name][1].window
        bounds = _clipped(box, window.width, window.height)
        polygon = rectangle(*bounds)
        at = None if point is None else _inside(point, window.width, window.height)
        points = None if at is None else np.array([at], np.float32)
        prompts = Prompts(points, np.array([bounds], np.float32), None, (polygon,))
        with self._lock:
            mask = next(iter(self.segmenter.masks(self.embed(name), prompts)))
        rules = self._labels.settings.rules
        rules = Rules(rules.keep_component, rules.fill_holes, rules.max_outside)
        done = finish(mask, Box(polygon, "", 0, "review", "hbox"), rules, window.height, window.width, at)
        if done.mask is None:
            raise DataError(f"no mask ({done.reason})", "", "move the box or add a point")
        return Proposal(done.mask, window.height, window.width)


def _clipped(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    values: NDArray[np.float64] = np.asarray(box, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise DataError(f"a box of {str(box)[:60]}", "left, top, right and bottom")
    left, top, right, bottom = values.clip(0, (width, height, width, height)).tolist()
    if right - left < 1 or bottom - top < 1:
        raise DataError("a box of less than a pixel", "a larger one on the image")
    return left, top, right, bottom


def _inside(point: Sequence[float], width: int, height: int) -> tuple[float, float]:
    values: NDArray[np.float64] = np.asarray(point, np.float64)
    if values.shape != (2,) or not ((values >= 0) & (values <= (width, height))).all():
        raise DataError(f"a point at {str(point)[:60]}", "x and y of a point on the image")
    x, y = values.tolist()
    return x, y


def tile_pixels(labels: OpenLabels, name: TileId) -> Tile:
    """Read a tile of the labels.

    Raises:
        DataError: The image cannot be read.
    """
    task, tile = labels.tiles[name]
    with Raster(task.image) as raster:
        return next(iter(read_tiles(raster, [tile.window], labels.settings.bands)))
