"""Objects and boundaries of one image compared with its labels: counts that can be summed over images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.spec import IGNORE_INDEX

THRESHOLDS = np.arange(10) * 0.05 + 0.5
"""IoU that an object must have more of to count as detected: 0.5, and those that averaged scores are taken over."""

COLUMNS = (
    "true",
    *(f"hits_{t:.2f}" for t in THRESHOLDS),
    *(f"false_{t:.2f}" for t in THRESHOLDS),
    "iou",
    *("common_band", "joint_band", "near_predicted", "contour_predicted", "near_true", "contour_true"),
)
"""What is counted: true objects; detected ones and false ones by threshold; the sum of the IoU of those detected at
0.5; pixels in both boundary bands (see `boundary_band`) and in either; contour pixels near the other's, and all."""

Labels = NDArray[np.uint8]


def count_objects(prediction: Labels, truth: Labels, classes: Sequence[int], distance: float) -> NDArray[np.float64]:
    """Count the objects of some classes, each the pixels of it that hang together by their sides.

    Pixels without label take no part. A predicted object that lies on them by more than half and is no detection is
    not false either (Kirillov et al. 2019).

    Args:
        prediction: ``(H, W)`` uint8 classes; `IGNORE_INDEX` where there is no data.
        truth: Likewise.
        classes: Those that are counted.
        distance: Pixels from a contour that count as near, and the width of the boundary bands.

    Returns:
        ``(classes, COLUMNS)`` counts.
    """
    known = truth != IGNORE_INDEX
    rows = []
    for index in classes:
        predicted, true = prediction == index, truth == index
        rows.append([*_matches(predicted, true, known), *_boundaries(predicted, true, known, distance)])
    return np.array(rows, np.float64).reshape(len(classes), len(COLUMNS))


def _matches(predicted: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_]) -> list[float]:
    """Return true objects, hits and false ones at each threshold, and the sum of IoU at the first.

    Over an IoU of a half no object has two partners, so that which is matched with which is no question.
    """
    (guesses, ours), (objects, theirs) = (_numbered(mask) for mask in (predicted, true))
    areas = np.bincount(ours[known], minlength=guesses)
    whole = np.bincount(ours.ravel(), minlength=guesses)
    sizes = np.bincount(theirs.ravel(), minlength=objects)
    both = (ours > 0) & (theirs > 0)
    pairs, common = np.unique(ours[both].astype(np.int64) * objects + theirs[both], return_counts=True)
    guess, target = np.divmod(pairs, max(objects, 1))
    iou = common / np.maximum(areas[guess] + sizes[target] - common, 1)
    mostly_unknown = whole > 2 * areas
    hits, wrong = [], []
    for threshold in THRESHOLDS:
        detected = iou > threshold
        matched = np.zeros(guesses, bool)
        matched[guess[detected]] = True
        hits.append(float(detected.sum()))
        wrong.append(float((~matched & ~mostly_unknown)[1:].sum()))
    return [float(objects - 1), *hits, *wrong, float(iou[iou > THRESHOLDS[0]].sum())]


def _numbered(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    count, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return count, numbers.astype(np.int32, copy=False)


def boundary_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask at most ``width`` from its outside (Cheng et al. 2021).

    What lies beyond the image is outside.
    """
    padded = np.pad(mask, width).view(np.uint8)
    inner = cv2.erode(padded, np.ones((2 * width + 1, 2 * width + 1), np.uint8))[width:-width, width:-width]
    band: NDArray[np.bool_] = mask & (inner == 0)
    return band


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have one outside it at a side; the image's edge is no contour."""
    padded = np.pad(mask, 1, mode="edge").view(np.uint8)
    inner = cv2.erode(padded, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))[1:-1, 1:-1]
    edge: NDArray[np.bool_] = mask & (inner == 0)
    return edge


def _boundaries(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_], distance: float
) -> list[float]:
    """Return pixels in both bands and in either, and contour pixels near the other's and all, predicted ones first.

    Pixels without label are of the object in both masks or in neither, as they were predicted: a prediction that is
    right on all others then has the true boundary. Whether it ends at them nobody knows, so such contours are not
    counted, but others may be near to them.
    """
    width, true = max(round(distance), 1), np.where(known, true, predicted)
    ours, theirs = boundary_band(predicted, width) & known, boundary_band(true, width) & known
    counts = [float((ours & theirs).sum()), float((ours | theirs).sum())]
    edges = [contour(mask) for mask in (predicted, true)]
    inside = cv2.erode(known.view(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0
    for edge, other in (edges, edges[::-1]):
        counted = edge & inside
        near = counted & _within(other, distance) if other.any() else np.zeros_like(counted)
        counts += [float(near.sum()), float(counted.sum())]
    return counts


def _within(edge: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    away = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = away <= distance + 1e-4
    return near
