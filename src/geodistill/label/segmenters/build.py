"""Segmenters by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from geodistill.errors import UnknownNameError
from geodistill.label.segmenters.base import PromptableSegmenter
from geodistill.label.segmenters.box import BoxSegmenter
from geodistill.label.segmenters.grabcut import GrabCut

NETWORKS = ("sam", "sam2", "sam3", "edgetam")
"""Families of networks; each is named together with its weights, as ``sam:DIRECTORY``."""


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
    if name == BoxSegmenter.name:
        return BoxSegmenter()
    if name == GrabCut.name:
        return GrabCut()
    family, _, weights = name.partition(":")
    if family in NETWORKS and weights:
        from geodistill.label.segmenters.sam import SamSegmenter  # transformers takes seconds to import

        return SamSegmenter.load(family, weights, device=device, chunk_file=chunk_file)
    known = ("grabcut", "box", *(f"{family}:DIRECTORY" for family in NETWORKS))
    raise UnknownNameError("segmenter", name, known)


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
