"""Estimates from a stratified random sample: areas and accuracies with standard errors (Stehman 2014).

The strata may be the map's classes or anything else that was known of every pixel. Where they are the map's classes,
these are the estimators of Olofsson et al. 2014 (equations 2 to 7 and 9 to 11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.96
"""Standard errors on each side of an interval of 95 %."""

LEAST_SHARE = 0.05
"""Share of a stratum's pixels from which on it counts that they were drawn without replacement (Cochran 1977, 2.6)."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimated:
    """A figure with its standard error, or one per class; NaN where there was nothing to estimate it from."""

    value: Numbers
    error: Numbers

    @property
    def margin(self) -> Numbers:
        """Half the width of the interval of 95 %."""
        return Z * self.error


@dataclass(frozen=True)
class SampleEstimates:
    """What a sample says of a map; shares of the area, and of classes, in 0..1.

    Attributes:
        counts: ``(K, K)`` points, rows by the class of the map and columns by the reference class.
        shares: ``(K, K)`` shares of the area, likewise.
        area: Share of the area that each class has on the ground, ``(K,)``.
        mapped: Share of the area that each class has on the map.
        overall: Overall accuracy, ``()``.
        user: User's accuracy of each class: of what is mapped as it, how much is it.
        producer: Producer's accuracy of each class: of what is it, how much is mapped as it.
    """

    counts: NDArray[np.int64]
    shares: Numbers
    area: Estimated
    mapped: Estimated
    overall: Estimated
    user: Estimated
    producer: Estimated


@dataclass(frozen=True)
class StratifiedSample:
    """Interpreted points.

    Attributes:
        stratum: Stratum of each point, ``(n,)`` integers in 0..H-1.
        mapped: Class of the map at each, in 0..K-1.
        reference: True class at each, in 0..K-1.
        sizes: Area of each stratum, ``(H,)``, in any unit.
        pixels: Pixels of each stratum, ``(H,)``.
    """

    stratum: NDArray[np.int64]
    mapped: NDArray[np.int64]
    reference: NDArray[np.int64]
    sizes: Numbers
    pixels: NDArray[np.int64]


def estimate_from_sample(sample: StratifiedSample, classes: int) -> SampleEstimates:
    """Return the estimates of all classes.

    Every stratum of some area needs two points, or all of its pixels; else variances are NaN.
    """
    eye = np.eye(classes)
    mapped, true = eye[sample.mapped], eye[sample.reference]
    both = mapped * true
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (sample.mapped, sample.reference), 1)
    cells = (mapped[:, :, None] * true[:, None, :]).reshape(len(mapped), -1)
    return SampleEstimates(
        counts=counts,
        shares=_mean(sample, cells)[0].reshape(classes, classes),
        area=Estimated(*_mean(sample, true)),
        mapped=Estimated(*_mean(sample, mapped)),
        overall=Estimated(*(figure[0] for figure in _mean(sample, both.sum(1, keepdims=True)))),
        user=_ratio(sample, both, mapped),
        producer=_ratio(sample, both, true),
    )


def _mean(sample: StratifiedSample, values: Numbers) -> tuple[Numbers, Numbers]:
    """Estimate the mean over the map of each column of ``(n, columns)``: equations 3 and 25 of Stehman 2014."""
    weights = sample.sizes / sample.sizes.sum()
    mean, variance = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for stratum in np.flatnonzero(sample.sizes > 0).tolist():
        members = values[sample.stratum == stratum]
        count, pixels = len(members), int(sample.pixels[stratum])
        if not count:
            return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        mean += weights[stratum] * members.mean(0)
        if count < pixels:
            drawn = count / pixels
            left = 1 - drawn if drawn >= LEAST_SHARE else 1.0
            spread = members.var(0, ddof=1) if count > 1 else np.full_like(mean, np.nan)
            variance += weights[stratum] ** 2 * left * spread / count
    return mean, np.sqrt(variance)


def _ratio(sample: StratifiedSample, values: Numbers, of: Numbers) -> Estimated:
    """Estimate ratios of two means, column by column: equations 27 and 28 of Stehman 2014.

    The variance is that of the mean of ``value - ratio of``, over the square of the mean of ``of``.
    """
    below = _mean(sample, of)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _mean(sample, values)[0] / below
        error = _mean(sample, values - np.nan_to_num(ratio) * of)[1] / below
    return Estimated(ratio, np.where(np.isnan(ratio), np.nan, error))
