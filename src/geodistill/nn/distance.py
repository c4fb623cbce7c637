"""The distance head: how far inside its object a pixel lies, by which touching objects are told apart."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum
from torch import Tensor

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
    return (error * labelled).sum() / labelled.sum().clamp(min=1)


def distance_targets(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the edge of its region, over the largest there (Waldner et al. 2020).

    A region is what hangs together of one class, so every object has a peak of 1, whatever its size; the edge of the
    image is none.

    Args:
        classes: ``(H, W)``; where they are `IGNORE_INDEX` the distance is 0.

    Returns:
        ``(H, W)`` in 0..1.
    """
    targets = np.zeros(classes.shape, np.float32)
    for index in np.unique(classes[classes != IGNORE_INDEX]).tolist():
        inside = (classes == index).view(np.uint8)
        count, regions = cv2.connectedComponents(inside, connectivity=4, ltype=cv2.CV_32S)
        if inside.all():
            return np.ones_like(targets)
        distances = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        peaks = np.ones(count, np.float32)
        peaks[1:] = maximum(distances, regions, range(1, count))
        targets += distances / peaks[regions]
    return targets
