"""What every promptable segmenter does: look at an image once, then give a mask for each prompt.

Axes: ``H`` rows and ``W`` columns of a tile, ``N`` prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.label.prompts import Prompts

if TYPE_CHECKING:
    from torch import Tensor  # GrabCut's workers need none of it, and it takes seconds to import


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a segmenter keeps of one image, to answer any number of prompts.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        image: ``(H, W, 3)`` uint8 RGB for segmenters that read the pixels again, else ``None``.
        features: Feature maps of a network, on its device; their meaning is the segmenter's own.
    """

    height: int
    width: int
    image: NDArray[np.uint8] | None = None
    features: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class CroppedMask:
    """The mask of one object, False everywhere outside its crop.

    Attributes:
        left: Column of the tile where the crop begins.
        top: Row of the tile where the crop begins.
        mask: ``(h, w)`` bool; ``(0, 0)`` where no pixel belongs to the object.
        score: The segmenter's own estimate of the mask's quality, 0 to 1 (SAM: predicted IoU; not calibrated).
    """

    left: int
    top: int
    mask: NDArray[np.bool_]
    score: float


class PromptableSegmenter(Protocol):
    """A segmenter that is told what to cut out."""

    name: str
    """As given to `build_segmenter`."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Look at images ``(H, W, 3)`` uint8 RGB, of any sizes; several go through a network in batches on a GPU."""
        ...

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterable[CroppedMask]:
        """Give one mask a prompt, in the prompts' order, in pixels of the tile.

        They may be computed as they are taken, so that thousands on one tile need no more memory than twenty.
        """
        ...
