"""Masks as one closed outline, as YOLO's segmentation labels have them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geodistill.label.masks import Runs


def outline(runs: Runs) -> NDArray[np.float64]:
    """Return one ring around all pixels of an object.

    The ring runs through the centres of the outermost pixels, so that filling it with its border (``cv2.fillPoly``)
    gives the mask back. Pieces and holes are joined to it by a way there and back, where they lie nearest; between
    pieces that way is all that filling adds. Of an object too thin for three corners it is the border of its pixels.

    Args:
        runs: The object, with at least one pixel.

    Returns:
        ``(V, 2)`` float64, V >= 3, x and y in pixels of the frame; pixel (0, 0) covers [0, 1) x [0, 1).
    """
    top, left, mask = runs.crop()
    origin = np.array((left, top), np.float64)
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = [ring[:, 0].astype(np.int64) for ring in rings]
    parts.sort(key=len, reverse=True)
    ring = parts[0]
    for part in parts[1:]:
        ring = _joined(ring, part)
    if len(ring) < 3:
        low, high = ring.min(axis=0), ring.max(axis=0) + 1
        corners = np.array(((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])), np.float64)
        return corners + origin
    found: NDArray[np.float64] = ring + 0.5 + origin
    return found


def _joined(ring: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Walk along ``ring`` to its corner nearest to ``part``, all around that, back, and on."""
    distances, nearest = cKDTree(part).query(ring)
    at = int(distances.argmin())
    start = int(nearest[at])
    around = np.concatenate([part[start:], part[: start + 1]])
    return np.concatenate([ring[: at + 1], around, ring[at:]])
