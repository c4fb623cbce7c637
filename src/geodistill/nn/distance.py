"""The distance head: how far inside its object a pixel lies, by which touching objects are told apart."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum
from torch import Tensor

from geodistill.nn.losses import labelled_pixels
from geodistill.spec import IGNORE_INDEX


def distance_loss(distance: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of predicted distances over labelled pixels (Naylor et al. 2019, eq. 2).

    Args:
        distance: ``(B, 1, H, W)`` before the sigmoid.
        mask: ``(B, H, W)`` int64 classes, `IGNORE_INDEX` where ignored.
    """
    labelled = mask != IGNORE_INDEX
    targets = torch.from_numpy(np.stack([distance_targets(one) for one in mask.cpu().numpy()])).to(distance.device)
    error = (distance[:, 0].float().sigmoid() - targets).square()
    return (error * labelled).sum() / labelled_pixels(mask)


def distance_targets(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the edge of its region, over the largest there (Waldner et al. 2020).

    A region is what hangs together of one class, so every object has a peak of 1, whatever its size. Its edge is where
    another class begins, or another region behind a gap of ignored pixels; the edge of the image, padding and other
    ignored pixels are none.

    Args:
        classes: ``(H, W)``; where they are `IGNORE_INDEX` the distance is 0.

    Returns:
        ``(H, W)`` in 0..1.
    """
    targets, ignored = np.zeros(classes.shape, np.float32), classes == IGNORE_INDEX
    regions, count = np.zeros(classes.shape, np.int32), 0
    present = np.unique(classes[~ignored]).tolist()
    for index in present:
        added, numbers = cv2.connectedComponents((classes == index).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        regions += np.where(numbers > 0, numbers + count, 0)
        count += added - 1
    gaps = _gaps(classes, regions) if count > len(present) and ignored.any() else np.zeros_like(ignored)
    for index in present:
        inside = classes == index
        within = ((inside | ignored) & ~gaps).view(np.uint8)
        if within.all():
            targets[inside] = 1
            continue
        distances = cv2.distanceTransform(within, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        numbers = np.unique(regions[inside])
        peaks = np.zeros(count + 1, np.float32)
        peaks[numbers] = maximum(distances, regions, numbers)
        targets[inside] = distances[inside] / peaks[regions[inside]]
    return targets


def _gaps(classes: NDArray[np.int64], regions: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the ignored pixels midway between two regions of one class: where the nearest one changes."""
    ignored = classes == IGNORE_INDEX
    _, pixel = cv2.distanceTransformWithLabels(
        ignored.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    gaps = np.zeros_like(ignored)
    nearest_region, nearest_class = (np.zeros(pixel.max() + 1, kind.dtype) for kind in (regions, classes))
    for table, kind in ((nearest_region, regions), (nearest_class, classes)):
        table[pixel[~ignored]] = kind[~ignored]
    region, alike = nearest_region[pixel], nearest_class[pixel]
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        meet = (region[one] != region[other]) & (alike[one] == alike[other])
        gaps[one] |= meet
        gaps[other] |= meet
    midway: NDArray[np.bool_] = gaps & ignored
    return midway
