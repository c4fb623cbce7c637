"""Masks between the resolution of a tile and that of a network, without full-size maps of numbers.

Bilinear interpolation is a sparse matrix per side: each row of a tile is a mean of two rows (three, where SAM goes by
way of its padded frame) of the network's logits. So a pixel is positive only where one of the few logits it is made
of is, and only the rows and columns around positive logits are interpolated at all. The matrices are made by
interpolating the unit matrix with torch, so that their numbers are those of transformers' post-processing.

Axes: ``n`` rows of a tile, ``m`` rows of the network's masks, ``K`` rows of the latter that one of the former needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geodistill.label.masks import Mask

PROMPT_LOGIT = 1000.0
"""Value of mask prompts inside (outside: its negative), as the SAMRS paper's code has it."""
BLOCK = 128
"""Rows that are interpolated at once where only their signs are kept."""


def interpolation(source: int, target: int) -> Tensor:
    """Return the matrix ``(target, source)`` float32 of bilinear interpolation of one side, edges repeated."""
    unit = torch.eye(source)[None]
    return F.interpolate(unit, size=target, mode="linear", align_corners=False)[0].t()


@dataclass(frozen=True, eq=False)
class Band:
    """A sparse interpolation of one side.

    Attributes:
        first: ``(n,)`` int64, the first source row of each target row; never falls.
        weights: ``(n, K)`` float32 of the source rows from there on.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: Tensor) -> Band:
        """Take the few numbers of a matrix ``(n, m)`` that are not zero."""
        dense = matrix.numpy()
        nonzero = dense != 0
        first = nonzero.argmax(axis=1)
        reach = int((dense.shape[1] - nonzero[:, ::-1].argmax(axis=1) - first).max())
        # Rows at the far edge begin earlier, so that all their source rows exist.
        first = np.minimum(first, dense.shape[1] - reach)
        weights = np.take_along_axis(dense, first[:, None] + np.arange(reach), axis=1)
        return cls(first.astype(np.int64), weights.astype(np.float32))

    def touching(self, low: int, high: int) -> slice:
        """Return the target rows that need any of the source rows ``low`` to before ``high``."""
        reach = self.weights.shape[1]
        return slice(*np.searchsorted(self.first, (low - reach + 1, high)).tolist())

    def rows(self, source: Tensor, target: slice) -> Tensor:
        """Interpolate ``source (m, w)``; returns ``(rows wanted, w)``."""
        first = torch.from_numpy(self.first[target]).to(source.device)
        weights = torch.from_numpy(self.weights[target]).to(source.device)
        result = source[first] * weights[:, :1]
        for step in range(1, weights.shape[1]):
            result.addcmul_(source[first + step], weights[:, step : step + 1])
        return result

    def positive(self, source: Tensor, target: slice) -> Tensor:
        """Tell where `rows` are above 0: ``(rows wanted, w)`` bool, a block at a time to stay in the cache."""
        result = torch.empty((target.stop - target.start, source.shape[1]), dtype=torch.bool, device=source.device)
        for first in range(target.start, target.stop, BLOCK):
            block = slice(first, min(first + BLOCK, target.stop))
            torch.gt(self.rows(source, block), 0, out=result[first - target.start : block.stop - target.start])
        return result


@dataclass(frozen=True)
class TileFrame:
    """Where a tile lies in a network's square input, and how its masks come back.

    Attributes:
        height: Rows of the tile.
        width: Columns of the tile.
        side: Rows and columns of the network's input.
        inner: Rows and columns that the tile has in it; the rest is padding at the right and the bottom.
        side_of_masks: Rows and columns of the network's masks.
        through_input: Whether masks are brought to the size of the input before the padding is cut off (SAM).
    """

    height: int
    width: int
    side: int
    inner: tuple[int, int]
    side_of_masks: int
    through_input: bool


@lru_cache(maxsize=16)
def bands_back(frame: TileFrame) -> tuple[Band, Band]:
    """Return the interpolations from the network's logits to rows and to columns of the tile."""

    def band(length: int, inner: int) -> Band:
        if not frame.through_input:
            return Band.of(interpolation(frame.side_of_masks, length))
        return Band.of(interpolation(inner, length) @ interpolation(frame.side_of_masks, frame.side)[:inner])

    return band(frame.height, frame.inner[0]), band(frame.width, frame.inner[1])


@lru_cache(maxsize=16)
def matrices_forth(frame: TileFrame) -> tuple[Tensor, Tensor]:
    """Return the matrices ``(m, n)`` from rows and from columns of a tile to those of a mask prompt."""

    def matrix(length: int, inner: int) -> Tensor:
        # Padding is "outside", which is 0 here: no source row leads there.
        return interpolation(frame.side, frame.side_of_masks)[:, :inner] @ interpolation(length, inner)

    return matrix(frame.height, frame.inner[0]), matrix(frame.width, frame.inner[1])


def crop_masks(logits: Tensor, rows: Band, columns: Band, scores: Sequence[float]) -> Iterator[Mask]:
    """Bring logits ``(N, m, m)`` float32 to the rows and columns of the tile, and keep where they are positive."""
    positive = logits > 0
    touched = torch.stack([positive.any(2), positive.any(1)]).cpu().numpy()
    for index, score in enumerate(scores):
        if not touched[0, index].any():
            yield Mask(0, 0, np.zeros((0, 0), bool), score)
            continue
        down, across = (band.touching(*_ends(line[index])) for band, line in zip((rows, columns), touched, strict=True))
        # Rows, then columns as the rows of the transposed: whole rows are read in both steps.
        tall = rows.rows(logits[index], down)
        mask = columns.positive(tall.t().contiguous(), across).t()
        yield Mask.tight(mask.contiguous().cpu().numpy(), across.start, down.start, score)


def _ends(line: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first true place and the one after the last."""
    return int(line.argmax()), len(line) - int(line[::-1].argmax())


def mask_prompt(polygon: NDArray[np.float64], frame: TileFrame) -> Tensor:
    """Draw a polygon ``(V, 2)`` as mask prompt ``(m, m)`` float32: +1000 inside, -1000 outside, at the network's size.

    Equal to filling a map of the tile's size, resizing it to the input, padding with -1000 and resizing again. As in
    the paper's code, corners are cut to whole pixels and the pixels under the outline belong to it.
    """
    corners = np.clip(polygon, 0, (frame.width - 1, frame.height - 1)).astype(np.int32)
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    inside = np.zeros((bottom - top + 1, right - left + 1), np.float32)
    cv2.fillPoly(inside, [corners - (left, top)], 1.0)
    down, across = matrices_forth(frame)
    drawn = down[:, top : bottom + 1] @ torch.from_numpy(inside) @ across[:, left : right + 1].t()
    return 2 * PROMPT_LOGIT * drawn - PROMPT_LOGIT
