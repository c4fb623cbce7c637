"""What every promptable segmenter does (look at an image once, then answer each prompt with a mask), and all by name.

Axes: ``H`` rows and ``W`` columns of a tile, ``N`` prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.label.masks import Mask
from geodistill.label.prompts import Prompts
from geodistill.lazy import load

if TYPE_CHECKING:
    from torch import Tensor  # GrabCut's workers need none of it, and it takes seconds to import
import hashlib
from pathlib import Path

from geodistill.errors import UnknownNameError


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


class PromptableSegmenter(Protocol):
    """A segmenter that cuts out what its prompts point at."""

    name: str
    """As given to `build_segmenter`."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Look at images ``(H, W, 3)`` uint8 RGB, of any sizes; several go through a network in batches on a GPU."""
        ...

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterable[Mask]:
        """Return one mask per prompt, in the prompts' order, in pixels of the tile.

        They may be computed as they are taken, so that thousands on one tile need no more memory than twenty.
        """
        ...


SEGMENTERS: Mapping[str, str] = {
    "grabcut": "geodistill.label.segmenters.grabcut:GrabCut",
    "box": "geodistill.label.segmenters.box:BoxSegmenter",
}
"""Segmenters without weights: ``module:attribute`` of a class that takes no arguments, imported when asked for."""
NETWORKS: Mapping[str, str] = dict.fromkeys(
    ("sam", "sam2", "sam3", "edgetam"), "geodistill.label.segmenters.sam:load_segmenter"
)
"""Families of networks, ``module:attribute`` of a function ``(family, weights, device=, chunk_file=)`` that loads one;
each is named together with its weights, as ``sam:DIRECTORY``."""


def build_segmenter(name: str, *, device: str = "auto", chunk_file: Path | None = None) -> PromptableSegmenter:
    """Build a segmenter.

    Args:
        name: ``grabcut``; ``box``, which fills the annotated shape (the floor); or a network with its weights, a
            local directory or a hub id: ``sam:DIR``, ``sam2:DIR``, ``sam3:DIR``, ``edgetam:DIR``.
        device: Where a network runs: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...
        chunk_file: File that keeps how many prompts a network decodes at once, so that every process with that file
            gives the same masks to the last bit; measured anew in each process where not given.

    Raises:
        UnknownNameError: There is no such segmenter.
        ArtifactError: The weights cannot be read or fetched, or are of another family.
        RecipeError: The device does not exist here.
    """
    if name in SEGMENTERS:
        segmenter: PromptableSegmenter = load(SEGMENTERS[name])()
        return segmenter
    family, _, weights = name.partition(":")
    if family in NETWORKS and weights:
        network: PromptableSegmenter = load(NETWORKS[family])(family, weights, device=device, chunk_file=chunk_file)
        return network
    raise UnknownNameError("segmenter", name, (*SEGMENTERS, *(f"{family}:DIRECTORY" for family in NETWORKS)))


def weights_stamp(name: str) -> str:
    """Return what tells the weights of a network from others: a digest of the files' sizes and times of change.

    Args:
        name: As `build_segmenter` takes it.

    Returns:
        An empty text where the weights are not in a local directory.
    """
    _, _, weights = name.partition(":")
    folder = Path(weights)
    if not weights or not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
