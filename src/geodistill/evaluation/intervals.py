"""How far scores can be trusted: intervals by bootstrap over groups of images, and the error of the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.evaluation.scoring import ImageScore
from geodistill.inference.sliding import STEPS
from geodistill.metrics import ratio
from geodistill.spec import Legend

LEVEL = 0.95
"""Share of the resampled scores that an interval holds."""

_DRAWS = 2000
_BINS = 10


def score_intervals(images: Sequence[ImageScore], legend: Legend, subset: Sequence[str]) -> dict[str, Any] | None:
    """Return 95 % intervals of mIoU, overall accuracy and each class's IoU, JSON-ready.

    Groups (places, scenes; an image without one is a group) are drawn with replacement as often as there are groups,
    2,000 times from a fixed seed; the interval runs between the 2.5th and the 97.5th percentile of the scores of all
    drawn pixels (Efron's percentile interval). Pixels of one place resemble each other, so that single pixels or tiles
    of a scene would make it far too narrow.

    Args:
        images: The scored images.
        legend: The classes.
        subset: Classes that mIoU is taken over.

    Returns:
        ``level``, ``groups``, ``miou``, ``oa`` and ``classes`` by name, each interval as two shares or ``None`` where
        a class is in no draw; ``None`` under two groups.
    """
    groups = by_place(images)
    if len(groups) < 2:
        return None
    drawn = resample(_sums(np.stack(list(groups.values()))))
    iou = _iou(drawn)
    hits, true, _ = np.moveaxis(drawn, 1, 0)
    return {
        "level": LEVEL,
        "groups": len(groups),
        "miou": interval(_mean(iou[:, [legend.names.index(name) for name in subset]])),
        "oa": interval(ratio(hits.sum(1), true.sum(1))),
        "classes": {name: interval(iou[:, k]) for k, name in enumerate(legend.names)},
    }


def miou_interval(intervals: dict[str, Any]) -> tuple[float, float] | None:
    """Return the ends of mIoU's interval among those that `score_intervals` returned."""
    ends = intervals["miou"]
    return None if ends is None else (ends[0], ends[1])


def by_place(images: Sequence[ImageScore]) -> dict[str, NDArray[np.int64]]:
    """Return the sum of the counts ``(K, K)`` of the images of each group, or of each image without one, by name."""
    groups: dict[str, NDArray[np.int64]] = {}
    for image in images:
        key = image.row.place
        groups[key] = groups.get(key, 0) + image.matrix.counts
    return groups


def drawn_miou(counts: Sequence[NDArray[np.int64]], classes: Sequence[int]) -> NDArray[np.float64]:
    """Return the mIoU over some classes of each set of drawn groups, ``(draws,)``; the same draws for any model.

    Args:
        counts: Of each group, ``(K, K)``, see `by_place`.
        classes: Positions of the classes that the mean is over.
    """
    return _mean(_iou(resample(_sums(np.stack(counts))))[:, list(classes)])


def mean_iou(counts: NDArray[Any], classes: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return the mean IoU of ``(..., K, K)`` counts over the classes that labels or predictions hold; else NaN.

    Args:
        counts: Pixels by true and predicted class.
        classes: Positions of the classes that the mean is over; all where not given.
    """
    iou = _iou(_sums(counts))
    return _mean(iou if classes is None else iou[..., list(classes)])


def resample(sums: NDArray[Any], draws: int = _DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Return the sums of ``(groups, ...)`` figures over groups drawn with replacement, ``(draws, ...)``."""
    times = np.random.default_rng(seed).multinomial(len(sums), [1 / len(sums)] * len(sums), size=draws)
    drawn: NDArray[np.float64] = np.tensordot(times, sums, 1).astype(np.float64)
    return drawn


def _sums(counts: NDArray[Any]) -> NDArray[Any]:
    """Return ``(..., 3, K)``: hits, true and predicted pixels of each class, which is all that the scores need."""
    return np.stack([np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)], -2)


def _iou(sums: NDArray[Any]) -> NDArray[np.float64]:
    hits, true, predicted = np.moveaxis(sums, -2, 0)
    return ratio(hits, true + predicted - hits)


def _mean(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is known there."""
    return ratio(np.nansum(iou, -1), (~np.isnan(iou)).sum(-1))


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """Return the ends that `LEVEL` of the values lie between; ``None`` where all are NaN."""
    values = values[~np.isnan(values)]
    outside = (1 - LEVEL) / 2
    return [float(np.quantile(values, share)) for share in (outside, 1 - outside)] if values.size else None


@dataclass(frozen=True)
class Reliability:
    """How often pixels of each confidence are right.

    Attributes:
        bins: Of each tenth of the confidence: its lower end, labelled pixels, their mean confidence and the share of
            them that is right; a tenth without a pixel is left out.
        ece: Expected calibration error (Guo et al. 2017, eq. 5): the mean over all pixels of the distance between
            confidence and accuracy in their bin, 0..1.
        mce: The largest such distance of a bin (eq. 6).
    """

    bins: tuple[tuple[float, int, float, float], ...]
    ece: float
    mce: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        names = ("from", "pixels", "confidence", "accuracy")
        return {"ece": self.ece, "mce": self.mce, "bins": [dict(zip(names, one, strict=True)) for one in self.bins]}


def reliability(counts: NDArray[np.int64]) -> Reliability | None:
    """Return how confidence and accuracy agree.

    Args:
        counts: Wrong and right pixels by confidence in steps of 1/`STEPS`: ``(2, STEPS + 1)``.

    Returns:
        ``None`` where there is no pixel.
    """
    total = int(counts.sum())
    if not total:
        return None
    confidence = np.arange(STEPS + 1) / STEPS
    position = np.minimum(np.arange(STEPS + 1) * _BINS // STEPS, _BINS - 1)
    bins = []
    for index in range(_BINS):
        inside = counts[:, position == index]
        pixels = int(inside.sum())
        if pixels:
            mean = float((inside.sum(0) * confidence[position == index]).sum() / pixels)
            bins.append((index / _BINS, pixels, mean, float(inside[1].sum() / pixels)))
    gaps = [(pixels / total, abs(mean - right)) for _, pixels, mean, right in bins]
    return Reliability(tuple(bins), sum(share * gap for share, gap in gaps), max(gap for _, gap in gaps))
