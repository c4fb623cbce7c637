"""How far scores can be trusted: intervals by bootstrap over groups of images, and the error of the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.evaluation.scoring import ImageScore
from geodistill.inference.sliding import STEPS
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
    sums = np.stack([_sums(counts) for counts in groups.values()])
    hits, true, predicted = np.moveaxis(resample(sums), 1, 0)
    union = true + predicted - hits
    iou = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    miou = drawn_miou(list(groups.values()), [legend.names.index(name) for name in subset])
    pixels = true.sum(1)
    oa = np.divide(hits.sum(1), pixels, out=np.full(_DRAWS, np.nan), where=pixels > 0)
    return {
        "level": LEVEL,
        "groups": len(sums),
        "miou": interval(miou),
        "oa": interval(oa),
        "classes": {name: interval(iou[:, k]) for k, name in enumerate(legend.names)},
    }


def miou_interval(images: Sequence[ImageScore], legend: Legend, subset: Sequence[str]) -> tuple[float, float] | None:
    """Return the interval of mIoU alone, as `score_intervals`."""
    intervals = score_intervals(images, legend, subset)
    ends = None if intervals is None else intervals["miou"]
    return None if ends is None else (ends[0], ends[1])


def by_place(images: Sequence[ImageScore]) -> dict[str, NDArray[np.int64]]:
    """Return the sum of the counts ``(K, K)`` of the images of each group, or of each image without one, by name."""
    groups: dict[str, NDArray[np.int64]] = {}
    for image in images:
        key = image.row.group or image.row.key
        groups[key] = groups.get(key, 0) + image.matrix.counts
    return groups


def drawn_miou(counts: Sequence[NDArray[np.int64]], classes: Sequence[int]) -> NDArray[np.float64]:
    """Return the mIoU over some classes of each set of drawn groups, ``(draws,)``; the same draws for any model.

    Args:
        counts: Of each group, ``(K, K)``, see `by_place`.
        classes: Positions of the classes that the mean is over.
    """
    hits, true, predicted = np.moveaxis(resample(np.stack([_sums(each) for each in counts])), 1, 0)[..., list(classes)]
    union = true + predicted - hits
    iou = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    known = ~np.isnan(iou)
    count = known.sum(1)
    sums, miou = np.where(known, iou, 0).sum(1), np.full(len(iou), np.nan)
    np.divide(sums, count, out=miou, where=count > 0)
    return miou


def resample(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums of ``(groups, ...)`` figures over groups drawn with replacement, ``(draws, ...)``."""
    times = np.random.default_rng(0).multinomial(len(sums), [1 / len(sums)] * len(sums), size=_DRAWS)
    drawn: NDArray[np.float64] = np.tensordot(times, sums, 1).astype(np.float64)
    return drawn


def _sums(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(3, K)``: hits, true and predicted pixels of each class, which is all that the scores need."""
    return np.stack([np.diag(counts), counts.sum(1), counts.sum(0)])


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
